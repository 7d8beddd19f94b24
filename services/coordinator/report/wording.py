"""Numbers as a reader wants them: the page, the figure and the terminal's table word them alike."""

import math

SPACE = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
NOT_MEASURED = DASH

_COUNTS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def parameters(count: float) -> str:
    """A number of parameters: `4.509 B`, `134.5 M`."""
    return _scaled(count, _COUNTS, digits=4)


def size(count: float) -> str:
    """A number of bytes in powers of 1000: `9.02 GB`."""
    return _scaled(count, _BYTES, digits=3)


def number(value: float) -> str:
    """A number of unknown magnitude: `0.4512`, `3.221 B`."""
    return parameters(value) if abs(value) >= 1e5 else f"{value:.4g}".replace("-", MINUS)


def percentage(share: float | None) -> str:
    """A share as a percentage without its sign: `45.9`."""
    return NOT_MEASURED if share is None else f"{100 * share:.1f}"


def percent(share: float | None) -> str:
    """A share with its sign: `45.9 %`."""
    return NOT_MEASURED if share is None else f"{percentage(share)}{SPACE}%"


def interval(bounds: tuple[float, float]) -> str:
    """An interval of shares as percentages, without the sign: `43.1–48.8`."""
    return f"{percentage(bounds[0])}{DASH}{percentage(bounds[1])}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points: `+0.4`, `−1.2`."""
    shown = f"{100 * difference:+.1f}"
    return "0.0" if shown in ("+0.0", "-0.0") else shown.replace("-", MINUS)


def p_value(p: float) -> str:
    """A p-value: `0.61`, `0.034`, `<0.001`."""
    if p < 0.001:
        return "<0.001"
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}".rstrip("0")


def p_equation(p: float) -> str:
    """A p-value within a sentence: `p = 0.61`, `p < 0.001`."""
    shown = p_value(p)
    sign, value = ("<", shown[1:]) if shown.startswith("<") else ("=", shown)
    return f"p{SPACE}{sign}{SPACE}{value}"


def _scaled(value: float, units: tuple[tuple[float, str], ...], digits: int) -> str:
    scale, unit = next((pair for pair in units if abs(value) >= pair[0]), units[-1])
    if scale == 1:
        return f"{value:g}{SPACE}{unit}".strip()
    mantissa = value / scale
    decimals = max(0, digits - 1 - int(math.log10(abs(mantissa))))
    return f"{mantissa:.{decimals}f}{SPACE}{unit}"
