"""A study's searches as the report knows them: what each looked at, its front, and what its best networks share."""

from functools import cached_property

from services.coordinator.evaluated import Evaluated
from services.coordinator.results import evaluated_so_far, front
from services.coordinator.study.candidate_results import candidates_of
from services.coordinator.study.heuristic import best_share, depth_probabilities, narrow_probabilities
from services.coordinator.study.networks import Study, StudySearch
from services.reporting.assemble import assemble
from services.reporting.item_answers import ItemAnswers
from services.reporting.report_data import NetworkRow, ReportContent
from services.reporting.study.difference import Difference, accuracy_chosen_by
from services.reporting.study.study_data import (
    DepthRow,
    FrontRow,
    Int8Row,
    NarrowRow,
    Seen,
    StudiedSearch,
    StudyComparison,
    StudyFront,
)
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import EvaluationRequest, Measurement

GROUPS = 4
"""Of a search's networks by their accuracy, in each of which the depths are counted."""


class Searched:
    """One search, from its own history; what it lacks is left out and named in `problem`."""

    def __init__(self, search: StudySearch, study: Study) -> None:
        self.search, self._study = search, study
        self.candidates = candidates_of(search, study.candidates)
        self.metrics = search.plan.settings.metrics
        self.items = sum(task.search.items for task in search.plan.settings.tasks)
        self.problem: str | None = None
        try:
            self.evaluated: list[Evaluated] = evaluated_so_far(search.plan, search.history)
        except UserError as error:
            self.evaluated, self.problem = [], self._named(error)

    @property
    def looked_at(self) -> int:
        """How many networks were measured on its items, candidates of the study's sizes included."""
        requests = [self.search.plan.request(each.architecture, "search") for each in self.candidates]
        identities = {request.identity for request in requests}
        outcomes = [self._study.history.outcome(identity) for identity in identities]
        return len(self.evaluated) + sum(isinstance(outcome, Measurement) for outcome in outcomes)

    def counts(self) -> StudiedSearch:
        """How many networks it looked at."""
        asked, measured = self.search.history.asked() + len(self.candidates), self.looked_at
        return StudiedSearch(
            supernet=self.search.supernet,
            chosen_on=self.search.chosen_on,
            networks=measured,
            failed=asked - measured,
            items=self.items,
        )

    @cached_property
    def report(self) -> ReportContent | None:
        """The search's own report; None if it isn't measured to its end."""
        if not self.evaluated:
            return None
        try:
            return assemble(self.search.plan, self.search.history, front(self.evaluated))
        except UserError as error:
            self.problem = self._named(error)
            return None

    def on_search_items(self, architecture: Architecture) -> ItemAnswers | None:
        """What a network of the search answered right of the items that it was chosen on."""
        request = self.search.plan.request(architecture, "search")
        candidate = self._study.history.outcome(request.identity)
        if isinstance(candidate, Measurement):
            return ItemAnswers.of(candidate, self.metrics)
        return self._answers(request)

    def front(self) -> StudyFront | None:
        """The front with its controls; the p-values are not corrected yet."""
        report = self.report
        if report is None:
            return None
        return StudyFront(
            supernet=self.search.supernet,
            chosen_on=self.search.chosen_on,
            networks=len(report.evaluated),
            serving=report.serving,
            rows=tuple(self._row(row, report) for row in report.front),
            controls=tuple(self._row(row, report, control=True) for row in (report.dense, report.base)),
            random=tuple(self._row(row, report, control=True) for row in report.random),
            int8=tuple(self._row(row, report) for row in report.int8),
            seen=tuple(
                Seen(
                    parameters=each.parameters,
                    bytes=each.bytes,
                    search_accuracy=each.search_accuracy,
                    on_front=each.on_front,
                )
                for each in report.evaluated
            ),
        )

    def int8(self) -> list[Int8Row]:
        """The networks of the front and the dense one before and after INT8."""
        report, rows = self.report, list[Int8Row]()
        if report is None:
            return rows
        originals = {row.name: row for row in (*report.front, report.dense)}
        for twin in report.int8:
            row = originals[twin.name.removesuffix(" int8")]
            before, after = self._reported(row), self._reported(twin)
            if before is not None and after is not None:
                rows.append(
                    Int8Row(
                        label=row.name,
                        supernet=self.search.supernet,
                        chosen_on=self.search.chosen_on,
                        times_smaller=None,
                        task=self.search.chosen_on,
                        parameters=row.parameters,
                        bytes_before=row.bytes,
                        bytes_after=twin.bytes,
                        before=accuracy_chosen_by(before),
                        after=accuracy_chosen_by(after),
                        comparison=Difference.of_task(after, before).shown(
                            "int8", self.search.chosen_on, twin.name, row.name, self.search.supernet, None
                        ),
                    )
                )
        return rows

    def depths(self) -> list[DepthRow]:
        """How probable each depth is by percentile of accuracy."""
        space, rows = self.search.plan.space, list[DepthRow]()
        count = len(self.evaluated)
        edges = [round(count * number / GROUPS) for number in range(GROUPS + 1)]
        for number, shares in enumerate(depth_probabilities(self.evaluated, GROUPS)):
            rows += [
                DepthRow(
                    supernet=self.search.supernet,
                    chosen_on=self.search.chosen_on,
                    low=100 * number / GROUPS,
                    high=100 * (number + 1) / GROUPS,
                    depth=depth,
                    probability=shares.get(depth, 0.0),
                    networks=edges[number + 1] - edges[number],
                )
                for depth in (space.depths if shares else ())
            ]
        return rows

    def narrow(self) -> list[NarrowRow]:
        """How probable a narrow MLP is, layer by layer, among the best networks."""
        if not self.evaluated:
            return []
        best = best_share(self.evaluated)
        probabilities = narrow_probabilities(self.evaluated, self.search.plan.space)
        return [
            NarrowRow(
                supernet=self.search.supernet,
                chosen_on=self.search.chosen_on,
                layer=layer,
                probability=probability,
                networks=sum(layer in network.architecture.layers for network in best),
            )
            for layer, probability in enumerate(probabilities)
        ]

    def _row(self, row: NetworkRow, report: ReportContent, control: bool = False) -> FrontRow:
        answers = self._reported(row)
        return FrontRow(
            name=row.name,
            control=control,
            quantization=row.architecture.quantization,
            architecture=row.architecture,
            parameters=row.parameters,
            bytes=row.bytes,
            true_times_smaller=report.dense.parameters / row.parameters,
            search_accuracy=row.search_accuracy,
            report=None if answers is None else accuracy_chosen_by(answers),
            speed=row.speed,
            versus_dense=self._against(row, report.dense),
            versus_base=self._against(row, report.base),
        )

    def _against(self, row: NetworkRow, other: NetworkRow) -> StudyComparison | None:
        mine, theirs = self._reported(row), self._reported(other)
        if mine is None or theirs is None or row.name == other.name or " random" in row.name:
            return None
        same = other.name == "dense" and row.architecture == other.architecture and row.name != "base"
        difference = Difference.of_the_same(len(mine.values)) if same else Difference.of_task(mine, theirs)
        return difference.shown("fronts", self.search.chosen_on, row.name, other.name, self.search.supernet, None)

    def _reported(self, row: NetworkRow) -> ItemAnswers | None:
        """On the report items."""
        plan = self.search.plan
        return self._answers(
            plan.base_request("report") if row.name == "base" else plan.request(row.architecture, "report")
        )

    def _answers(self, request: EvaluationRequest) -> ItemAnswers | None:
        outcome = self.search.history.outcome(request.identity)
        return ItemAnswers.of(outcome, self.metrics) if isinstance(outcome, Measurement) else None

    def _named(self, error: UserError) -> str:
        return f"search over {self.search.supernet} by {self.search.chosen_on}: {error}"
