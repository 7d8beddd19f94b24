"""The winner's curse: whoever chooses the best of many networks on some items overrates it on these items."""

from functools import lru_cache
from math import exp, expm1, inf, log1p, sqrt

from scipy.integrate import quad
from scipy.stats import norm


@lru_cache(maxsize=1024)
def expected_maximum(count: int) -> float:
    """Expected maximum of so many independent standard normal numbers.

    The integral of 1 - F^n above 0 less that of F^n below, F the normal distribution function (David and Nagaraja 2003,
    "Order Statistics", section 3.1). At most sqrt(2 ln n). Raises ValueError for less than one.
    """
    if count < 1:
        raise ValueError(f"the maximum of {count} numbers")
    above = quad(lambda x: -expm1(count * log1p(-float(norm.sf(x)))), 0, inf)[0]
    below = quad(lambda x: exp(count * float(norm.logcdf(x))), -inf, 0)[0]
    return float(above - below)


def expected_excess(standard_error: float, networks: int) -> float:
    """By how much the best of so many *equally good* networks is expected to exceed its true accuracy on the items that
    it was chosen on: the standard error of one accuracy times the expected maximum.

    This is what a report on the search items could show without any gain. For independent networks; of those that
    answer alike it is less (Slepian's inequality), so it is a bound. Networks of which any two have the correlation r
    have sqrt(1 - r) of it: give the standard error of the *difference* of two of them, divided by sqrt(2).
    """
    return standard_error * expected_maximum(networks)


def correlated_excess(difference_error: float, networks: int) -> float:
    """The same for networks that are all correlated alike; `difference_error` is the standard error of the difference
    of two of them on the same items, which is sqrt(2 (1 - r)) times that of one."""
    return expected_excess(difference_error / sqrt(2), networks)
