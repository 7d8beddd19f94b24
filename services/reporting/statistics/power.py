"""What a comparison of two networks on the same items could show: its smallest detectable difference."""

from math import sqrt

from scipy.stats import norm

from services.reporting.statistics.intervals import NORMAL_QUANTILE
from services.reporting.statistics.paired_comparison import POWER

QUANTILES = NORMAL_QUANTILE + float(norm.ppf(POWER))
"""Of a two-sided test at the 5 % level with a power of 80 %."""
FEWEST = 6
"""The exact test finds nothing at the 5 % level in fewer discordant items: 2 / 2^6 = 0.03, 2 / 2^5 = 0.06."""


def detectable_difference(discordance: float, items: float) -> float:
    """The smallest true difference in accuracy that so many items would show at the 5 % level (two-sided, uncorrected)
    with a power of 80 %, if the two networks answer that share of the items differently.

    Solves n = (z_a + z_b)^2 (discordance - d^2) / d^2 for d (Lu and Bean 1995); of clustered items, `items` is their
    number divided by the design effect. Raises ValueError without items.
    """
    if items <= 0:
        raise ValueError("no items to compare on")
    return min(1.0, max(QUANTILES * sqrt(discordance / (items + QUANTILES**2)), FEWEST / items))


def detectable_mean(standard_error: float, items: int) -> float:
    """The same for a mean over tasks with so many items in all, by its standard error."""
    return min(1.0, max(QUANTILES * standard_error, FEWEST / items))
