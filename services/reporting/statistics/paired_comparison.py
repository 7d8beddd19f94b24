"""Two networks on the same items: the difference in accuracy with its interval, the paired test of it, and how many
items a claim about it needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, inf, sqrt
from typing import Self

from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t

from services.reporting.statistics.clusters import degrees_of_freedom, design_effect
from services.reporting.statistics.intervals import student_quantile

CONFIDENCE = 0.95
"""Of a one-sided bound."""
ONE_SIDED = float(norm.ppf(CONFIDENCE))
"""Its normal quantile."""
POWER = 0.8
"""The power that the number of items needed is computed for."""
QUANTILES = ONE_SIDED + float(norm.ppf(POWER))
NEAREST = 1e-9
"""Ends of intervals are searched for up to this distance from -1 and 1."""


@dataclass(frozen=True)
class PairedTable:
    """The 2x2 table of paired answers: of `items`, `only_one` were answered right by the one network only, `only_other`
    by the other only.

    Where items are clustered all three are divided by the design effect of the differences (see
    `services.reporting.statistics.clusters`), and need not be whole; `effect` is that design effect, `degrees` are the
    degrees of freedom of Student's t distribution that then stands for the normal one, infinite without clusters.
    """

    items: float
    only_one: float
    only_other: float
    effect: float = 1.0
    degrees: float = inf

    @classmethod
    def of(cls, one: Sequence[float], other: Sequence[float], clusters: Sequence[int] = ()) -> Self:
        """From a number for each item, 1 where the answer was right and 0 where not.

        Raises ValueError for sequences of different lengths, and without any item.
        """
        differences = [mine - theirs for mine, theirs in zip(one, other, strict=True)]
        if not differences:
            raise ValueError("no items to compare")
        effect, degrees = design_effect(differences, clusters), degrees_of_freedom(clusters)
        only_one, only_other = (sum(sign * each > 0 for each in differences) for sign in (1, -1))
        return cls(len(differences) / effect, only_one / effect, only_other / effect, effect, degrees)

    @property
    def difference(self) -> float:
        """Accuracy of the one network minus that of the other."""
        return (self.only_one - self.only_other) / self.items

    @property
    def discordance(self) -> float:
        """Share of items that exactly one of the two answered right."""
        return (self.only_one + self.only_other) / self.items

    @property
    def exact(self) -> bool:
        """Whether the p-value is exact: that of clustered items is approximate."""
        return self.degrees == inf

    @property
    def p_value(self) -> float:
        """Two-sided p-value of whether the networks differ: McNemar's exact test; for clustered items McNemar's
        statistic, which takes counts that aren't whole, by Student's t distribution."""
        discordant = self.only_one + self.only_other
        if discordant == 0:
            return 1.0
        if self.exact:
            return float(binomtest(round(self.only_one), round(discordant), 0.5).pvalue)
        return float(2 * t.sf(abs(self.only_one - self.only_other) / sqrt(discordant), self.degrees))

    def score(self, difference: float) -> float:
        """Tango's score statistic of the hypothesis that the true difference is this one, from -1 to 1 (both excluded):
        standard normal if it holds, positive where more was observed.

        Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design", equations 4 to 8.
        """
        linear = -self.only_one - self.only_other + (2 * self.items - self.only_one + self.only_other) * difference
        constant = -self.only_other * difference * (1 - difference)
        # The maximum-likelihood estimate of the probability of "only the other is right" under the hypothesis.
        other = (sqrt(max(0.0, linear**2 - 8 * self.items * constant)) - linear) / (4 * self.items)
        variance = self.items * (2 * other + difference * (1 - difference))
        excess = self.only_one - self.only_other - self.items * difference
        if variance <= 0:
            return 0.0 if excess == 0 else float("inf") * excess
        return excess / sqrt(variance)

    def bounds(self, confidence: float = 0.975) -> tuple[float, float]:
        """Both ends of Tango's score interval, each with this one-sided confidence: the differences whose score is the
        quantile of Student's t distribution, and minus that; by default the two-sided 95 % interval."""
        here, quantile = self.difference, student_quantile(confidence, self.degrees)
        low = _root(lambda difference: self.score(difference) - quantile, -1 + NEAREST, min(here, 1 - NEAREST))
        high = _root(lambda difference: self.score(difference) + quantile, max(here, -1 + NEAREST), 1 - NEAREST)
        return low, high

    @property
    def lower_bound(self) -> float:
        """The one-sided 95 % lower bound of the true difference."""
        return self.bounds(CONFIDENCE)[0]

    def items_needed(self, margin: float) -> int:
        """How many items would show, with a power of 80 %, that the one network is at most `margin` worse, if the
        true difference is the observed one; or zero, where the observed one is a gain or a loss above the margin.

        From the score test under its alternative: n = (z_a + z_b)^2 (discordance - d^2) / (d + margin)^2, as in Lu and
        Bean 1995; of clustered items, as many times more as their design effect, with quantiles of Student's t.
        """
        one_sided = student_quantile(CONFIDENCE, self.degrees)
        assumed = min(0.0, self.difference) if self.difference > -margin else 0.0
        spread = self.discordance - assumed**2
        needed = (one_sided + student_quantile(POWER, self.degrees)) ** 2 * spread / (margin + assumed) ** 2
        # As many are needed even if both networks agree on every item: see the score at a difference of -margin.
        least = one_sided**2 * (1 - margin) / margin
        return ceil(self.effect * max(needed, least))


def discordance_allowed(items: int, margin: float) -> float:
    """The share of the items on which two equally good networks may differ, so that this many items show, with a power
    of 80 %, that the one is at most `margin` worse: the inverse of `PairedTable.items_needed`."""
    return min(1.0, items * (margin / QUANTILES) ** 2)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a decreasing function is 0; -1 or 1 if it is negative or positive throughout."""
    if function(low) <= 0:
        return -1.0
    if function(high) >= 0:
        return 1.0
    return float(brentq(function, low, high, xtol=1e-10))
