"""What an asynchronous search asked for, and what its strategy asks for if it is told the same again."""

from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.results import cost_model, evaluated_network
from services.coordinator.strategies import make_strategy
from shared.architecture import Architecture
from shared.messages import EvaluationRequest


def asks(history: History) -> list[list[Architecture]]:
    """What was asked for, each time."""
    candidates = history.candidates()
    numbers = dict.fromkeys(candidate.generation for candidate in candidates)
    return [[each.architecture for each in candidates if each.generation == number] for number in numbers]


def proposals(plan: SearchPlan, history: History) -> list[list[Architecture]]:
    """What a new strategy asks for, told before each time what was known then, as the history says."""
    costs = cost_model(plan, history)
    strategy, untold = make_strategy(costs, plan.settings.search), history.arrivals(0)
    requests: dict[str, EvaluationRequest] = {}
    proposed = []
    for number, networks in enumerate(asks(history)):
        known = history.generation(number)[0].known
        assert known is not None
        told = [each for each in untold if each.number <= known and each.identity in requests]
        untold = [each for each in untold if each not in told]
        strategy.tell(
            [evaluated_network(requests[each.identity], each.outcome, costs, plan.settings.metrics) for each in told]
        )
        proposed.append(strategy.ask(len(networks)))
        requests |= {request.identity: request for request in (plan.request(each, "search") for each in networks)}
    return proposed
