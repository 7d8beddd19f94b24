"""The claims about a super-network with the comparisons that each rests on, before they are judged."""

from collections.abc import Sequence
from dataclasses import replace

from services.coordinator.study.networks import StudyNetwork
from services.reporting.study.answers import StudyAnswers, label
from services.reporting.study.claim_rules import Case, Evidence, better, no_worse
from services.reporting.study.claim_wording import points_in_words
from services.reporting.study.compared import Beside, Contender
from services.reporting.study.difference import Difference
from services.reporting.study.study_data import ALL

RIVALS = ("llm-pruner", "slicegpt")
"""The baselines that the paper claims to beat."""


class ClaimCases:
    """Those of one super-network."""

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
