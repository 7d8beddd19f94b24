"""From the history of a finished search to what its report says."""

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from services.coordinator.cost_model import CostModel
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.reported_networks import ReportedNetwork, ReportedNetworks
from services.coordinator.results import (
    accuracy,
    as_chosen_by,
    cost_model,
    cost_tables,
    first_networks,
    measured_networks,
    reference_point,
)
from services.reporting.comparisons import advantage, compare, macro_row, non_inferiority, task_rows
from services.reporting.item_answers import ItemAnswers
from services.reporting.provenance import headline, provenance, serving
from services.reporting.report_data import (
    Advantage,
    Comparison,
    EvaluatedNetwork,
    NetworkRow,
    ReportContent,
    SpeedRow,
)
from services.reporting.report_item_use import count_report_item_use
from services.reporting.statistics.multiple_testing import with_corrected_p_values
from shared.architecture import Architecture, derive
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, Measurement, Speed
from shared.network.sizes import cache_bytes
from shared.settings import TIMES


def assemble(plan: SearchPlan, history: History, front: Sequence[Architecture]) -> ReportContent:
    """Content of the report. Raises UserError if the front has not been measured on the report items yet."""
    return _Assembly(plan, history, front).content()


class _Assembly:
    def __init__(self, plan: SearchPlan, history: History, front: Sequence[Architecture]) -> None:
        self.plan = plan
        self.history = history
        self.networks = ReportedNetworks(plan, cost_model(plan, history), front)
        self.measured = measured_networks(plan, history)
        self.accuracies = {one.architecture: one.accuracy for one in as_chosen_by(plan, self.measured)}
        # Networks that failed on the report items are left out of the front.
        self.front = [row for row in self.networks.front if not (row.requested and self._failure(row.report))]
        self.speeds = self._speeds()
        self._answers_of: dict[str, ItemAnswers | None] = {}
        self.margin = plan.settings.reporting.margin / 100
        self.tables = cost_tables(plan, history)
        serving = plan.settings.serving
        self.load = serving.workload if serving and "kv_cache_bytes" in plan.settings.objectives else None
        self.times = CostModel(plan.space, TIMES, plan.dtype, self.tables) if self.tables else None

    def content(self) -> ReportContent:
        plan, whole, networks = self.plan, self.plan.space.network, self.networks
        evaluated, failures = self._evaluated()
        rows = self._rows()
        use = count_report_item_use(plan, networks, self.history)
        dense = self._measured(networks.dense.report)
        first = first_networks(plan, self.history)
        point = reference_point(
            plan, cost_model(plan, self.history), [one for one in self.measured if one.architecture in first]
        )
        answers = ItemAnswers.of(dense, plan.settings.metrics)
        return ReportContent(
            name=plan.settings.name,
            model=plan.settings.model,
            headline=headline(plan, self.history),
            created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            layers=whole.depth,
            mlp_width=max(whole.mlp_widths),
            mlp_widths=plan.space.mlp_widths,
            attention=plan.space.attentions,
            objectives=plan.settings.objectives,
            serving=serving(plan, self.tables),
            margin=self.margin,
            report_items=len(answers.values),
            clustered=bool(answers.clusters),
            networks_on_report_items=use.networks,
            reported_fronts=use.fronts,
            front=tuple(rows[row.name] for row in self.front),
            int8=tuple(rows[row.name] for row in networks.int8 if row.name in rows),
            random=tuple(rows[row.name] for row in networks.random if row.name in rows),
            advantage=self._advantage(),
            dense=rows[networks.dense.name],
            base=rows[networks.base.name],
            evaluated=evaluated,
            generations=tuple(self.history.generations()),
            reference_point=point.corner,
            estimated=plan.estimates,
            failures=(*failures, *self._failures_at_the_end()),
            provenance=provenance(plan, self.history, self.tables, point, use, len(evaluated), dense),
        )

    def _measured(self, request: EvaluationRequest) -> Measurement:
        outcome = self.history.outcome(request.identity)
        if not isinstance(outcome, Measurement):
            raise UserError(
                f"{self.history.path}: the front is not measured on the report items yet; "
                "run `nasfarm search` to the end"
            )
        return outcome

    def _answers(self, row: ReportedNetwork | None) -> ItemAnswers | None:
        """On the report items; None for a network that was not measured on them."""
        if row is None:
            return None
        identity = row.report.identity
        if identity not in self._answers_of:
            outcome, metrics = self.history.outcome(identity), self.plan.settings.metrics
            answers = ItemAnswers.of(outcome, metrics) if isinstance(outcome, Measurement) else None
            self._answers_of[identity] = answers
        return self._answers_of[identity]

    def _failure(self, request: EvaluationRequest | None) -> Failure | None:
        outcome = None if request is None else self.history.outcome(request.identity)
        return outcome if isinstance(outcome, Failure) else None

    def _rows(self) -> dict[str, NetworkRow]:
        """All networks by their names; of INT8 and random ones those that were measured."""
        networks = self.networks
        for row in (*(row for row in self.front if row.requested), networks.dense, networks.base):
            self._measured(row.report)
        whole = [*self.front, networks.dense, networks.base]
        whole += [row for row in networks.int8 if self._answers(row)]
        rows = [self._network(row, networks.dense, networks.base) for row in whole]
        rows += [self._network(row, None, None) for row in networks.random if self._answers(row)]
        return {row.name: row for row in with_corrected_p_values(rows)}

    def _network(self, row: ReportedNetwork, dense: ReportedNetwork | None, base: ReportedNetwork | None) -> NetworkRow:
        """A row, compared with the dense and the base network, unless it is the same one."""
        plan, network = self.plan, derive(self.plan.space.network, row.architecture)
        search = None if row.search is None else self._measured(row.search)
        report = self._answers(row)
        known = self._measured(row.report) if search is None else search
        prefill, decode = self._seconds(row.architecture)
        against_dense, against_base, against_random, against_original = (
            None if other is None or other.report.identity == row.report.identity else self._answers(other)
            for other in (dense, base, self._of_name(f"{row.name} random"), self._original(row))
        )
        whole = self._measured(self.networks.dense.report)
        return NetworkRow(
            name=row.name,
            architecture=row.architecture,
            narrow_mlps=sum(
                layer.mlp_width < plan.space.network.layers[index].mlp_width
                for index, layer in zip(row.architecture.layers, network.layers, strict=True)
            ),
            parameters=known.parameters,
            bytes=known.bytes,
            cache_bytes_per_token=cache_bytes(network, plan.dtype),
            kv_cache_bytes=self._kv_cache_bytes(row.architecture),
            ratio=whole.bytes / known.bytes,
            prefill_seconds=prefill,
            decode_seconds=decode,
            speed=self._speed(row),
            search_accuracy=None if search is None else self._search_accuracy(row.architecture, search),
            report_accuracy=None if report is None else report.accuracy,
            interval=None if report is None else report.interval,
            by_task={} if report is None else task_rows(report, against_dense, against_base),
            macro=None if report is None else macro_row(report, against_dense, against_base),
            versus_dense=_compared(report, against_dense),
            versus_base=_compared(report, against_base),
            versus_random=_compared(report, against_random),
            versus_original=_compared(report, against_original),
            non_inferiority=(non_inferiority(report, against_dense, self.margin) if report and against_dense else None),
        )

    def _search_accuracy(self, architecture: Architecture, measured: Measurement) -> float:
        """By which the network was chosen, or would have been."""
        chosen_by = self.accuracies.get(architecture)
        return accuracy(measured, self.plan.settings.metrics) if chosen_by is None else chosen_by

    def _of_name(self, name: str) -> ReportedNetwork | None:
        networks = self.networks
        return next((row for row in (*networks.front, networks.dense, *networks.random) if row.name == name), None)

    def _original(self, row: ReportedNetwork) -> ReportedNetwork | None:
        """The network that an INT8 twin was made from."""
        return self._of_name(row.name.removesuffix(" int8")) if row in self.networks.int8 else None

    def _advantage(self) -> Advantage | None:
        pairs = [(row, self._of_name(f"{row.name} random")) for row in self.front]
        answers = [(self._answers(row), self._answers(other)) for row, other in pairs]
        return advantage([(mine, theirs) for mine, theirs in answers if mine and theirs])

    def _kv_cache_bytes(self, architecture: Architecture) -> int | None:
        """Of the batch that is served, at its longest."""
        if self.load is None:
            return None
        network = derive(self.plan.space.network, architecture)
        return self.load.batch * cache_bytes(network, self.plan.dtype, self.load.longest)

    def _seconds(self, architecture: Architecture) -> tuple[float | None, float | None]:
        """Seconds of the whole prefill and of one step of decoding, by the cost table."""
        if self.times is None:
            return None, None
        prefill, decode = self.times.of(architecture)
        return prefill, decode

    def _speeds(self) -> dict[str, Speed | Failure]:
        """Of each network that was timed, by its name: together with the others or, by an earlier release, alone."""
        networks, together = self.networks, self._outcome(self.networks.speeds)
        if isinstance(together, Measurement) and together.speed is not None:
            return dict(zip((row.name for row in networks.timed), (together.speed, *together.speeds), strict=True))
        speeds: dict[str, Speed | Failure] = {}
        for row in networks.timed:
            alone = self._outcome(networks.speed_alone(row))
            speed = alone.speed if isinstance(alone, Measurement) else alone or together
            if isinstance(speed, Speed | Failure):
                speeds[row.name] = speed
        return speeds

    def _outcome(self, request: EvaluationRequest | None) -> Measurement | Failure | None:
        return None if request is None else self.history.outcome(request.identity)

    def _speed(self, row: ReportedNetwork) -> SpeedRow | None:
        speed = self.speeds.get(row.name)
        if not isinstance(speed, Speed):
            return None
        prefill, decode = speed.prefill_tokens_per_second, speed.decode_tokens_per_second
        return SpeedRow(
            engine=f"{speed.engine} {speed.engine_version}",
            device=speed.device,
            prefill=(median(prefill), min(prefill), max(prefill)),
            decode=(median(decode), min(decode), max(decode)),
        )

    def _evaluated(self) -> tuple[tuple[EvaluatedNetwork, ...], tuple[str, ...]]:
        front, search = {row.architecture for row in self.front}, self.plan.settings.search
        evaluated, failures = [], []
        for candidate in self.history.candidates():
            outcome = self.history.outcome(self.plan.request(candidate.architecture, "search").identity)
            if isinstance(outcome, Failure):
                failures.append(f"network {candidate.number}: {outcome.kind}, {outcome.reason}")
            elif outcome is not None:
                prefill, decode = self._seconds(candidate.architecture)
                evaluated.append(
                    EvaluatedNetwork(
                        number=candidate.number,
                        # What an asynchronous search asks for at a time is less than what its rows are about.
                        generation=(candidate.number - 1) // search.population
                        if search.asynchronous
                        else candidate.generation,
                        architecture=candidate.architecture,
                        parameters=outcome.parameters,
                        bytes=outcome.bytes,
                        kv_cache_bytes=self._kv_cache_bytes(candidate.architecture),
                        prefill_seconds=prefill,
                        decode_seconds=decode,
                        search_accuracy=self._search_accuracy(candidate.architecture, outcome),
                        on_front=candidate.architecture in front,
                    )
                )
        return tuple(evaluated), tuple(failures)

    def _failures_at_the_end(self) -> list[str]:
        """One line for each network that could not be measured on the report items, and for each speed."""
        networks = self.networks
        failures = [
            (f"{row.name}, left out of the front" if row in networks.front else row.name, self._failure(row.report))
            for row in (*networks.front, *networks.int8, *networks.random)
            if row.requested
        ]
        failures += [(f"speed of {name}", each) for name, each in self.speeds.items() if isinstance(each, Failure)]
        return [f"{what}: {failure.kind}, {failure.reason}" for what, failure in failures if failure is not None]


def _compared(one: ItemAnswers | None, other: ItemAnswers | None) -> Comparison | None:
    return None if one is None or other is None else compare(one, other)
