"""From a finished search to what its report says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from services.coordinator.history import History
from services.coordinator.report.content import Comparison, EvaluatedNetwork, NetworkRow, ReportContent
from services.coordinator.search import SearchPlan, accuracy
from services.coordinator.statistics import mcnemar, wilson_interval
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import EvaluationRequest, Failure, Measurement, correct
from shared.space import dense

BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class _Row:
    """What a table row is made of: a name and the requests that measured the network."""

    name: str
    search: EvaluationRequest
    report: EvaluationRequest


def assemble(plan: SearchPlan, history: History, front: Sequence[Architecture]) -> ReportContent:
    """Content of the report. Raises UserError if the front has not been measured on the report items yet."""
    return _Assembly(plan, history).content(front)


class _Assembly:
    def __init__(self, plan: SearchPlan, history: History) -> None:
        self.plan = plan
        self.history = history
        whole = dense(plan.space.shape)
        self.whole = _Row("dense", plan.request(whole, "search"), plan.request(whole, "report"))
        self.base = _Row("base", plan.base_request("search"), plan.base_request("report"))

    def content(self, front: Sequence[Architecture]) -> ReportContent:
        plan, shape = self.plan, self.plan.space.shape
        evaluated, failures = self._evaluated(set(front))
        rows = [
            _Row(f"N{number}", plan.request(network, "search"), plan.request(network, "report"))
            for number, network in enumerate(reversed(front), start=1)
        ]
        return ReportContent(
            name=plan.settings.name,
            model=plan.settings.model,
            headline=self._headline(),
            created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            layers=shape.layers,
            mlp_width=shape.mlp_width,
            mlp_widths=plan.space.mlp_widths,
            front=tuple(self._network(row) for row in rows),
            dense=self._network(self.whole),
            base=self._network(self.base),
            evaluated=evaluated,
            generations=tuple(self.history.generations()),
            reference_point=(plan.reference_point.size, plan.reference_point.accuracy),
            failures=failures,
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

    def _network(self, row: _Row) -> NetworkRow:
        plan = self.plan
        report, metrics = self._measured(row.report), plan.settings.metrics
        values = correct(report.scores, metrics)
        architecture = row.report.architecture
        whole_bytes = self._measured(self.whole.report).parameters * BYTES[plan.dtype]
        size = report.parameters * BYTES[plan.dtype]
        return NetworkRow(
            name=row.name,
            architecture=architecture,
            narrow_mlps=sum(width < plan.space.shape.mlp_width for width in architecture.mlp_widths),
            parameters=report.parameters,
            bytes=size,
            ratio=whole_bytes / size,
            search_accuracy=accuracy(self._measured(row.search), metrics),
            report_accuracy=sum(values) / len(values),
            interval=wilson_interval(sum(values), len(values)),
            report_by_task={
                scores.task: sum(scores.metrics[metric]) / len(scores.items)
                for scores, metric in zip(report.scores, metrics, strict=True)
            },
            versus_dense=self._compare(row, self.whole),
            versus_base=self._compare(row, self.base),
        )

    def _compare(self, row: _Row, other: _Row) -> Comparison | None:
        if row.report.identity == other.report.identity:
            return None
        metrics = self.plan.settings.metrics
        mine = correct(self._measured(row.report).scores, metrics)
        theirs = correct(self._measured(other.report).scores, metrics)
        return Comparison(difference=(sum(mine) - sum(theirs)) / len(mine), p_value=mcnemar(mine, theirs))

    def _evaluated(self, front: set[Architecture]) -> tuple[tuple[EvaluatedNetwork, ...], tuple[str, ...]]:
        evaluated, failures = [], []
        for candidate in self.history.candidates():
            outcome = self.history.outcome(candidate.identity)
            if isinstance(outcome, Failure):
                failures.append(f"network {candidate.number}: {outcome.kind}, {outcome.reason}")
            elif outcome is not None:
                evaluated.append(
                    EvaluatedNetwork(
                        number=candidate.number,
                        generation=candidate.generation,
                        architecture=candidate.architecture,
                        parameters=outcome.parameters,
                        search_accuracy=accuracy(outcome, self.plan.settings.metrics),
                        on_front=candidate.architecture in front,
                    )
                )
        return tuple(evaluated), tuple(failures)

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
        measurement = self._measured(self.whole.report)
        settings = plan.settings
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
            (
                "Reference point",
                f"{plan.reference_point.size} x dense parameters, accuracy {plan.reference_point.accuracy}",
            ),
            ("Search begun", str(about["created"])),
            *((f"Version of {name}" if name != "device" else "Device", v) for name, v in measurement.versions.items()),
            *((f"Items of {s.task}, digest", s.items_digest) for s in measurement.scores),
        ]
        return tuple(pairs)
