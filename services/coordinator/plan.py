"""Everything that a search depends on, and the requests that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint
from shared.architecture import Architecture, Quantization, dense
from shared.drop_orders import from_json, to_json
from shared.identity import INT8_VERSION, SEARCH, difference
from shared.manifest import search_space
from shared.messages import CheckpointRef, CostSpec, Dtype, EvaluationRequest, EvaluationSpec, TaskItems
from shared.network.shape import NetworkShape
from shared.settings import ItemsPart, SearchSettings, ServingSettings, parse_settings
from shared.space import QUANTIZATIONS, SearchSpace


@dataclass(frozen=True)
class SearchPlan:
    """Everything that a search depends on. `int8_version` is how networks in INT8 are, or were, computed."""

    settings: SearchSettings
    space: SearchSpace
    supernet: CheckpointRef
    base: CheckpointRef
    dtype: Dtype
    int8_version: int = INT8_VERSION

    @property
    def estimates(self) -> bool:
        """Whether the front is chosen by estimates of the accuracies, instead of these as they were measured."""
        return self.settings.search.strategy == "bayesian"

    @property
    def recipe(self) -> dict[str, Any]:
        """What a history must agree with to be continued."""
        return {
            **SEARCH.of(self.settings.model_dump(mode="json")),
            "supernet": self.supernet.digest,
            "base": self.base.digest,
            "dtype": self.dtype,
            "drop_order": to_json(self.space.drop_order),
            "reference_point": self._reference_point,
        }

    @property
    def _reference_point(self) -> list[Any]:
        """How `results.reference_point` chooses it."""
        return ["just above", "first generation"] if self.estimates else [ReferencePoint.cost, ReferencePoint.accuracy]

    def about(self) -> dict[str, Any]:
        """What a history says of its search. Beside the recipe the settings as they were when it was begun, and the
        model's layers, from which sizes can be computed without the model."""
        return {
            "recipe": self.recipe,
            "settings": self.settings.model_dump(mode="json"),
            "network": self.space.network.to_json(),
        }

    def request(self, architecture: Architecture, part: ItemsPart) -> EvaluationRequest:
        """Measure a sub-network on the `search` items, or its slice of them, or on the `report` items."""
        return self._request(self.supernet, architecture, self._spec(architecture, part))

    def base_request(self, part: ItemsPart) -> EvaluationRequest:
        """Measure the untouched base model."""
        whole = dense(self.space.network)
        return self._request(self.base, whole, self._spec(whole, part))

    def speeds_request(self, serving: ServingSettings, networks: Sequence[Architecture]) -> EvaluationRequest:
        """Measure how fast sub-networks are, the first one by itself and the others beside it, all on one device; apart
        from their accuracies, which depend on no machine."""
        first, *others = networks
        speed = serving.speed.model_copy(update={"networks": tuple(others)})
        return self._request(self.supernet, first, EvaluationSpec(dtype=self.dtype, speed=speed))

    def costs_request(self, serving: ServingSettings) -> EvaluationRequest:
        """Measure what the parts of every network take that the search or its report may time, the dense one
        included."""
        asked: set[Quantization] = {"none", *self.space.quantizations}
        if self.settings.remeasure_int8:
            asked.add("int8")
        costs = CostSpec(
            engine=serving.engine,
            workload=serving.workload,
            mlp_widths=tuple(dict.fromkeys((*self.space.network.mlp_widths, *self.space.mlp_widths))),
            quantizations=tuple(one for one in QUANTIZATIONS if one in asked),
            attention=self.space.attentions,
        )
        whole = dense(self.space.network)
        return self._request(self.supernet, whole, EvaluationSpec(dtype=self.dtype, costs=costs))

    def _spec(self, architecture: Architecture, part: ItemsPart) -> EvaluationSpec:
        """What is measured of a network."""
        spec, slices = self.settings.spec(part, self.dtype), self.settings.search.slices
        if part == "report" or slices == 1:
            return spec
        return spec.model_copy(update={"tasks": tuple(_own(task, architecture, slices) for task in spec.tasks)})

    def _request(
        self, checkpoint: CheckpointRef, architecture: Architecture, spec: EvaluationSpec
    ) -> EvaluationRequest:
        return EvaluationRequest(
            search=self.settings.name,
            checkpoint=checkpoint,
            architecture=architecture,
            spec=spec.computing(architecture, self.int8_version),
        )


def own_slice(architecture: Architecture, items: int, slices: int) -> slice:
    """The one of several slices of a number of items, as large as can be, that a network is measured on: a matter of
    chance, but always the same."""
    number = int(architecture.digest, 16) % slices
    return slice(items * number // slices, items * (number + 1) // slices)


def _own(items: TaskItems, architecture: Architecture, slices: int) -> TaskItems:
    own = own_slice(architecture, items.stop - items.start, slices)
    return items.model_copy(update={"start": items.start + own.start, "stop": items.start + own.stop})


def plan_of(history: History, settings: SearchSettings) -> SearchPlan:
    """The plan of the search that a history belongs to, `settings` being those with which it was last run. Where the
    checkpoints lie isn't known."""
    about = history.about()
    recipe, network = about["recipe"], NetworkShape.from_json(about["network"], str(history.path))
    return SearchPlan(
        settings=settings,
        space=search_space(network, settings.space, from_json(recipe["drop_order"])),
        supernet=CheckpointRef(location="", digest=recipe["supernet"]),
        base=CheckpointRef(location="", digest=recipe["base"]),
        dtype=recipe["dtype"],
        int8_version=history.int8_version(),
    )


def difference_of_rules(history: History, asked: SearchSettings) -> str | None:
    """In what a search that has begun drops layers by other rules than is asked for, in words; None if it doesn't. A
    recipe has the orders that the rules made."""
    begun = parse_settings(history.about()["settings"], str(history.path))
    then, now = ({"depth_rule": " or ".join(each.space.depth_rules)} for each in (begun, asked))
    return difference(then, now, "space.")
