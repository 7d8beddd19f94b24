"""The headers of a message."""

import time
from collections.abc import Mapping
from typing import Any

Headers = dict[str, str | int]

ANSWER_TO, REASON, SENT_AT = "answer-to", "reason", "sent-at"
"""The queue that gets a message if it becomes a dead letter, why it became one, and when it was published (Unix time in
ms)."""


def now() -> int:
    """The value of SENT_AT."""
    return round(time.time() * 1000)


def sent_at(headers: Mapping[str, Any]) -> float | None:
    """When a message was published, in Unix time; None if it doesn't say."""
    milliseconds = headers.get(SENT_AT)
    return milliseconds / 1000 if isinstance(milliseconds, int) else None
