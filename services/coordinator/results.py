"""The results of a search, computed from its history: costs, accuracies, the front."""

from collections.abc import Sequence

from services.coordinator.cost_model import CostModel
from services.coordinator.evaluated import Evaluated
from services.coordinator.history import History
from services.coordinator.pareto import non_dominated
from services.coordinator.plan import SearchPlan
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import CostTable, Measurement, correct


def accuracy(measurement: Measurement, metrics: Sequence[str]) -> float:
    """Share of all items answered right, all tasks' items together."""
    values = correct(measurement.scores, metrics)
    return sum(values) / len(values)


def cost_tables(plan: SearchPlan, history: History) -> tuple[CostTable, ...]:
    """The cost tables that this search started with; none if it times nothing.

    Raises UserError if they have not been measured yet.
    """
    if plan.settings.serving is None:
        return ()
    outcome = history.outcome(plan.costs_request(plan.settings.serving).identity)
    if not isinstance(outcome, Measurement):
        raise UserError(f"{history.path}: the cost table is not measured yet; run `nasfarm search` first")
    return outcome.costs


def cost_model(plan: SearchPlan, history: History) -> CostModel:
    """The costs that the search trades against accuracy.

    Raises UserError if the cost tables that it needs have not been measured yet.
    """
    return CostModel(plan.space, plan.settings.objectives, plan.dtype, cost_tables(plan, history))


def evaluated_so_far(plan: SearchPlan, history: History) -> list[Evaluated]:
    """Every network that was measured, in the order in which they were asked for.

    Raises UserError if the tables that their costs are computed from have not been measured yet.
    """
    costs, networks = cost_model(plan, history), []
    for candidate in history.candidates():
        outcome = history.outcome(plan.request(candidate.architecture, "search").identity)
        if isinstance(outcome, Measurement):
            measured = accuracy(outcome, plan.settings.metrics)
            networks.append(Evaluated(candidate.architecture, costs.of(candidate.architecture), measured))
    return networks


def front(evaluated: Sequence[Evaluated]) -> list[Architecture]:
    """Networks that no other measured network dominates, from the least of the first cost."""
    return [network.architecture for network in best_networks(evaluated)]


def best_networks(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Those that no other measured one dominates, from the least of the first cost; of equal ones only the first."""
    measured = [network for network in evaluated if network.accuracy is not None]
    chosen = non_dominated([n.costs for n in measured], [n.accuracy or 0.0 for n in measured])
    return [measured[index] for index in chosen]
