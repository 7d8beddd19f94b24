"""What a search is going to cost, said before it begins."""

from dataclasses import dataclass

from services.coordinator.budget import networks_to_measure
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.reported_networks import ReportedNetworks
from services.coordinator.results import cost_model, evaluated_so_far, front
from shared.drop_orders import DIVERGENCE_TOKENS, divergence_rounds
from shared.messages import EvaluationRequest, Measurement
from shared.network.sizes import outer_parameters, parameters
from shared.settings import SearchSettings
from shared.space import SearchSpace

ASSUMED_TOKENS_PER_ITEM = 60
"""A question with its choices, without examples, where nothing has been read yet."""

TRAINING_COST = 4.0
"""A training step takes about this many times the forward pass: two more for the gradients, one for the optimiser."""
TABLE_RUNS = 12
"""Times that each entry of a cost table is run, roughly."""
DECODE_TOKENS = 10
"""A decoding step takes as long as so many tokens read at once, or more: it waits for the weights."""
INT8_COST = 3.5
"""A network in INT8 takes about this many times longer to score than unquantised (three to five times on a CPU)."""


@dataclass(frozen=True)
class Work:
    """What is still to be measured: networks on the search and on the report items, `int8` of the latter in INT8; and
    how often the workload is run for cost tables and for the speeds of the report."""

    searched: int
    reported: int
    table_runs: int
    speed_runs: int
    int8: int = 0


@dataclass(frozen=True)
class Estimate:
    """Seconds of the three stages."""

    training: float
    search: float
    report: float

    @property
    def total(self) -> float:
        """Seconds altogether."""
        return self.training + self.search + self.report


def whole_work(settings: SearchSettings, space: SearchSpace) -> Work:
    """All measurements of a search that has not begun."""
    networks = settings.reporting.networks
    served = (networks + 1) * (2 if settings.remeasure_int8 else 1)  # with the dense one
    quantizations = len({"none", *settings.space.quantization}) + settings.remeasure_int8
    kinds = 1.5 if "skip" in settings.space.attention else 1  # layers without attention are timed at one depth
    parts = round((len(settings.space.mlp_widths) + 1) * quantizations * kinds)
    return Work(
        searched=networks_to_measure(settings.search, space),
        reported=served + 1 + (networks if settings.reporting.random else 0),
        table_runs=TABLE_RUNS * parts if settings.serving else 0,
        speed_runs=served * _runs(settings),
        int8=networks + 1 if settings.remeasure_int8 else 0,
    )


def work_left(plan: SearchPlan, history: History) -> Work:
    """The measurements that the history doesn't hold."""
    whole, serving = whole_work(plan.settings, plan.space), plan.settings.serving

    def missing(requests: list[EvaluationRequest]) -> int:
        return sum(not isinstance(history.outcome(request.identity), Measurement) for request in requests)

    tables = whole.table_runs if serving and missing([plan.costs_request(serving)]) else 0
    searched = unsearched(plan, history)
    if searched:
        return Work(searched, whole.reported, tables, whole.speed_runs, whole.int8)
    networks = networks_of_report(plan, history)
    reported = [request for request in (*networks.controls, *networks.others) if request.spec.tasks]
    untimed = missing([] if networks.speeds is None else [networks.speeds]) * len(networks.timed)
    int8 = [request for request in reported if request.architecture.quantization == "int8"]
    return Work(0, missing(reported), tables, untimed * _runs(plan.settings), missing(int8))


def unsearched(plan: SearchPlan, history: History) -> int:
    """Networks that are still to be asked for, or of which nothing is known yet. What was asked for and failed doesn't
    count: it is only tried again where that may help."""
    asked = history.candidates()
    unasked = networks_to_measure(plan.settings.search, plan.space, len(asked)) - len(asked)
    return unasked + sum(
        history.outcome(plan.request(candidate.architecture, "search").identity) is None for candidate in asked
    )


def networks_of_report(plan: SearchPlan, history: History) -> ReportedNetworks:
    """What the report of a search is about, once all of it is searched."""
    return ReportedNetworks(plan, cost_model(plan, history), front(evaluated_so_far(plan, history)))


def estimate(
    settings: SearchSettings, space: SearchSpace, rate: float, search_tokens: int, report_tokens: int, work: Work
) -> Estimate:
    """Time of a search on a machine that runs `rate` parameters times tokens per second (of the decoder's layers).

    `search_tokens` and `report_tokens` are what one network reads for all items; in a search it may read a slice only.
    """
    _, typical = _sizes(space)
    served = _served_tokens(settings)
    return Estimate(
        training=training_seconds(settings, space, rate),
        search=(work.searched * search_tokens / settings.search.slices + work.table_runs * served) * typical / rate,
        report=((work.reported + (INT8_COST - 1) * work.int8) * report_tokens + work.speed_runs * served)
        * typical
        / rate,
    )


def training_seconds(settings: SearchSettings, space: SearchSpace, rate: float) -> float:
    """Time of the fine-tuning on a machine that runs `rate` parameters times tokens per second, and of finding which
    layers to drop by divergence."""
    training, (whole, typical) = settings.training, _sizes(space)
    full = 1 / training.full_every  # of all steps
    taught = 0 if training.distillation == "none" else whole * (1 - full)  # a forward pass of the teacher
    steps = training.steps * training.tokens_per_step * (TRAINING_COST * (full * whole + (1 - full) * typical) + taught)
    found = _divergence_work(space) if "divergence" in settings.space.depth_rules else 0
    return (steps + found) / rate


def _divergence_work(space: SearchSpace) -> float:
    """Parameters times tokens of finding which layers to drop by divergence: each one that is left, but the first and
    the last one, is tried to be left out (`DIVERGENCE_TOKENS`)."""
    network, (whole, _) = space.network, _sizes(space)
    rounds = divergence_rounds(network.depth, network.depth - min(space.depths))
    tried = sum(network.depth - 2 - found for found in range(rounds))
    return tried * DIVERGENCE_TOKENS * (whole / 2 + network.vocab_size * network.outputs)


def _sizes(space: SearchSpace) -> tuple[int, float]:
    """Parameters of the layers: of the whole network, and of one halfway between that and the smallest."""
    outside = outer_parameters(space.network)
    whole, smallest = (parameters(space.network) - outside, space.parameters(space.smallest()) - outside)
    return whole, (whole + smallest) / 2


def assumed_tokens(settings: SearchSettings) -> tuple[int, int]:
    """Tokens of all search and of all report items, before any item was read."""
    search = sum(task.search.items for task in settings.tasks) * ASSUMED_TOKENS_PER_ITEM
    report = sum(task.report.items for task in settings.tasks) * ASSUMED_TOKENS_PER_ITEM
    return search, report


def _runs(settings: SearchSettings) -> int:
    """Times that the workload is run for one speed, with one to warm up."""
    return 1 + settings.serving.repeats if settings.serving else 0


def _served_tokens(settings: SearchSettings) -> int:
    """The workload as a number of tokens read at once that takes as long."""
    if settings.serving is None:
        return 0
    load = settings.serving.workload
    return load.batch * load.prompt_tokens + load.generated_tokens * max(load.batch, DECODE_TOKENS)
