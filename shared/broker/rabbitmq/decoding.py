"""Messages whose properties can't be decoded: any publisher can send one, and pika (1.4.4) drops its connection at it,
and the next connection too, to which the broker delivers the message again."""

import hashlib
from typing import Any

from pika import spec

from shared.errors import first_line

UNREADABLE = "unreadable"
"""The header that says why a message's own headers can't be read."""


class _Reason(str):
    """A reason that we gave: a message may come with a header of that name."""


class TolerantProperties(spec.BasicProperties):  # type: ignore[misc]
    """A message's properties; where they can't be decoded (a time after the year 9999, a number that is none, headers
    nested without end) those of a message with nothing but an identity, made of the undecoded bytes, and the reason."""

    def decode(self, encoded: bytes, offset: int = 0) -> spec.BasicProperties:
        """As pika's, but never raises: the frame that they came in is whole, so the next one can be read."""
        try:
            return super().decode(encoded, offset)
        except Exception as error:
            reason = _Reason(f"unreadable headers: {first_line(error)}")
            spec.BasicProperties.__init__(
                self, headers={UNREADABLE: reason}, message_id=hashlib.sha256(encoded).hexdigest()[:32]
            )
            return self


def unreadable(properties: Any) -> str | None:
    """Why a message's properties couldn't be decoded; None if they were."""
    reason = (properties.headers or {}).get(UNREADABLE)
    return str(reason) if isinstance(reason, _Reason) else None


def tolerate() -> None:
    """Have pika decode the properties of messages so, in all of its connections."""
    spec.props[spec.BasicProperties.INDEX] = TolerantProperties
