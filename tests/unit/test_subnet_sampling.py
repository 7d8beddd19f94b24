"""Which sub-networks are trained: uniform genes as in every release, or all sizes with both ends of the range."""

import itertools
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.fine_tuning import elastic
from services.trainer.subnet_sampling import ROUND, STRATA, subnets_of_step
from shared.architecture import Architecture, dense
from shared.settings import TrainingSettings
from shared.space import SearchSpace
from tests.support.pretending import SHAPE
from tests.support.spaces import PAPER_SPACE, spaces

SPACE = SearchSpace(SHAPE, (8, 7, 6), (48, 32, 24), (6, 3))
"""Whose largest network is the whole one."""
SMALLER = SearchSpace(SHAPE, (7, 6), (32, 24), (6, 3))
SKIPPING = replace(SPACE, attentions=("keep", "skip"))


def drawn(space: SearchSpace, number: int, **training: Any) -> list[Architecture]:
    """The sub-networks of the first odd steps."""
    of_step = subnets_of_step(space, TrainingSettings(**training))
    steps = (of_step(step) for step in itertools.count(1, 2))
    return list(itertools.islice(itertools.chain.from_iterable(steps), number))


def test_uniform_sub_networks_are_those_of_every_release() -> None:
    expected = [SPACE.sample(random.Random(seed)) for seed in ("4/1", "4/1/1", "4/1/2", "4/3", "4/3/1")]
    assert drawn(SPACE, 5, subnets_per_step=3, seed=4) == expected
    assert drawn(SPACE, 2, seed=4) == [expected[0], expected[3]]


@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_even_steps_train_the_whole_network_whatever_the_sampling(sampling: Any) -> None:
    of_step = elastic(SHAPE, SPACE, TrainingSettings(sampling=sampling))
    assert [of_step(step) for step in (0, 6)] == [("full", [dense(SHAPE)])] * 2
    assert of_step(3) == ("subnet", subnets_of_step(SPACE, TrainingSettings(sampling=sampling))(3))


def test_where_the_whole_network_is_trained_less_often_the_same_sub_networks_follow_sooner() -> None:
    seldom = TrainingSettings(sampling="stratified", full_every=4)
    of_step = elastic(SHAPE, SPACE, seldom)
    kinds, networks = zip(*(of_step(step) for step in range(32)), strict=True)
    assert [step for step, kind in enumerate(kinds) if kind == "full"] == list(range(0, 32, 4))
    subnets = [one for kind, (one,) in zip(kinds, networks, strict=True) if kind == "subnet"]
    assert subnets == drawn(SPACE, 24, sampling="stratified")


@pytest.mark.parametrize("space", [SPACE, SMALLER, PAPER_SPACE], ids=["whole", "smaller", "paper"])
def test_each_round_has_both_ends_and_a_network_of_every_size(space: SearchSpace) -> None:
    low, high = space.parameters(space.smallest()), space.parameters(space.largest())
    networks = drawn(space, 4 * ROUND, sampling="stratified", seed=3)
    orders = set()
    for turn in (networks[first : first + ROUND] for first in range(0, len(networks), ROUND)):
        ends, others = (turn[0], turn[ROUND // 2]), [*turn[1 : ROUND // 2], *turn[ROUND // 2 + 1 :]]
        assert ends == (space.smallest(), space.largest() if space is SMALLER else space.smallest())
        sizes = [space.parameters(one) for one in others]
        for stratum, size in enumerate(sorted(sizes)):
            assert stratum <= (size - low) * STRATA / (high - low) <= stratum + 1
        orders.add(tuple(size > (low + high) / 2 for size in sizes))
    assert len(orders) > 1


def test_stratified_rounds_draw_attentions_too() -> None:
    low, high = SKIPPING.parameters(SKIPPING.smallest()), SKIPPING.parameters(SKIPPING.largest())
    networks = drawn(SKIPPING, 4 * ROUND, sampling="stratified", seed=3)
    assert networks[0] == SKIPPING.smallest() and not any(networks[0].attentions)
    sizes = sorted(SKIPPING.parameters(one) for one in networks)
    assert min(sizes[-4:]) > low + (high - low) * 0.7
    assert len({len(one.without_attention) for one in networks}) > 5
    assert len({one.mlp_widths for one in networks}) > 20


@pytest.mark.parametrize("sampling", ["uniform", "stratified"])
def test_sub_networks_of_all_drop_orders_are_trained(sampling: Any) -> None:
    space = replace(SPACE, drop_order=((6, 3), (2, 5)))
    networks = drawn(space, 6 * ROUND, sampling=sampling, seed=3)
    for depth in (7, 6):
        layers = [one.layers for one in networks if one.depth == depth]
        assert {layers.count(space.kept_layers(depth, order)) > len(layers) / 5 for order in (0, 1)} == {True}
    if sampling == "stratified":
        ends = [networks[number] for number in range(0, len(networks), ROUND // 2)]
        assert ends[:4] == [space.smallest(order=order) for order in (0, 1, 1, 0)]
    smaller = replace(SMALLER, drop_order=((6, 3), (2, 5)))
    if sampling == "stratified":
        ends = drawn(smaller, 2 * ROUND, sampling=sampling)[:: ROUND // 2]
        assert ends == [smaller.smallest(), smaller.largest(order=1), smaller.smallest(order=1), smaller.largest()]


def test_a_step_s_sub_networks_depend_on_seed_and_step_alone() -> None:
    of_step = subnets_of_step(SPACE, TrainingSettings(sampling="stratified", seed=1))
    later, again = of_step(21), subnets_of_step(SPACE, TrainingSettings(sampling="stratified", seed=1))
    assert [again(step) for step in range(1, 21, 2)] and again(21) == later
    assert drawn(SPACE, 24, sampling="stratified", seed=1) != drawn(SPACE, 24, sampling="stratified", seed=2)


def test_several_sub_networks_in_a_step_are_those_that_would_follow_one_another() -> None:
    alone = drawn(SPACE, 24, sampling="stratified")
    assert drawn(SPACE, 24, sampling="stratified", subnets_per_step=3) == alone
    assert len({one.digest for one in alone}) > 12


@settings(max_examples=20, deadline=None)
@given(spaces(), st.integers(0, 2**63 - 1))
def test_in_any_space_networks_of_it_are_drawn_in_full_precision(space: SearchSpace, seed: int) -> None:
    inside = replace(space, quantizations=("none",))
    for network in drawn(space, ROUND, sampling="stratified", seed=seed):
        assert inside.architecture(inside.genome(network)) == network
