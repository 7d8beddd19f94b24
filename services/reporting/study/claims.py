"""Which of the paper's claims hold here: rules that were fixed before anything was measured.

Each claim is judged for each super-network on the report items, over all sizes of the study. There are two rules.

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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.coordinator.study.networks import StudyNetwork
from services.reporting import wording
from services.reporting.study.answers import StudyAnswers, label
from services.reporting.study.compared import Beside, Contender
from services.reporting.study.corrections import corrected
from services.reporting.study.difference import Difference
from services.reporting.study.faster import faster
from services.reporting.study.study_data import (
    ALL,
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    StudyComparison,
    StudyFront,
    Transfer,
    TransferCell,
    Verdict,
)

LEVEL = 0.05
TOLERANCE = 0.02
"""Sizes that differ by no more than this share of the parameters are equal."""
RIVALS = ("llm-pruner", "slicegpt")
"""The baselines that the paper claims to beat."""
NOTHING = "nothing is measured that could tell"
TITLES: Mapping[Verdict, str] = {HOLDS: "hold", FAILS: "do not hold", OPEN: "can't be told"}


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
        return self.larger <= TOLERANCE

    @property
    def may_lose(self) -> bool:
        """Whether it counts if the first network is worse."""
        return self.larger >= -TOLERANCE


@dataclass(frozen=True)
class Case:
    """A claim before it is judged: its evidence, and in words what of it was not measured."""

    key: str
    statement: str
    supernet: str
    rule: Callable[["Case", float], Verdict]
    evidence: tuple[Evidence, ...]
    missing: tuple[str, ...] = ()


def judge(
    answers: StudyAnswers, beside: Beside, transfers: Sequence[Transfer], fronts: Sequence[StudyFront], margin: float
) -> tuple[Claim, ...]:
    """All claims, super-network by super-network; `transfers` with corrected p-values, `margin` as a share."""
    settings, claims = answers.study.settings, list[Claim]()
    cases = [case for supernet in settings.supernets for case in _Cases(answers, beside, supernet.name).all()]
    family = tuple(each.shown for case in cases for each in case.evidence)
    shown = iter(corrected(family))
    cases = [
        replace(case, evidence=tuple(replace(each, shown=next(shown)) for each in case.evidence)) for case in cases
    ]
    for supernet in settings.supernets:
        claims += [_judged(case, margin, len(family)) for case in cases if case.supernet == supernet.name]
        timed = [front for front in fronts if front.supernet == supernet.name and front.timed]
        claims += [faster(beside, front, settings.sizes) for front in timed]
        claims.append(no_single_network(answers, beside, supernet.name, transfers, margin))
    return tuple(claims)


def better(case: Case, margin: float) -> Verdict:
    """The first rule; the margin is of no account."""
    if any(_lost(each.shown) and each.may_lose for each in case.evidence):
        return FAILS
    complete = bool(case.evidence) and not case.missing
    return HOLDS if complete and all(_won(each.shown) and each.may_win for each in case.evidence) else OPEN


def no_worse(case: Case, margin: float) -> Verdict:
    """The second rule."""
    confidence = 1 - LEVEL / max(1, len(case.evidence))
    if any(each.difference.bounds(confidence)[1] < -margin and each.may_lose for each in case.evidence):
        return FAILS
    complete = bool(case.evidence) and not case.missing
    shown = all(each.shown.lower_bound > -margin and each.may_win for each in case.evidence)
    return HOLDS if complete and shown else OPEN


def no_single_network(
    answers: StudyAnswers, beside: Beside, supernet: str, transfers: Sequence[Transfer], margin: float
) -> Claim:
    """The third rule; `transfers` are the matrices of all super-networks, whose p-values are corrected together."""
    fitting, failing, undecided, compared = list[str](), list[str](), list[str](), list[Evidence]()
    matrices = [each for each in transfers if each.supernet == supernet]
    confidence = 1 - LEVEL / max(1, sum(len(matrix.chosen_on) for matrix in matrices))
    for matrix in matrices:
        for on in matrix.chosen_on:
            chosen = beside.chosen(supernet, on, matrix.times_smaller)
            elsewhere = [task for task in matrix.tasks if task != on]
            found = [_transferred(answers, beside, chosen, matrix.cell(on, task), matrix) for task in elsewhere]
            known = [each for each in found if each is not None]
            compared += known
            name = label(chosen) if chosen else f"chosen on {on}"
            if known and len(known) == len(elsewhere) and all(_fits(each, confidence, margin) for each in known):
                fitting.append(name)
            elif any(_lost(each.shown) and each.may_lose for each in known):
                failing.append(name)
            else:
                undecided.append(name)
    verdict: Verdict = OPEN
    if fitting:
        verdict = FAILS
    elif failing and not undecided:
        verdict = HOLDS
    family = sum(cell.versus_own is not None for matrix in transfers for cell in matrix.cells)
    detectable = max((each.difference.detectable(LEVEL / family) for each in compared), default=None)
    power, shown = _power_to_differ(detectable, family), tuple(each.shown for each in compared)
    return Claim(
        key="no-single-network",
        statement="No one network is good for all tasks: each task needs a search of its own",
        supernet=supernet,
        verdict=verdict,
        evidence=_transfer_evidence(fitting, failing, shown, margin, len(fitting) + len(failing) + len(undecided))
        + (_sentence(power) if verdict == OPEN else ""),
        comparisons=shown,
        power=power,
        detectable=detectable,
    )


def summary(claims: Sequence[Claim], margin: float) -> str:
    """What holds, what doesn't and what can't be told, a line for each super-network and verdict."""
    lines = []
    for supernet in dict.fromkeys(claim.supernet for claim in claims):
        mine = [claim for claim in claims if claim.supernet == supernet]
        for verdict, title in TITLES.items():
            said = [claim for claim in mine if claim.verdict == verdict]
            if said:
                unknown = verdict == OPEN
                parts = (f"{claim.statement}{f' ({claim.power or NOTHING})' if unknown else ''}" for claim in said)
                lines.append(
                    f"Super-network {supernet}: {len(said)} of {len(mine)} claims {title}: {'; '.join(parts)}."
                )
    if claims:
        lines.append(
            f"The margin of {points_in_words(100 * margin)} was fixed before anything was measured; p-values are "
            "corrected for the number of comparisons."
        )
    return "\n\n".join(lines)


class _Cases:
    """The claims of one super-network with their evidence."""

    def __init__(self, answers: StudyAnswers, beside: Beside, supernet: str) -> None:
        self.answers = answers
        self.beside = beside
        self.supernet = supernet
        self.settings = answers.study.settings
        self.at_most = f"at most {points_in_words(self.settings.reporting.margin)}"

    def all(self) -> list[Case]:
        """In the order in which they are shown."""
        return [
            self._no_loss("as-good-as-base", self.beside.base(), "the untouched model"),
            self._no_loss("no-loss", self.beside.dense(self.supernet), "the dense one, fine-tuned alike"),
            self._against_rivals(("none",), "beats-pruners", "without fine-tuning"),
            self._against_rivals(("full", "lora"), "beats-tuned-pruners", "with fine-tuning of their own"),
            self._no_recovery(),
            self._int8(),
            self._random(),
            self._heuristic(),
        ]

    def _no_loss(self, name: str, whole: StudyNetwork | None, what: str) -> Case:
        """On each task by itself. What the paper claims is against the untouched model; that the dense network was
        fine-tuned as well makes it the control."""
        evidence, missing = list[Evidence](), list[str]()
        for size in self.settings.sizes:
            for task in self.answers.tasks:
                chosen = self.beside.chosen(self.supernet, task, size)
                mine, theirs = self.answers.on(chosen, task), self.answers.on(whole, task)
                if chosen is None or whole is None or mine is None or theirs is None:
                    missing.append(f"{task} at {size:g}x")
                    continue
                difference = Difference.of_task(mine, theirs)
                evidence.append(self._evidence(difference, task, label(chosen), label(whole), size))
        return Case(
            name,
            f"On each task a smaller network loses {self.at_most} against {what}",
            self.supernet,
            no_worse,
            tuple(evidence),
            tuple(missing),
        )

    def _against_rivals(self, tunings: Sequence[str], name: str, how: str) -> Case:
        """In the mean over tasks, each with the network chosen on it."""
        evidence, missing = list[Evidence](), list[str]()
        for size in self.settings.sizes:
            rivals = [each for each in self.beside.baselines(size) if each.name in RIVALS]
            for rival in rivals:
                if rival.fine_tuning in tunings:
                    self._add(evidence, missing, size, label(rival), self.beside.on_all_tasks(rival))
            for absent in RIVALS:
                if not any(each.name == absent and each.fine_tuning in tunings for each in rivals):
                    missing.append(f"{absent} at {size:g}x")
        statement = f"At equal size the networks chosen on each task beat LLM-Pruner and SliceGPT {how}"
        return Case(name, statement, self.supernet, better, tuple(evidence), tuple(missing))

    def _random(self) -> Case:
        """At each size in the mean over tasks: those chosen on each task against the random ones that go with them."""
        evidence, missing = list[Evidence](), list[str]()
        for size in self.settings.sizes:
            name = f"{self.supernet}: random networks of equal size, {size:g}x"
            self._add(evidence, missing, size, name, self.beside.each_on_its_own("random", self.supernet, size))
        statement = "The search beats random networks of equal size, with as many layers and as many of each width"
        return Case("beats-random", statement, self.supernet, better, tuple(evidence), tuple(missing))

    def _no_recovery(self) -> Case:
        """Those that were cut out of the untouched model too, each on what it was chosen on."""
        evidence, missing = list[Evidence](), list[str]()
        for size in self.settings.sizes:
            found = [each for each in self.beside.alone(self.supernet, size) if each.fine_tuning == "full"]
            for alone in found:
                chosen = self.beside.chosen(self.supernet, alone.chosen_on or "", size)
                tasks = self.answers.chosen_from(alone.chosen_on or "")
                mine, theirs = (self.answers.on_each(each, tasks) for each in (chosen, alone))
                if chosen is None or mine is None or theirs is None:
                    missing.append(label(alone))
                    continue
                difference, task = Difference.of_all(mine, theirs), tasks[0] if len(tasks) == 1 else ALL
                evidence.append(self._evidence(difference, task, label(chosen), label(alone), size))
            if not found:
                missing.append(f"the same fine-tuned alone at {size:g}x")
        statement = f"Chosen networks need no fine-tuning: they lose {self.at_most} against the same fine-tuned alone"
        return Case("no-recovery", statement, self.supernet, no_worse, tuple(evidence), tuple(missing))

    def _int8(self) -> Case:
        """In the mean over tasks."""
        evidence, missing = list[Evidence](), list[str]()
        for size in self.settings.sizes:
            before = self._own(size)
            after = self.beside.each_on_its_own("chosen", self.supernet, size, quantization="int8")
            if before is None or after is None:
                missing.append(f"{self._name(size)} in INT8")
                continue
            difference = Difference.of_all(after.answers, before.answers)
            evidence.append(self._evidence(difference, ALL, f"{self._name(size)} int8", self._name(size), size))
        statement = f"INT8 costs the chosen networks {self.at_most}"
        return Case("int8", statement, self.supernet, no_worse, tuple(evidence), tuple(missing))

    def _heuristic(self) -> Case:
        """In the mean over tasks, at the size that each heuristic's network is nearest to."""
        evidence, missing = list[Evidence](), list[str]()
        for size in self.settings.sizes:
            built, own = self.beside.each_on_its_own("heuristic", self.supernet, size), self._own(size)
            if built is not None and own is not None:
                name = f"{self.supernet}: heuristic of each task"
                evidence.append(self._between(built, own, name, self._name(size), size))
        if not evidence:
            missing.append("the heuristic's network of each task at one size")
        statement = f"The networks that the heuristic builds lose {self.at_most} against those chosen"
        return Case("heuristic", statement, self.supernet, no_worse, tuple(evidence), tuple(missing))

    def _add(
        self, evidence: list[Evidence], missing: list[str], size: float, other: str, theirs: Contender | None
    ) -> None:
        mine = self._own(size)
        if mine is None:
            missing.append(self._name(size))
        elif theirs is None:
            missing.append(other)
        else:
            evidence.append(self._between(mine, theirs, self._name(size), other, size))

    def _evidence(self, difference: Difference, task: str, one: str, other: str, size: float) -> Evidence:
        return Evidence(difference, difference.shown("claims", task, one, other, self.supernet, size))

    def _between(self, mine: Contender, theirs: Contender, one: str, other: str, size: float) -> Evidence:
        """At equal size, or what comes near it."""
        difference = Difference.of_all(mine.answers, theirs.answers)
        evidence = self._evidence(difference, ALL, one, other, size)
        return replace(evidence, larger=mine.parameters / theirs.parameters - 1)

    def _own(self, size: float) -> Contender | None:
        return self.beside.each_on_its_own("chosen", self.supernet, size)

    def _name(self, size: float) -> str:
        return f"{self.supernet}: chosen on each task, {size:g}x"


def _judged(case: Case, margin: float, family: int) -> Claim:
    """`family`: the number of comparisons whose p-values are corrected together."""
    verdict = case.rule(case, margin)
    fair = [each.difference for each in case.evidence if each.may_win and each.may_lose]
    detectable = smallest_margin = None
    if case.rule is better:
        detectable = max((each.detectable(LEVEL / family) for each in fair), default=None)
        power = _power_to_differ(detectable, family)
    else:
        smallest_margin = max((each.smallest_margin for each in fair), default=None)
        power = _power_to_bound(smallest_margin)
    return Claim(
        key=case.key,
        statement=case.statement,
        supernet=case.supernet,
        verdict=verdict,
        evidence=_evidence_text(case, verdict, power),
        comparisons=tuple(each.shown for each in case.evidence),
        power=power,
        detectable=detectable,
        smallest_margin=smallest_margin,
    )


def _power_to_differ(detectable: float | None, family: int) -> str:
    if detectable is None:
        return ""
    return (
        f"with this many items only true differences from {_plain(detectable)} points on would probably show after the "
        f"correction for {family} {'comparison' if family == 1 else 'comparisons'}"
    )


def _power_to_bound(smallest_margin: float | None) -> str:
    if smallest_margin is None:
        return ""
    return (
        "the smallest margin that this many items would probably show for equally good networks is "
        f"{_plain(smallest_margin)} points"
    )


def _sentence(power: str) -> str:
    return f" {power[:1].upper()}{power[1:]}." if power else ""


def _won(shown: StudyComparison) -> bool:
    return shown.corrected < LEVEL and shown.difference > 0


def _lost(shown: StudyComparison) -> bool:
    return shown.corrected < LEVEL and shown.difference < 0


def _transferred(
    answers: StudyAnswers, beside: Beside, chosen: StudyNetwork | None, cell: TransferCell, matrix: Transfer
) -> Evidence | None:
    """The network of a row of the matrix against the one that was chosen on the column's task."""
    own = beside.chosen(matrix.supernet, cell.task, matrix.times_smaller)
    if chosen is None or own is None or cell.versus_own is None:
        return None
    difference, sizes = (
        answers.difference(chosen, own, cell.task),
        (answers.parameters(chosen), answers.parameters(own)),
    )
    if difference is None or not sizes[0] or not sizes[1]:
        return None
    return Evidence(difference, cell.versus_own, sizes[0] / sizes[1] - 1)


def _fits(each: Evidence, confidence: float, margin: float) -> bool:
    return each.may_win and each.difference.bounds(confidence)[0] > -margin


def _evidence_text(case: Case, verdict: Verdict, power: str) -> str:
    parts = [_phrase(each, case.rule is better) for each in case.evidence]
    text = f"{'; '.join(parts)}." if parts else ""
    if verdict == OPEN:
        text += _sentence(power)
    if not all(each.may_win for each in case.evidence):
        text += " What is larger than what it is compared with can't show that the claim holds."
    if not all(each.may_lose for each in case.evidence):
        text += " What is smaller can't show that it doesn't."
    if case.missing:
        text += f" Not measured: {', '.join(case.missing)}."
    return text.strip()


def _phrase(evidence: Evidence, of_superiority: bool) -> str:
    each, size = evidence.shown, ""
    if not (evidence.may_win and evidence.may_lose):
        more = "more" if evidence.larger > 0 else "fewer"
        size = f", with {abs(evidence.larger):.0%} {more} parameters,".replace("%", f"{wording.SPACE}%")
    where = "In the mean over tasks" if each.task == ALL else f"On {each.task}"
    sure = (
        f"{wording.points_interval(each.interval)}, corrected p {each.corrected:.2g}"
        if of_superiority
        else f"with 95 % confidence each above {wording.points(each.lower_bound)} and below "
        f"{wording.points(each.upper_bound)}"
    )
    return f"{where}, {each.one}{size} against {each.other}: {wording.points(each.difference)} points ({sure})"


def _transfer_evidence(
    fitting: Sequence[str], failing: Sequence[str], compared: Sequence[StudyComparison], margin: float, number: int
) -> str:
    if not compared:
        return "Not measured."
    names = f" ({', '.join(fitting)})" if fitting else ""
    worst = min(compared, key=lambda each: each.difference)
    return (
        f"Of {number} chosen networks, {len(fitting)} are shown to lose at most {points_in_words(100 * margin)} on "
        f"every task against the one chosen there and be no larger{names}, and {len(failing)} others are shown to be "
        "worse on some task than one that is no larger. "
        f"The largest loss is {worst.one} on {worst.task}: {wording.points(worst.difference)} points "
        f"({wording.points_interval(worst.interval)}, corrected p {worst.corrected:.2g})."
    )


def points_in_words(points: float) -> str:
    """`2 points`, `1 point`."""
    return f"{points:g} {'point' if points == 1 else 'points'}"


def _plain(share: float) -> str:
    return f"{100 * share:.1f}"
