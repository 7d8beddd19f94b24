"""A pause that doubles with each failure in a row."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BackoffLimits:
    """The pause after a first failure and the longest, in seconds."""

    first_seconds: float
    last_seconds: float


class Backoff:
    """How long to pause before the next try: nothing until something fails, then twice as long each time, from
    `limits.first_seconds` up to `limits.last_seconds`."""

    def __init__(self, limits: BackoffLimits) -> None:
        self.limits = limits
        self.seconds = 0.0

    def failed(self) -> float:
        """One more failure: the pause after it, in seconds."""
        self.seconds = min(max(2 * self.seconds, self.limits.first_seconds), self.limits.last_seconds)
        return self.seconds

    def reset(self) -> None:
        """It succeeded, so the next failure is the first again."""
        self.seconds = 0.0
