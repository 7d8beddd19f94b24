"""Which of the paper's claims hold here: rules that were fixed before anything was measured.

Each claim is judged for each super-network on the report items, over all sizes of the study. There are three rules.

*Better*: a comparison counts as won, or as lost, if its p-value is below 5 % after Holm's correction over all
comparisons of the table of claims, and its sign says so. The claim holds if all its comparisons are won; it does not
hold if any is lost; otherwise it can't be told.

*No worse*: by no more than the margin of the study file (`reporting.margin`), which was fixed when the study began. The
claim holds if of all its comparisons the lower bound of the difference, with one-sided 95 % confidence each, is above
minus the margin: that all of several hypotheses are refuted needs no correction (Berger 1982, intersection-union test).
It does not hold if of any the upper bound is below minus the margin, with one-sided confidence 1 - 5 %/k for k
comparisons, as any of them might be so by chance (Bonferroni). Otherwise it can't be told.

At equal size means within 2 % of the parameters, in the mean over tasks. Where the first network of a comparison is
larger than that, its win counts for nothing; where it is smaller, its loss doesn't.

How small a difference so many items could have shown is said by the same rules: for *better* at 5 % divided by the
number of the comparisons that are corrected together, the first step of Holm's procedure; for *no worse* as the
smallest margin that would be shown if both were equally good.

Both are symmetric: whoever is shown to be better, the paper's method or what it is compared with, it takes as much
evidence. A claim of which a comparison was not measured can be refuted, but not hold.

That a network is as good as the untouched model, as the paper says, may come of the fine-tuning: so the same claim
against the dense network, which was fine-tuned alike, stands beside it as the control. That it is faster is judged by
measured throughput, see `services.reporting.study.faster`.

*No one network for all tasks* is judged by the transfer matrix: a network fits all tasks if on each it is no larger
than the one chosen there (within 2 %) and no worse, by the margin (Bonferroni over the networks, any of which might
seem to by chance); it fails if on any it is worse, with a p-value below 5 % after correction over all transfer
matrices, than one that is no larger (within 2 %). The same network is no worse than itself. The claim does not hold if
a network fits; it holds if each fails; otherwise it can't be told.
"""

from collections.abc import Callable
from dataclasses import dataclass

from services.coordinator.study.choice import SAME_SIZE
from services.reporting.study.difference import Difference
from services.reporting.study.study_data import FAILS, HOLDS, OPEN, StudyComparison, Verdict

LEVEL = 0.05


@dataclass(frozen=True)
class Evidence:
    """A comparison that a claim rests on; `larger` is the share of parameters that its first network has more than the
    other (negative: fewer), 0 where the claim is not about equal sizes."""

    difference: Difference
    shown: StudyComparison
    larger: float = 0.0

    @property
    def may_win(self) -> bool:
        """Whether it counts if the first network is better, or no worse."""
        return self.larger <= SAME_SIZE

    @property
    def may_lose(self) -> bool:
        """Whether it counts if the first network is worse."""
        return self.larger >= -SAME_SIZE


@dataclass(frozen=True)
class Case:
    """A claim before it is judged: its evidence, and in words what of it was not measured."""

    key: str
    statement: str
    supernet: str
    rule: Callable[["Case", float], Verdict]
    evidence: tuple[Evidence, ...]
    missing: tuple[str, ...] = ()


def better(case: Case, margin: float) -> Verdict:
    """The first rule; the margin is of no account."""
    if any(lost(each.shown) and each.may_lose for each in case.evidence):
        return FAILS
    complete = bool(case.evidence) and not case.missing
    return HOLDS if complete and all(won(each.shown) and each.may_win for each in case.evidence) else OPEN


def no_worse(case: Case, margin: float) -> Verdict:
    """The second rule."""
    confidence = 1 - LEVEL / max(1, len(case.evidence))
    if any(each.difference.bounds(confidence)[1] < -margin and each.may_lose for each in case.evidence):
        return FAILS
    complete = bool(case.evidence) and not case.missing
    shown = all(each.shown.lower_bound > -margin and each.may_win for each in case.evidence)
    return HOLDS if complete and shown else OPEN


def won(shown: StudyComparison) -> bool:
    """Whether a comparison is shown to be won."""
    return shown.corrected < LEVEL and shown.difference > 0


def lost(shown: StudyComparison) -> bool:
    """Whether a comparison is shown to be lost."""
    return shown.corrected < LEVEL and shown.difference < 0


def fits(each: Evidence, confidence: float, margin: float) -> bool:
    """Whether the first network is shown to be no worse, with this one-sided confidence, and is no larger."""
    return each.may_win and each.difference.bounds(confidence)[0] > -margin
