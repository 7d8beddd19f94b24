"""Random networks of the same size, drawn as a control."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.counterparts import counterpart
from shared.manifest import search_space
from shared.settings import SpaceSettings
from tests.support.pretending import SHAPE

SPACE = search_space(SHAPE, SpaceSettings(depths=(8, 7, 6), mlp_widths=(48, 32, 16)), tuple(range(7, 0, -1)))


@given(st.integers(0, 10**6), st.integers(0, 3))
def test_it_has_as_many_layers_of_each_width_and_is_another_network_of_the_space(number: int, seed: int) -> None:
    network = SPACE.sample(random.Random(number))
    drawn = counterpart(SPACE, network, {network}, seed)
    assert drawn is not None and drawn != network
    assert drawn.layers == network.layers and SPACE.genome(drawn)
    if len(set(network.mlp_widths)) > 1:
        assert sorted(drawn.mlp_widths) == sorted(network.mlp_widths)
        assert SPACE.parameters(drawn) == SPACE.parameters(network)
    assert counterpart(SPACE, network, {network}, seed) == drawn


def test_another_seed_draws_another_network() -> None:
    network = SPACE.sample(random.Random(3))
    assert len({counterpart(SPACE, network, set(), seed) for seed in range(20)}) > 10


def test_it_keeps_the_quantization() -> None:
    network = SPACE.sample(random.Random(3)).quantized("int8")
    drawn = counterpart(SPACE, network, set(), 0)
    assert drawn is not None and drawn.quantization == "int8"


def test_a_network_whose_widths_cant_be_arranged_otherwise_gets_one_that_differs_by_one_layers_step() -> None:
    for network, neighbour in ((SPACE.largest(), 32), (SPACE.smallest(), 32)):
        drawn = counterpart(SPACE, network, {network}, 0)
        assert drawn is not None
        changed = [width for width, was in zip(drawn.mlp_widths, network.mlp_widths, strict=True) if width != was]
        assert changed == [neighbour]


def test_attention_is_skipped_as_often_even_where_nothing_can_be_rearranged() -> None:
    space = replace(SPACE, attentions=("keep", "skip"))
    for network in (space.largest(), space.smallest(), space.sample(random.Random(5))):
        for seed in range(10):
            drawn = counterpart(space, network, {network}, seed)
            assert drawn is not None and len(drawn.without_attention) == len(network.without_attention)
    alike = replace(space, mlp_widths=(48,), depths=(8,))
    drawn = counterpart(alike, alike.largest(), {alike.largest()}, 0)
    assert drawn is not None and len(drawn.without_attention) == 1


def test_of_several_orders_in_which_layers_leave_it_goes_by_any() -> None:
    space = replace(SPACE, drop_order=((7, 6, 5), (2, 3, 4)))
    for network in (space.largest(6), space.smallest(6), space.sample(random.Random(5))):
        drawn = [counterpart(space, network, {network}, seed) for seed in range(20)]
        assert all(one is not None and one.depth == network.depth and space.genome(one) for one in drawn)
        sizes = {space.parameters(one) for one in drawn if one is not None}
        assert sizes == {space.parameters(network)}, "which layers there are changes no size"
        kept = {one.layers for one in drawn if one is not None}
        alike = len(set(network.mlp_widths)) == 1
        assert len(kept) == (2 if network.depth < 8 and not alike else 1)


def test_what_is_taken_is_not_drawn() -> None:
    network = SPACE.largest(6).model_copy(update={"mlp_widths": (48, 48, 48, 48, 48, 32)})
    excluded = {network}
    for _ in range(5):
        drawn = counterpart(SPACE, network, excluded, 0)
        assert drawn is not None and drawn not in excluded and sorted(drawn.mlp_widths) == [32, *[48] * 5]
        excluded.add(drawn)
    beyond = counterpart(SPACE, network, excluded, 0)
    assert beyond is not None and SPACE.parameters(beyond) != SPACE.parameters(network)


def test_a_space_of_one_width_has_none() -> None:
    space = search_space(SHAPE, SpaceSettings(depths=(8, 7), mlp_widths=(48,)), tuple(range(7, 0, -1)))
    assert counterpart(space, space.largest(), set(), 0) is None
