"""What a finished or interrupted search was: read back from its history, for reports and status."""

from typing import Any

from services.coordinator.history import History
from services.coordinator.search import SearchPlan, accuracy
from services.coordinator.strategies import Evaluated
from shared.messages import CheckpointRef, Measurement
from shared.settings import parse_settings
from shared.shape import ModelShape
from shared.space import SearchSpace


def plan_of(history: History, evaluations: int) -> SearchPlan:
    """The plan of the search that a history belongs to; `evaluations` is the budget, which the history leaves open."""
    about: dict[str, Any] = history.about()
    values = about["settings"]
    values["search"]["evaluations"] = evaluations
    settings = parse_settings(values, str(history.path))
    shape = ModelShape(**about["shape"])
    return SearchPlan(
        settings=settings,
        space=SearchSpace(shape, settings.space.depths, settings.space.mlp_widths, tuple(about["drop_order"])),
        supernet=CheckpointRef(location="", digest=about["supernet"]),
        base=CheckpointRef(location="", digest=about["base"]),
        dtype=about["dtype"],
    )


def evaluated_so_far(plan: SearchPlan, history: History) -> list[Evaluated]:
    """Every network that was measured, in the order in which they were asked for."""
    networks = []
    for candidate in history.candidates():
        outcome = history.outcome(candidate.identity)
        if isinstance(outcome, Measurement):
            measured = accuracy(outcome, plan.settings.metrics)
            networks.append(Evaluated(candidate.architecture, outcome.parameters, measured))
    return networks
