"""The results of a search, computed from its history: costs, accuracies, the front."""

from collections.abc import Sequence
from itertools import chain, islice

from scipy.special import expit

from services.coordinator.cost_model import CostModel
from services.coordinator.estimates import Estimates
from services.coordinator.evaluated import Evaluated
from services.coordinator.history import History
from services.coordinator.pareto import ReferencePoint, non_dominated
from services.coordinator.plan import SearchPlan
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import CostTable, EvaluationRequest, ItemScores, Measurement, Outcome, correct

JUST_ABOVE = 1.001
"""A reference point's place in costs of the dense network, at which this still adds something."""


def accuracy(measurement: Measurement, metrics: Sequence[str]) -> float:
    """Share of all items answered right, all tasks' items together."""
    values = correct(measurement.scores, metrics)
    return sum(values) / len(values)


def evaluated_network(
    request: EvaluationRequest, outcome: Outcome, costs: CostModel, metrics: Sequence[str]
) -> Evaluated:
    """A network as it was measured; `metrics` is what is counted of each task."""
    architecture = request.architecture
    if not isinstance(outcome, Measurement):
        return Evaluated(architecture, costs.of(architecture), None)
    sureness = chain.from_iterable(
        _sureness(scores, metric) for scores, metric in zip(outcome.scores, metrics, strict=True)
    )
    items = " ".join(f"{task.task} {task.start}" for task in request.spec.tasks)
    return Evaluated(architecture, costs.of(architecture), accuracy(outcome, metrics), tuple(sureness), items)


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
    serving = plan.settings.serving
    load = None if serving is None else serving.workload
    return CostModel(plan.space, plan.settings.objectives, plan.dtype, cost_tables(plan, history), load)


def evaluated_so_far(plan: SearchPlan, history: History) -> list[Evaluated]:
    """Every network that was measured, in the order in which they were asked for, with the accuracy by which networks
    are chosen.

    Raises UserError if the tables that their costs are computed from have not been measured yet.
    """
    return as_chosen_by(plan, measured_networks(plan, history))


def measured_networks(plan: SearchPlan, history: History) -> list[Evaluated]:
    """Every network that was measured, as it was measured, in the order in which they were asked for.

    Raises UserError if the tables that their costs are computed from have not been measured yet.
    """
    costs, networks = cost_model(plan, history), []
    for candidate in history.candidates():
        request = plan.request(candidate.architecture, "search")
        outcome = history.outcome(request.identity)
        if isinstance(outcome, Measurement):
            networks.append(evaluated_network(request, outcome, costs, plan.settings.metrics))
    return networks


def as_chosen_by(plan: SearchPlan, measured: Sequence[Evaluated]) -> list[Evaluated]:
    """Networks with the accuracies by which the front is chosen: with the strategy `bayesian` those that they probably
    have, with others those that were measured."""
    return Estimates(plan.space, measured).probable if plan.estimates else list(measured)


def on_all_items(plan: SearchPlan, measured: Sequence[Evaluated]) -> list[Evaluated]:
    """Networks as they were measured, but for what the slice of the items that each was measured on makes harder or
    easier."""
    return Estimates(plan.space, measured).levelled if plan.settings.search.slices > 1 else list(measured)


def first_networks(plan: SearchPlan, history: History) -> set[Architecture]:
    """Those that the first row of a search's generations is about."""
    if not plan.settings.search.asynchronous:
        return {candidate.architecture for candidate in history.generation(0)}
    asked = {plan.request(one.architecture, "search").identity: one.architecture for one in history.candidates()}
    finished = dict.fromkeys(asked[each.identity] for each in history.arrivals(0) if each.identity in asked)
    return set(islice(finished, plan.settings.search.population))


def reference_point(plan: SearchPlan, costs: CostModel, first: Sequence[Evaluated]) -> ReferencePoint:
    """Where hypervolumes of a search are measured from; `first` are the networks of its first generation. Where the
    front is chosen by estimates, that is close to the corner of what can be reached: there differences between fronts
    show."""
    accuracies = [network.accuracy for network in as_chosen_by(plan, first) if network.accuracy is not None]
    if not plan.estimates or not accuracies:
        return ReferencePoint(costs.dense)
    return ReferencePoint(costs.dense, JUST_ABOVE, min(accuracies))


def front(evaluated: Sequence[Evaluated]) -> list[Architecture]:
    """Networks that no other measured network dominates, from the least of the first cost."""
    return [network.architecture for network in best_networks(evaluated)]


def best_networks(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Those that no other measured one dominates, from the least of the first cost; of equal ones only the first."""
    measured = [network for network in evaluated if network.accuracy is not None]
    chosen = non_dominated([n.costs for n in measured], [n.accuracy or 0.0 for n in measured])
    return [measured[index] for index in chosen]


def _sureness(scores: ItemScores, metric: str) -> Sequence[float]:
    """Of each item how sure the right answer is, from 0 to 1: the logistic function of the metric's margin; where the
    metric has none, whether the answer is right."""
    margins = scores.margins if metric == "acc" else scores.margins_by_metric.get(metric, ())
    sureness: Sequence[float] = expit(margins).tolist() if margins else scores.metrics[metric]
    return sureness
