"""From a finished search to what its report says."""

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from services.coordinator.costs import CostModel
from services.coordinator.front import Reported, ReportedNetworks
from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint
from services.coordinator.plan import SearchPlan
from services.coordinator.report.content import Comparison, EvaluatedNetwork, NetworkRow, ReportContent, SpeedRow
from services.coordinator.results import accuracy, cost_model, cost_tables
from services.coordinator.statistics import mcnemar, wilson_interval
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, Measurement, correct
from shared.settings import TIMES


def assemble(plan: SearchPlan, history: History, front: Sequence[Architecture]) -> ReportContent:
    """Content of the report. Raises UserError if the front has not been measured on the report items yet."""
    return _Assembly(plan, history, front).content()


class _Assembly:
    def __init__(self, plan: SearchPlan, history: History, front: Sequence[Architecture]) -> None:
        self.plan = plan
        self.history = history
        self.networks = ReportedNetworks(plan, front)
        self.tables = cost_tables(plan, history)
        self.times = CostModel(plan.space, TIMES, plan.dtype, self.tables) if self.tables else None

    def content(self) -> ReportContent:
        plan, shape, networks = self.plan, self.plan.space.shape, self.networks
        evaluated, failures = self._evaluated()
        return ReportContent(
            name=plan.settings.name,
            model=plan.settings.model,
            headline=self._headline(),
            created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            layers=shape.layers,
            mlp_width=shape.mlp_width,
            mlp_widths=plan.space.mlp_widths,
            objectives=plan.settings.objectives,
            serving=self._serving(),
            front=tuple(self._network(row) for row in networks.front),
            int8=tuple(self._network(row) for row in networks.int8 if not self._failure(row.report)),
            dense=self._network(networks.dense),
            base=self._network(networks.base),
            evaluated=evaluated,
            generations=tuple(self.history.generations()),
            reference_point=self._reference_point().corner,
            failures=(*failures, *self._failures_at_the_end()),
            provenance=self._provenance(len(evaluated)),
        )

    def _measured(self, request: EvaluationRequest) -> Measurement:
        outcome = self.history.outcome(request.identity)
        if not isinstance(outcome, Measurement):
            raise UserError(
                f"{self.history.path}: the front is not measured on the report items yet; "
                "run `nasfarm search` to the end"
            )
        return outcome

    def _failure(self, request: EvaluationRequest | None) -> Failure | None:
        outcome = None if request is None else self.history.outcome(request.identity)
        return outcome if isinstance(outcome, Failure) else None

    def _network(self, row: Reported) -> NetworkRow:
        plan = self.plan
        report, metrics = self._measured(row.report), plan.settings.metrics
        values = correct(report.scores, metrics)
        prefill, decode = self._seconds(row.architecture)
        return NetworkRow(
            name=row.name,
            architecture=row.architecture,
            narrow_mlps=sum(width < plan.space.shape.mlp_width for width in row.architecture.mlp_widths),
            parameters=report.parameters,
            bytes=report.bytes,
            ratio=self._measured(self.networks.dense.report).bytes / report.bytes,
            prefill_seconds=prefill,
            decode_seconds=decode,
            speed=self._speed(row),
            search_accuracy=None if row.search is None else accuracy(self._measured(row.search), metrics),
            report_accuracy=sum(values) / len(values),
            interval=wilson_interval(sum(values), len(values)),
            report_by_task={
                scores.task: sum(scores.metrics[metric]) / len(scores.items)
                for scores, metric in zip(report.scores, metrics, strict=True)
            },
            versus_dense=self._compare(row, self.networks.dense),
            versus_base=self._compare(row, self.networks.base),
        )

    def _seconds(self, architecture: Architecture) -> tuple[float | None, float | None]:
        """Of the whole prefill and of one step of decoding, by the cost table."""
        if self.times is None:
            return None, None
        prefill, decode = self.times.of(architecture)
        return prefill, decode

    def _speed(self, row: Reported) -> SpeedRow | None:
        if row.speed is None or self._failure(row.speed):
            return None
        speed = self._measured(row.speed).speed
        if speed is None:
            raise ValueError(f"the measured speed of {row.name} holds no speed")
        prefill, decode = speed.prefill_tokens_per_second, speed.decode_tokens_per_second
        return SpeedRow(
            prefill=(median(prefill), min(prefill), max(prefill)), decode=(median(decode), min(decode), max(decode))
        )

    def _compare(self, row: Reported, other: Reported) -> Comparison | None:
        if row.report.identity == other.report.identity:
            return None
        metrics = self.plan.settings.metrics
        mine = correct(self._measured(row.report).scores, metrics)
        theirs = correct(self._measured(other.report).scores, metrics)
        return Comparison(difference=(sum(mine) - sum(theirs)) / len(mine), p_value=mcnemar(mine, theirs))

    def _evaluated(self) -> tuple[tuple[EvaluatedNetwork, ...], tuple[str, ...]]:
        front = {row.architecture for row in self.networks.front}
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
                        generation=candidate.generation,
                        architecture=candidate.architecture,
                        parameters=outcome.parameters,
                        bytes=outcome.bytes,
                        prefill_seconds=prefill,
                        decode_seconds=decode,
                        search_accuracy=accuracy(outcome, self.plan.settings.metrics),
                        on_front=candidate.architecture in front,
                    )
                )
        return tuple(evaluated), tuple(failures)

    def _failures_at_the_end(self) -> list[str]:
        """One line for each INT8 network and each speed that could not be measured."""
        networks = self.networks
        asked: list[tuple[str, EvaluationRequest | None]] = [(row.name, row.report) for row in networks.int8]
        asked += [(f"speed of {row.name}", row.speed) for row in (*networks.front, networks.dense, *networks.int8)]
        failures = [(what, self._failure(request)) for what, request in asked]
        return [f"{what}: {failure.kind}, {failure.reason}" for what, failure in failures if failure is not None]

    def _reference_point(self) -> ReferencePoint:
        return ReferencePoint(cost_model(self.plan, self.history).dense)

    def _serving(self) -> str | None:
        """With what, and under which load, speeds and seconds were measured."""
        serving = self.plan.settings.serving
        if serving is None:
            return None
        table, load = self.tables[0], serving.workload
        return (
            f"{table.engine} {table.engine_version} on {table.device}, {table.dtype}, batch {load.batch}, "
            f"{load.prompt_tokens} tokens read and {load.generated_tokens} generated by each sequence, "
            f"{serving.repeats} repeats"
        )

    def _headline(self) -> str:
        tasks = []
        for task in self.plan.settings.tasks:
            shots = f"{task.num_fewshot}-shot, " if task.num_fewshot is not None else ""
            tasks.append(
                f"{task.name} ({shots}{task.metric}; {task.search.items} items to search, "
                f"{task.report.items} others to report)"
            )
        origins = self.history.about().get("origins", {})
        data = "; ".join(f"{what}: {origin}" for what, origin in origins.items())
        return f"Measured on {', '.join(tasks)}." + (f" {data}." if data else "")

    def _provenance(self, looked_at: int) -> tuple[tuple[str, str], ...]:
        plan, about = self.plan, self.history.about()
        measurement = self._measured(self.networks.dense.report)
        settings, point, serving = plan.settings, self._reference_point(), self._serving()
        pairs = [
            ("Base model", f"{settings.model} ({plan.base.digest})"),
            ("Super-network", plan.supernet.digest),
            *((f"Origin of {what}", str(origin)) for what, origin in about.get("origins", {}).items()),
            ("Networks looked at", str(looked_at)),
            ("Search space", f"{plan.space.networks} distinct networks, {plan.space.genomes} genomes"),
            ("Depths, MLP widths", f"{list(plan.space.depths)}, {list(plan.space.mlp_widths)}"),
            ("Depth rule, order of dropping", f"{settings.space.depth_rule}, {list(plan.space.drop_order)}"),
            ("Strategy", f"{settings.search.strategy}, generations of {settings.search.population}"),
            ("Seeds", f"search {settings.search.seed}, training {settings.training.seed}"),
            ("Fine-tuning", ", ".join(f"{key} {value}" for key, value in settings.training.model_dump().items())),
            *about.get("provenance", {}).items(),
            ("Arithmetic", plan.dtype),
            ("Objectives", ", ".join(settings.objectives)),
            ("Quantization", ", ".join(plan.space.quantizations)),
            *((("Speeds measured with", serving),) if serving else ()),
            ("Reference point", f"{point.cost} x the dense network's cost, accuracy {point.accuracy}"),
            ("Search begun", str(about["created"])),
            *((f"Version of {name}" if name != "device" else "Device", v) for name, v in measurement.versions.items()),
            *((f"Items of {s.task}, digest", s.items_digest) for s in measurement.scores),
        ]
        return tuple(pairs)
