"""The interface of all baselines."""

from dataclasses import dataclass
from typing import Protocol

from services.pruner.calibration import Calibration
from services.pruner.target import Target, fits
from shared.errors import UserError
from shared.network.shape import NetworkShape
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder


@dataclass(frozen=True)
class PrunedNetwork:
    """A network that was made of a base, and the places that its layers had there."""

    network: Decoder
    kept: tuple[int, ...]


class Baseline(Protocol):
    """Makes a smaller network of a base.

    Nothing but base, calibration, target, seed and options decides what comes out: no clock, no global random state.
    """

    @property
    def name(self) -> str:
        """What the baseline is called, in files and messages."""
        ...

    @property
    def reads_text(self) -> bool:
        """Whether it needs calibration text."""
        ...

    @property
    def draws(self) -> bool:
        """Whether the seed decides about anything."""
        ...

    def smallest(self, base: NetworkShape, target: Target) -> NetworkShape:
        """The smallest network, as the target measures it, that the baseline is sure to be able to make of a base."""
        ...

    def least_text(self, base: NetworkShape, target: Target) -> int:
        """How many tokens of text it can't do without, for a target that can be reached."""
        ...

    def prune(self, base: Checkpoint, calibration: Calibration | None, target: Target, seed: int) -> PrunedNetwork:
        """The largest of the networks that the baseline makes of a base that doesn't exceed the target: the base itself
        where that doesn't.

        The network's weights are the base's in their own dtype, wherever importance is computed in another. Raises
        UserError, before anything is computed, where the target can't be reached or the text is missing, too short or
        not the model's (`require_possible`).
        """
        ...


def require_possible(baseline: Baseline, base: NetworkShape, calibration: Calibration | None, target: Target) -> None:
    """Raise UserError for what a baseline can't do with a base."""
    smallest = baseline.smallest(base, target)
    if not fits(smallest, target):
        raise UserError(
            f"{baseline.name}: can't reach {target.at_most:,} {target.measure}: of this model it can be sure only to "
            f"make {target.size(smallest):,}; raise the target or choose another baseline"
        )
    if baseline.reads_text:
        text, least = required_text(baseline, calibration), baseline.least_text(base, target)
        text.require_embedded(base)
        if text.tokens < least:
            raise UserError(
                f"{baseline.name}: needs at least {least:,} tokens of calibration text for {target.at_most:,} "
                f"{target.measure}, there are {text.tokens:,}; raise calibration.tokens, or name data that have more"
            )


def required_text(baseline: Baseline, calibration: Calibration | None) -> Calibration:
    """The calibration text. Raises UserError where there is none."""
    if calibration is None:
        raise UserError(f"{baseline.name}: needs calibration text; name data to take it from")
    return calibration
