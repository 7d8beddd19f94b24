"""What a comparison of two networks on the same items could show with a power of 80 %: its smallest detectable
difference, and the smallest margin by which it could show that the one is no worse.

`degrees` are the degrees of freedom of Student's t distribution where items are clustered (see
`services.reporting.statistics.clusters`), infinite where they are not.
"""

from math import floor, inf, log2, sqrt

from services.reporting.statistics.intervals import student_quantile
from services.reporting.statistics.paired_comparison import CONFIDENCE, POWER

LEVEL = 0.05
"""Of a single two-sided test. Of m that Holm's procedure corrects together the first is held against `LEVEL / m`."""


def detectable_difference(discordance: float, items: float, level: float = LEVEL, degrees: float = inf) -> float:
    """The smallest true difference in accuracy that so many items would show at this level (two-sided) with a power of
    80 %, if the two networks answer that share of the items differently.

    Solves n = (z_a + z_b)^2 (discordance - d^2) / d^2 for d (Lu and Bean 1995); of clustered items, `items` is their
    number divided by the design effect. Raises ValueError without items.
    """
    if items <= 0:
        raise ValueError("no items to compare on")
    quantiles = _quantiles(1 - level / 2, degrees)
    return min(1.0, max(quantiles * sqrt(discordance / (items + quantiles**2)), fewest_discordant(level) / items))


def detectable_mean(standard_error: float, items: int, level: float = LEVEL, degrees: float = inf) -> float:
    """The same for a mean over tasks with so many items in all, by its standard error."""
    return min(1.0, max(_quantiles(1 - level / 2, degrees) * standard_error, fewest_discordant(level) / items))


def fewest_discordant(level: float) -> int:
    """How many items the networks must answer differently before the exact test can find anything at this level: the
    smallest k with 2 / 2^k below it. At 5 % six: 2 / 2^6 = 0.03, 2 / 2^5 = 0.06."""
    return floor(1 - log2(level)) + 1


def smallest_margin(discordance: float, items: float, degrees: float = inf) -> float:
    """The smallest margin by which so many items would show, with one-sided 95 % confidence and a power of 80 %, that
    the one of two equally good networks is no worse, if they answer that share of the items differently.

    The inverse of `PairedTable.items_needed` at a true difference of 0, n = (z_a + z_b)^2 discordance / margin^2 (Lu
    and Bean 1995), but no less than what is ruled out if they agree on every item, n = z_a^2 (1 - margin) / margin; of
    clustered items, `items` is their number divided by the design effect. Raises ValueError without items.
    """
    if items <= 0:
        raise ValueError("no items to compare on")
    return smallest_margin_of_mean(sqrt(discordance / items), items, degrees)


def smallest_margin_of_mean(standard_error: float, items: float, degrees: float = inf) -> float:
    """The same for a mean over tasks with so many items in all, by its standard error."""
    square = student_quantile(CONFIDENCE, degrees) ** 2
    return min(1.0, max(_quantiles(CONFIDENCE, degrees) * standard_error, square / (items + square)))


def _quantiles(confidence: float, degrees: float) -> float:
    """z_a + z_b: how many standard errors the truth must be from what is refuted with this one-sided confidence."""
    return student_quantile(confidence, degrees) + student_quantile(POWER, degrees)
