"""Everything that a search depends on, and the requests that it makes."""

from dataclasses import dataclass
from typing import Any

from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint
from shared.architecture import Architecture, Quantization
from shared.messages import CheckpointRef, CostSpec, Dtype, EvaluationRequest, EvaluationSpec
from shared.settings import Part, ReportingSettings, SearchSettings, ServingSettings, parse_settings
from shared.shape import ModelShape
from shared.space import QUANTIZATIONS, SearchSpace, dense


@dataclass(frozen=True)
class SearchPlan:
    """Everything that a search depends on."""

    settings: SearchSettings
    space: SearchSpace
    supernet: CheckpointRef
    base: CheckpointRef
    dtype: Dtype

    def about(self) -> dict[str, object]:
        """What a history must agree with to be continued; the budget may be raised."""
        changeable = {"evaluations"}
        if not self.settings.search.overlap:
            changeable.add("overlap")  # histories from before there was a choice say nothing of it
        settings = self.settings.model_dump(
            mode="json", exclude={"search": changeable, "training": {"checkpoint_every_seconds"}}
        )
        # What is claimed is fixed before anything is measured; histories from before there was a choice say nothing.
        if self.settings.reporting == ReportingSettings():
            del settings["reporting"]
        return {
            "settings": settings,
            "supernet": self.supernet.digest,
            "base": self.base.digest,
            "dtype": self.dtype,
            "shape": vars(self.space.shape),
            "drop_order": list(self.space.drop_order),
            "reference_point": [ReferencePoint.cost, ReferencePoint.accuracy],
        }

    def request(self, architecture: Architecture, part: Part) -> EvaluationRequest:
        """Measure a sub-network on the `search` or the `report` items."""
        return self._request(self.supernet, architecture, self.settings.spec(part, self.dtype))

    def base_request(self, part: Part) -> EvaluationRequest:
        """Measure the untouched base model."""
        return self._request(self.base, dense(self.space.shape), self.settings.spec(part, self.dtype))

    def speed_request(self, serving: ServingSettings, architecture: Architecture) -> EvaluationRequest:
        """Measure how fast a sub-network is; apart from its accuracy, which depends on no machine."""
        return self._request(self.supernet, architecture, EvaluationSpec(dtype=self.dtype, speed=serving.speed))

    def costs_request(self, serving: ServingSettings) -> EvaluationRequest:
        """Measure what the parts of every network take that the search or its report may time, the dense one
        included."""
        asked: set[Quantization] = {"none", *self.space.quantizations}
        if self.settings.remeasure_int8:
            asked.add("int8")
        costs = CostSpec(
            engine=serving.engine,
            workload=serving.workload,
            mlp_widths=tuple(dict.fromkeys((self.space.shape.mlp_width, *self.space.mlp_widths))),
            quantizations=tuple(one for one in QUANTIZATIONS if one in asked),
        )
        whole = dense(self.space.shape)
        return self._request(self.supernet, whole, EvaluationSpec(dtype=self.dtype, costs=costs))

    def _request(
        self, checkpoint: CheckpointRef, architecture: Architecture, spec: EvaluationSpec
    ) -> EvaluationRequest:
        return EvaluationRequest(search=self.settings.name, checkpoint=checkpoint, architecture=architecture, spec=spec)


def plan_of(history: History, evaluations: int) -> SearchPlan:
    """The plan of the search that a history belongs to; `evaluations` is the budget, which the history leaves open."""
    about: dict[str, Any] = history.about()
    values = about["settings"]
    values["search"]["evaluations"] = evaluations
    settings = parse_settings(values, str(history.path))
    space = settings.space
    return SearchPlan(
        settings=settings,
        space=SearchSpace(
            ModelShape(**about["shape"]),
            space.depths,
            space.mlp_widths,
            tuple(about["drop_order"]),
            space.quantization,
        ),
        supernet=CheckpointRef(location="", digest=about["supernet"]),
        base=CheckpointRef(location="", digest=about["base"]),
        dtype=about["dtype"],
    )
