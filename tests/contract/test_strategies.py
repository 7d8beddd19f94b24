"""What every strategy keeps to, and what LINAS is for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from statistics import median
from typing import get_args

import pytest

from services.coordinator.cost_model import CostModel
from services.coordinator.pareto import ReferencePoint, hypervolume
from services.coordinator.predictor_quality import kendall_tau
from services.coordinator.strategies import Evaluated, Strategy, make_strategy
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import CostSpec, Workload
from shared.network.config import network_of
from shared.settings import Objective, StrategyName, StrategySettings
from shared.space import SearchSpace
from tests.support.additive_accuracy import AdditiveAccuracy, example_space, search
from tests.support.pretending import pretended_tables

SPACE = example_space()
SMALL_SHAPE = network_of(
    {
        "model_type": "llama",
        "vocab_size": 100,
        "hidden_size": 32,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }
)
SMALL = SearchSpace(SMALL_SHAPE, depths=(5, 3), mlp_widths=(96, 48), drop_order=(2, 3))
STRATA = 10
ORDERED = replace(SPACE, drop_order=(tuple(range(20, 26)), tuple(range(5, 11)), (25, 7, *range(11, 15))))
SMALL_ORDERED = replace(SMALL, depths=(5, 4, 3), drop_order=((2, 3), (3, 2), (2, 1)))
"""In which layers leave in several orders, which in the small one partly leave the same."""
QUANTIZED, SMALL_QUANTIZED = (replace(space, quantizations=("none", "int8")) for space in (SPACE, SMALL))
MANY: tuple[tuple[Objective, ...], ...] = (("bytes", "decode_seconds"), get_args(Objective))
COSTS = CostSpec(engine="torch", workload=Workload(), mlp_widths=(1,), quantizations=("none", "int8"))

Measure = Callable[[Architecture], float | None]
predicting = pytest.mark.parametrize("name", ["bayesian", "linas"])
every_strategy = pytest.mark.parametrize("name", get_args(StrategyName))


def _costs(space: SearchSpace, objectives: tuple[Objective, ...] = ("parameters",)) -> CostModel:
    request = COSTS.model_copy(update={"mlp_widths": tuple({*space.mlp_widths, space.network.mlp_widths[0]})})
    return CostModel(space, objectives, "bfloat16", pretended_tables(request, "bfloat16"), Workload())


def _strategy(
    name: StrategyName,
    space: SearchSpace = SPACE,
    population: int = 20,
    seed: int = 0,
    objectives: tuple[Objective, ...] = ("parameters",),
) -> Strategy:
    return make_strategy(_costs(space, objectives), StrategySettings(strategy=name, population=population, seed=seed))


def _measured(
    space: SearchSpace,
    generation: list[Architecture],
    measure: Measure,
    objectives: tuple[Objective, ...] = ("parameters",),
) -> list[Evaluated]:
    costs = _costs(space, objectives)
    return [Evaluated(one, costs.of(one), measure(one)) for one in generation]


def _failed(_: Architecture) -> None:
    """A measurement that failed."""


def _run(
    strategy: Strategy,
    generations: int,
    space: SearchSpace = SPACE,
    objectives: tuple[Objective, ...] = ("parameters",),
) -> list[list[Architecture]]:
    """Ask and tell; returns what was asked, generation by generation."""
    accuracy, asked = AdditiveAccuracy(space, seed=1), []
    for _ in range(generations):
        asked.append(strategy.ask(1000))
        strategy.tell(_measured(space, asked[-1], accuracy.measured, objectives))
    return asked


@every_strategy
def test_generations_are_full_distinct_and_in_the_space(name: StrategyName) -> None:
    asked = _run(_strategy(name), 3)
    networks = [network for generation in asked for network in generation]
    assert [len(generation) for generation in asked] == [20, 20, 20]
    assert len({network.digest for network in networks}) == 60
    for network in networks:
        assert SPACE.architecture(SPACE.genome(network)) == network


@every_strategy
def test_no_more_networks_are_asked_than_the_limit_and_the_population(name: StrategyName) -> None:
    strategy = _strategy(name, SMALL)
    assert [len(strategy.ask(limit)) for limit in (0, -1, 3, 1, 1000)] == [0, 0, 3, 1, 20]


@every_strategy
def test_generations_can_be_asked_before_the_last_one_was_measured(name: StrategyName) -> None:
    strategy = _strategy(name, SMALL, population=6)
    first = strategy.ask(6)
    second = strategy.ask(6)
    strategy.tell(_measured(SMALL, second, AdditiveAccuracy(SMALL, 0).measured))
    third = strategy.ask(6)
    assert len({*first, *second, *third}) == 18


@every_strategy
def test_replaying_the_history_asks_the_same_again(name: StrategyName) -> None:
    assert _run(_strategy(name), 3) == _run(_strategy(name), 3)


@every_strategy
def test_a_fresh_process_asks_the_same_whatever_its_hash_seed(name: StrategyName) -> None:
    strategy = _strategy(name)
    here = [[one.model_dump(mode="json") for one in generation] for generation in _run(strategy, 2)]
    told = [json.dumps(here), json.dumps(list(strategy.predictions.values()))]
    code = (
        "import json; from tests.contract.test_strategies import _run, _strategy; "
        f"strategy = _strategy({name!r}); "
        "print(json.dumps([[one.model_dump(mode='json') for one in asked] for asked in _run(strategy, 2)])); "
        "print(json.dumps(list(strategy.predictions.values())))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.splitlines() == told


@every_strategy
def test_another_seed_asks_other_networks(name: StrategyName) -> None:
    one, other = (_run(_strategy(name, seed=seed), 1)[0] for seed in (0, 1))
    assert len(set(one) & set(other)) < 10
    assert _strategy(name, seed=-1).ask(20)


@every_strategy
def test_the_first_generation_holds_the_largest_and_the_smallest_network_of_each_depth(name: StrategyName) -> None:
    first = _strategy(name).ask(20)
    assert first[0] == SPACE.largest()
    assert {end(depth) for depth in SPACE.depths for end in (SPACE.largest, SPACE.smallest)} <= set(first[:6])


@every_strategy
def test_the_first_generation_gives_every_stratum_of_size_its_share(name: StrategyName) -> None:
    sizes = [SPACE.parameters(one) for one in _strategy(name, population=50).ask(50)]
    low, high = SPACE.parameters(SPACE.smallest()), SPACE.parameters(SPACE.largest())
    strata = [sum((size - low) * STRATA // (high - low + 1) == stratum for size in sizes) for stratum in range(STRATA)]
    assert sum(strata) == 50
    assert min(strata) >= 3
    assert max(strata) <= 8


@every_strategy
def test_a_first_generation_smaller_than_the_ends_begins_with_both_ends_of_the_range(name: StrategyName) -> None:
    assert _strategy(name, population=2).ask(2) == [SPACE.largest(), SPACE.smallest()]


@every_strategy
def test_a_small_space_is_exhausted_network_by_network_and_then_nothing_is_asked(name: StrategyName) -> None:
    strategy = _strategy(name, SMALL, population=7)
    asked = [one for generation in _run(strategy, 10, SMALL) for one in generation]
    assert len(asked) == len(set(asked)) == SMALL.networks
    assert strategy.ask(7) == []
    assert strategy.predictions == {}


@every_strategy
def test_a_space_of_one_network_is_asked_once(name: StrategyName) -> None:
    space = SearchSpace(SMALL_SHAPE, depths=(5,), mlp_widths=(96,), drop_order=())
    assert _run(_strategy(name, space), 2, space) == [[space.largest()], []]


@every_strategy
def test_failed_networks_are_not_asked_again_and_teach_nothing(name: StrategyName) -> None:
    strategy, accuracy = _strategy(name, SMALL, population=8), AdditiveAccuracy(SMALL, 0)
    asked: list[Architecture] = []
    while generation := strategy.ask(8):
        asked += generation
        strategy.tell(_measured(SMALL, generation[::2], accuracy.exact) + _measured(SMALL, generation[1::2], _failed))
    assert len(asked) == len(set(asked)) == SMALL.networks


@every_strategy
def test_a_search_in_which_everything_fails_continues(name: StrategyName) -> None:
    strategy = _strategy(name)
    for _ in range(3):
        generation = strategy.ask(20)
        assert len(generation) == 20
        strategy.tell(_measured(SPACE, generation, _failed))
    assert strategy.predictor_name is None


@every_strategy
def test_networks_told_without_being_asked_are_not_asked(name: StrategyName) -> None:
    strategy = _strategy(name)
    strategy.tell([Evaluated(SPACE.largest(), _costs(SPACE).of(SPACE.largest()), 0.5)])
    assert SPACE.largest() not in strategy.ask(20)


@every_strategy
def test_of_two_results_of_one_network_the_first_counts(name: StrategyName) -> None:
    once, twice = _strategy(name, SMALL), _strategy(name, SMALL)
    first = _measured(SMALL, once.ask(20), AdditiveAccuracy(SMALL, 0).measured)
    assert twice.ask(20)
    once.tell(first)
    twice.tell(first)
    twice.tell([Evaluated(one.architecture, one.costs, 0.0) for one in first])
    assert once.ask(20) == twice.ask(20)


@every_strategy
def test_what_a_network_that_failed_turns_out_to_be_counts_after_all(name: StrategyName) -> None:
    late, usual = _strategy(name, SMALL), _strategy(name, SMALL)
    first = _measured(SMALL, usual.ask(20), AdditiveAccuracy(SMALL, 0).measured)
    assert late.ask(20)
    late.tell([Evaluated(one.architecture, one.costs, None) for one in first])
    late.tell(first)
    usual.tell(first)
    assert late.ask(20) == usual.ask(20)


@every_strategy
def test_networks_asked_for_one_by_one_while_others_are_measured_differ_and_are_as_many(name: StrategyName) -> None:
    strategy, accuracy = _strategy(name, SMALL, population=6), AdditiveAccuracy(SMALL, 0)
    asked = strategy.ask(6)
    for number in range(12):
        strategy.tell(_measured(SMALL, asked[number : number + 1], accuracy.measured))
        asked += strategy.ask(1)
    assert len(asked) == len(set(asked)) == 18


def _how_far_from_the_one_before(seed: int, fails: bool) -> int:
    """How much larger or smaller the next network is than the one that was asked for before: which fails, or is being
    measured."""
    strategy = _strategy("bayesian", seed=seed)
    strategy.tell(_measured(SPACE, strategy.ask(20), AdditiveAccuracy(SPACE, seed=1).measured))
    (before,) = strategy.ask(1)
    if fails:
        strategy.tell(_measured(SPACE, [before], _failed))
    return abs(SPACE.parameters(strategy.ask(1)[0]) - SPACE.parameters(before))


def test_a_network_that_is_being_measured_counts_with_what_is_predicted_of_it() -> None:
    """So the next one is looked for elsewhere; of one that failed the like is asked for. All else is the same."""
    for seed in range(2):
        assert _how_far_from_the_one_before(seed, fails=False) > _how_far_from_the_one_before(seed, fails=True)


@every_strategy
def test_a_network_from_outside_the_space_is_refused(name: StrategyName) -> None:
    stranger = Architecture(layers=(0, 1), mlp_widths=(96, 96))
    with pytest.raises(UserError, match="search space"):
        _strategy(name, SMALL).tell([Evaluated(stranger, (1.0,), 0.5)])


@every_strategy
def test_equal_accuracies_everywhere_are_handled(name: StrategyName) -> None:
    strategy = _strategy(name)
    for _ in range(2):
        generation = strategy.ask(20)
        assert len(generation) == 20
        strategy.tell(_measured(SPACE, generation, lambda _: 0.25))


@predicting
def test_what_is_predicted_does_not_depend_on_networks_that_failed(name: StrategyName) -> None:
    with_failures, without = _strategy(name, SMALL, population=10), _strategy(name, SMALL, population=10)
    first = with_failures.ask(10)
    assert without.ask(10) == first
    measured = _measured(SMALL, first[:7], AdditiveAccuracy(SMALL, 0).measured)
    with_failures.tell(measured + _measured(SMALL, first[7:], _failed))
    without.tell(measured)
    one, other = with_failures.ask(10), without.ask(10)
    common = set(one) & set(other)
    assert len(common) > 4
    assert all(with_failures.predictions[network] == without.predictions[network] for network in common)
    assert name == "bayesian" or one == other  # which takes the others for networks that are being measured


@pytest.mark.parametrize(("name", "predictors"), [("bayesian", ["monotone ridge"]), ("linas", ["ridge", "svr"])])
def test_who_predicts_reports_what_it_predicted_of_the_batch_it_had_not_seen(
    name: StrategyName, predictors: list[str]
) -> None:
    strategy, accuracy = _strategy(name, population=50), AdditiveAccuracy(SPACE, seed=1)
    first = strategy.ask(50)
    assert strategy.predictor_name is None
    assert strategy.predictions == {}
    strategy.tell(_measured(SPACE, first, accuracy.measured))
    second = strategy.ask(50)
    assert strategy.predictor_name in predictors
    assert list(strategy.predictions) == second
    tau = kendall_tau(list(strategy.predictions.values()), [accuracy.exact(one) for one in second])
    assert tau is not None
    assert tau > 0.7


@pytest.mark.parametrize("name", ["nsga2", "random"])
def test_strategies_without_a_predictor_say_so(name: StrategyName) -> None:
    strategy = _strategy(name)
    _run(strategy, 2)
    assert strategy.predictor_name is None
    assert strategy.predictions == {}


def _covered(name: StrategyName, population: int, evaluations: int) -> float:
    """The median hypervolume of three searches with noise."""
    return median(
        list(islice(search(name, seed, noise=0.015, population=population), evaluations))[-1] for seed in range(3)
    )


def test_linas_covers_more_than_random_search_and_nsga2_with_100_noisy_networks() -> None:
    assert _covered("linas", 25, 100) > max(_covered(name, 25, 100) for name in ("nsga2", "random"))


def test_bayesian_covers_more_with_60_noisy_networks_than_random_search_and_nsga2_with_100() -> None:
    assert _covered("bayesian", 12, 60) > max(_covered(name, 12, 100) for name in ("nsga2", "random"))


def _quantized_accuracy(space: SearchSpace, loss: float) -> Measure:
    """INT8 costs every network the same."""
    additive = AdditiveAccuracy(space, seed=1)
    return lambda one: additive.exact(one) - loss * (one.quantization == "int8")


@every_strategy
@pytest.mark.parametrize("objectives", MANY)
def test_with_many_objectives_and_a_quantization_gene_generations_are_full_distinct_and_in_the_space(
    name: StrategyName, objectives: tuple[Objective, ...]
) -> None:
    asked = _run(_strategy(name, QUANTIZED, objectives=objectives), 2, QUANTIZED, objectives)
    networks = [network for generation in asked for network in generation]
    assert len({network.digest for network in networks}) == len(networks) == 40
    for network in networks:
        assert QUANTIZED.architecture(QUANTIZED.genome(network)) == network
    assert {network.quantization for network in networks} == {"none", "int8"}
    assert asked == _run(_strategy(name, QUANTIZED, objectives=objectives), 2, QUANTIZED, objectives)


@every_strategy
def test_the_first_generation_has_both_quantizations_at_its_ends_and_in_between(name: StrategyName) -> None:
    first = _strategy(name, QUANTIZED, population=50, objectives=("bytes",)).ask(50)
    assert first[:2] == [QUANTIZED.largest(), QUANTIZED.smallest()]
    assert (first[0].quantization, first[1].quantization) == ("none", "int8")
    assert 10 <= sum(network.quantization == "int8" for network in first[6:]) <= 34


@every_strategy
@pytest.mark.parametrize("objective", ["bytes", "prefill_seconds", "decode_seconds"])
def test_the_first_generation_is_spread_over_the_first_objective(name: StrategyName, objective: Objective) -> None:
    costs = _costs(QUANTIZED, (objective, "parameters"))
    first = make_strategy(costs, StrategySettings(strategy=name, population=50)).ask(50)
    values = [costs.of(network)[0] for network in first]
    low, high = min(values), max(values)
    strata = [min(int((value - low) * STRATA / (high - low)), STRATA - 1) for value in values]
    assert min(strata.count(stratum) for stratum in range(STRATA)) >= 2


@every_strategy
def test_a_small_space_with_attention_is_exhausted_network_by_network(name: StrategyName) -> None:
    space = replace(SMALL, depths=(3,), attentions=("keep", "skip"))
    objectives: tuple[Objective, ...] = ("kv_cache_bytes", "parameters")
    strategy = _strategy(name, space, population=16, objectives=objectives)
    asked = [one for generation in _run(strategy, 5, space, objectives) for one in generation]
    assert len(asked) == len(set(asked)) == space.networks == 4**3
    assert asked[0] == space.largest() and asked[1] == space.smallest() and not any(asked[1].attentions)
    assert strategy.ask(7) == []


@every_strategy
def test_a_small_space_with_several_drop_orders_is_exhausted_network_by_network(name: StrategyName) -> None:
    strategy = _strategy(name, SMALL_ORDERED, population=16)
    asked = [one for generation in _run(strategy, 7, SMALL_ORDERED) for one in generation]
    assert len(asked) == len(set(asked)) == SMALL_ORDERED.networks == 2**5 + 2 * 2**4 + 2 * 2**3
    assert strategy.ask(7) == []


@every_strategy
def test_with_several_drop_orders_generations_are_full_distinct_and_of_all_orders(name: StrategyName) -> None:
    asked = _run(_strategy(name, ORDERED), 2, ORDERED)
    networks = [network for generation in asked for network in generation]
    assert len({network.digest for network in networks}) == len(networks) == 40
    for network in networks:
        assert ORDERED.architecture(ORDERED.genome(network)) == network
    assert asked[0][:2] == [ORDERED.largest(), ORDERED.smallest()]
    ends = [network for network in asked[0] if len(set(network.mlp_widths)) == 1]
    assert len(ends) == 2 * len(ORDERED.depths), "as many as with one order, though the first generation is small"
    assert len({ORDERED.genome(network)[ORDERED.place("drop_order")] for network in asked[0]}) == 3
    assert asked == _run(_strategy(name, ORDERED), 2, ORDERED)


@predicting
def test_who_predicts_asks_for_the_order_that_leaves_the_better_layers(name: StrategyName) -> None:
    """Two of them leave layers that cost much wherever they are missing."""
    strategy, narrowing = _strategy(name, ORDERED, population=30), AdditiveAccuracy(ORDERED, seed=1)

    def measure(network: Architecture) -> float:
        return narrowing.exact(network) - 0.1 * sum(layer not in network.layers for layer in range(20, 26))

    for _ in range(2):
        strategy.tell(_measured(ORDERED, strategy.ask(30), measure))
    shallow = [network for network in strategy.ask(30) if network.depth < 30]
    assert sum(set(range(20, 26)) < set(network.layers) for network in shallow) > 0.6 * len(shallow) > 3


@every_strategy
def test_a_small_space_with_quantization_is_exhausted_network_by_network(name: StrategyName) -> None:
    strategy = _strategy(name, SMALL_QUANTIZED, population=11, objectives=MANY[-1])
    asked = [one for generation in _run(strategy, 12, SMALL_QUANTIZED, MANY[-1]) for one in generation]
    assert len(asked) == len(set(asked)) == SMALL_QUANTIZED.networks == 2 * SMALL.networks
    assert strategy.ask(7) == []


@predicting
@pytest.mark.parametrize(("loss", "better"), [(0.002, "int8"), (0.5, "none")])
def test_who_predicts_asks_for_int8_where_that_costs_little_accuracy_and_not_where_it_costs_much(
    name: StrategyName, loss: float, better: str
) -> None:
    strategy = _strategy(name, QUANTIZED, objectives=("bytes",))
    measure = _quantized_accuracy(QUANTIZED, loss)
    for _ in range(2):
        strategy.tell(_measured(QUANTIZED, strategy.ask(20), measure, ("bytes",)))
    # Where no other network is as small as those in INT8, they are worth measuring whatever they cost.
    (smallest,) = _costs(QUANTIZED, ("bytes",)).of(QUANTIZED.smallest().quantized("none"))
    sizes = [(network, _costs(QUANTIZED, ("bytes",)).of(network)[0]) for network in strategy.ask(20)]
    larger = [network.quantization for network, size in sizes if size >= smallest]
    assert larger.count(better) > 0.6 * len(larger) > 3


@predicting
def test_who_predicts_covers_more_of_three_dimensions_than_random_search(name: StrategyName) -> None:
    objectives: tuple[Objective, ...] = ("bytes", "prefill_seconds")
    covered = {}
    for one in (name, "random"):
        strategy, measure = _strategy(one, QUANTIZED, objectives=objectives), _quantized_accuracy(QUANTIZED, 0.01)
        told: list[Evaluated] = []
        for _ in range(3):
            generation = _measured(QUANTIZED, strategy.ask(20), measure, objectives)
            strategy.tell(generation)
            told += generation
        covered[one] = hypervolume(
            [one.costs for one in told],
            [one.accuracy or 0.0 for one in told],
            ReferencePoint(_costs(QUANTIZED, objectives).dense),
        )
    assert covered[name] > covered["random"]
