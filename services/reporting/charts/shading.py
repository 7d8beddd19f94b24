"""Shades of a table's cells by their numbers."""

STEPS = 4
"""How many shades there are on either side of 0."""


def shade(value: float | None, greatest: float) -> str:
    """The class of a cell: `up-1` to `up-4` for gains, `down-1` to `down-4` for losses, `level` for nearly none; of
    `greatest` size is the darkest."""
    if value is None or greatest <= 0:
        return "level"
    step = round(STEPS * min(1.0, abs(value) / greatest))
    return "level" if step == 0 else f"{'up' if value > 0 else 'down'}-{step}"
