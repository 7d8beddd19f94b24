"""Numbers as text, the same on the page, in the figure and in the terminal's table."""

import math

from shared.settings import StrategySettings

SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
NOT_MEASURED = DASH

Units = tuple[tuple[float, str], ...]
"""The size of each unit and its name, from the largest to the smallest."""
COUNTS: Units = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))
BYTES: Units = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
SECONDS: Units = ((1.0, "s"), (1e-3, "ms"), (1e-6, "\N{GREEK SMALL LETTER MU}s"))


def parameters(count: float) -> str:
    """A number of parameters: `4.509 B`, `134.5 M`."""
    return _scaled(count, COUNTS, digits=4)


def size(count: float) -> str:
    """A number of bytes in powers of 1000: `9.02 GB`."""
    return _scaled(count, BYTES, digits=3)


def duration(seconds: float) -> str:
    """A time: `1.24 s`, `38.2 ms`."""
    return _scaled(seconds, SECONDS, digits=3)


def rate(repeats: tuple[float, float, float]) -> str:
    """Tokens per second, median (least–most) of the repeats: `1290 (1240–1310)`, `8.2 (8.0–8.3)`."""
    digits = 1 if repeats[0] < 100 else 0
    median, least, most = (f"{value:.{digits}f}" for value in repeats)
    return f"{median} ({least}{DASH}{most})"


def number(value: float) -> str:
    """A number of unknown magnitude: `0.4512`, `3.221 B`."""
    return parameters(value) if abs(value) >= 1e5 else f"{value:.4g}".replace("-", MINUS)


def percentage(share: float | None) -> str:
    """A share as a percentage without its sign: `45.9`."""
    return NOT_MEASURED if share is None else f"{100 * share:.1f}"


def percent(share: float | None) -> str:
    """A share with its sign: `45.9 %`."""
    return NOT_MEASURED if share is None else f"{percentage(share)}{SPACE}%"


def on_search_part(estimated: bool) -> str:
    """Where an accuracy comes from that networks are chosen by."""
    return "on the search part, estimated" if estimated else "on the search part"


def proceeding(search: StrategySettings) -> str:
    """How networks are asked for: `in generations of 12`, `asynchronously, 12 at a time`."""
    if search.asynchronous:
        return f"asynchronously, {search.population} at a time"
    return f"in generations of {search.population}"


def interval(bounds: tuple[float, float] | None) -> str:
    """An interval of shares as percentages, without the sign: `43.1–48.8`."""
    if bounds is None:
        return NOT_MEASURED
    return f"{percentage(bounds[0])}{DASH}{percentage(bounds[1])}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points: `+0.4`, `−1.2`."""
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown.replace("-", MINUS)


def correlation(tau: float | None) -> str:
    """A rank correlation: `0.91`, `−0.08`."""
    return NOT_MEASURED if tau is None else f"{tau:.2f}".replace("-", MINUS)


def points_interval(bounds: tuple[float, float]) -> str:
    """An interval of differences in percentage points: `−2.3 to +0.5`."""
    return f"{points(bounds[0])} to {points(bounds[1])}"


def chat_template(applied: bool | str, fewshot_as_multiturn: bool) -> str:
    """Which chat template a task's prompts are made with: `chat template`, `chat template rag, examples in one turn`,
    or an empty string without one."""
    if applied is False:
        return ""
    named = f" {applied}" if isinstance(applied, str) else ""
    return f"chat template{named}{'' if fewshot_as_multiturn else ', examples in one turn'}"


def p_value(p: float) -> str:
    """A p-value: `0.61`, `0.034`, `<0.001`."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}".rstrip("0")


def unit_for(value: float, units: Units) -> tuple[float, str]:
    """The largest unit of which there is at least one in the value."""
    return next((pair for pair in units if abs(value) >= pair[0]), units[-1])


def _scaled(value: float, units: Units, digits: int) -> str:
    scale, unit = unit_for(value, units)
    if isinstance(value, int) and scale == 1:
        return f"{value}{SPACE}{unit}".strip()
    mantissa = value / scale
    magnitude = math.floor(math.log10(abs(mantissa))) if mantissa else 0
    decimals = max(0, digits - 1 - magnitude)
    return f"{mantissa:.{decimals}f}{SPACE}{unit}"
