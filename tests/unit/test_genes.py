"""Genes have names: whoever handles genomes asks the space for their places, whatever kinds a space has."""

import random
from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given

from services.coordinator.cost_model import CostModel
from services.coordinator.counterparts import counterpart
from services.coordinator.genomes import Encoding, IntArray, rows
from services.coordinator.strategies import Evaluated, inner_search, make_strategy, stratified_sampling
from services.coordinator.strategies.evolution import Evolution
from shared import genome_draws
from shared.architecture import Architecture
from shared.settings import StrategyName, StrategySettings
from shared.space import GeneKind, Genome, SearchSpace
from tests.support.pretending import SHAPE
from tests.support.spaces import spaces, spaces_with_genomes

WIDTHS = (48, 32)


SPACE = SearchSpace(SHAPE, (8, 6), WIDTHS, (6, 3), ("none", "int8"), ("keep", "skip"))
SMALL = SearchSpace(SHAPE, (3, 2), WIDTHS, (6, 3, 2, 5, 1, 4), attentions=("keep", "skip"))
ENCODING = Encoding(SPACE)


def _drawn(count: int, seed: int = 0) -> IntArray:
    return np.random.default_rng(seed).integers(ENCODING.choices, size=(count, ENCODING.genes))


@given(spaces())
def test_genes_are_found_by_their_names(space: SearchSpace) -> None:
    layers = range(space.network.depth)
    skips = [f"attention[{layer}]" for layer in layers if len(space.attentions) > 1]
    orders = ["drop_order"] if len(space.drop_orders) > 1 else []
    names = ["depth", *orders, *(f"mlp_width[{layer}]" for layer in layers), *skips, "quantization"]
    assert [gene.name for gene in space.genes] == names
    assert [space.place(name) for name in names] == list(range(len(names)))
    assert space.places("mlp_width") == tuple(space.place(f"mlp_width[{layer}]") for layer in layers)
    assert space.places("attention") == tuple(map(space.place, skips))
    assert (space.places("depth"), space.places("quantization")) == ((0,), (len(names) - 1,))


def test_every_kind_of_gene_is_drawn() -> None:
    assert genome_draws.DRAWING.keys() == set(get_args(GeneKind))


def test_an_encoding_carries_genes_of_attention() -> None:
    raw = _drawn(300)
    assert rows(ENCODING.canonical(raw)) == [SPACE.genome(SPACE.architecture(one)) for one in rows(raw)]
    assert (ENCODING.encode(ENCODING.decode(raw)) == ENCODING.canonical(raw)).all()


def test_every_network_with_the_genes_of_attention_is_listed_once() -> None:
    genomes = rows(Encoding(SMALL).all_genomes())
    assert len(set(genomes)) == len(genomes) == SMALL.networks == 4**3 + 4**2
    assert genomes == [SMALL.genome(SMALL.architecture(one)) for one in genomes]


def test_a_predictor_sees_the_genes_of_attention_in_the_layers_that_a_network_has() -> None:
    deep, shallow = SPACE.largest(8), SPACE.largest(6)
    for whole in (deep, shallow):
        for layer in range(8):
            changed = list(SPACE.genome(whole))
            changed[SPACE.place(f"attention[{layer}]")] = 1
            here, there = ENCODING.features(ENCODING.array([SPACE.genome(whole), tuple(changed)]))
            column = 2 + 8 * len(WIDTHS) + 2 * layer
            assert np.flatnonzero(here != there).tolist() == ([column, column + 1] if layer in whole.layers else [])


def _children(parents: IntArray) -> IntArray:
    rng = np.random.default_rng(1)
    evolution = Evolution(ENCODING, len(parents), parents, rng.random((len(parents), 1)), rng.random(len(parents)), rng)
    return np.vstack([evolution.ask() for _ in range(10)])


def test_evolution_mutates_the_genes_of_attention() -> None:
    parents = ENCODING.canonical(_drawn(40))
    parents[:, SPACE.places("attention")] = 0
    children = _children(parents)
    assert (children == ENCODING.canonical(children)).all()
    assert children[:, SPACE.places("attention")].any(axis=0).all()


def test_evolution_crosses_the_genes_of_attention() -> None:
    parents = ENCODING.canonical(_drawn(40))
    parents[:, SPACE.places("attention")] = 0
    parents[:20, SPACE.places("attention")[:3]] = 1
    parents[20:, SPACE.places("attention")[-1]] = 1
    parents = ENCODING.canonical(parents)
    of_both = _children(parents)[:, SPACE.places("attention")][:, [0, 7]].all(axis=1)
    assert of_both.mean() > 0.1  # by mutation alone about one in a hundred


ORDERED = replace(SPACE, depths=(8, 7, 6), drop_order=((6, 3), (3, 6), (6, 2)))


@given(spaces_with_genomes(genomes=8))
def test_an_encoding_carries_any_genes(case: tuple[SearchSpace, list[Genome]]) -> None:
    space, genomes = case
    encoding = Encoding(space)
    raw, networks = encoding.array(genomes), [space.architecture(genome) for genome in genomes]
    assert rows(encoding.canonical(raw)) == [space.genome(network) for network in networks]
    kept = [[layer in network.layers for layer in range(space.network.depth)] for network in networks]
    assert encoding.kept(raw).tolist() == kept


@given(spaces(max_layers=3))
def test_every_network_of_any_space_is_listed_once(space: SearchSpace) -> None:
    genomes = rows(Encoding(space).all_genomes())
    assert len(set(genomes)) == len(genomes) == space.networks
    assert genomes == [space.genome(space.architecture(one)) for one in genomes]


def test_a_predictor_sees_which_layers_there_are_and_not_by_which_order_they_left() -> None:
    encoding, place = Encoding(ORDERED), ORDERED.place("drop_order")
    plain = Encoding(replace(ORDERED, drop_order=(6, 3)))
    assert encoding.features(encoding.encode([ORDERED.largest()])).shape[1] == plain.choices.sum()
    here, there = encoding.features(encoding.encode([ORDERED.largest(7, 0), ORDERED.largest(7, 1)]))
    of_layers = {3 + 2 * place for place in (3, 6, 8 + 3, 8 + 6)}  # their widths, and their attention
    assert set(np.flatnonzero(here != there).tolist()) == of_layers
    raw = encoding.encode([ORDERED.largest(6, 0)]).repeat(2, axis=0)
    raw[1, place] = 1  # the same two layers in another order
    assert (encoding.features(raw)[0] == encoding.features(raw)[1]).all()


def test_evolution_mutates_and_crosses_the_orders_in_which_layers_leave() -> None:
    encoding, rng = Encoding(ORDERED), np.random.default_rng(1)
    parents = encoding.canonical(np.random.default_rng(0).integers(encoding.choices, size=(40, encoding.genes)))
    evolution = Evolution(encoding, 40, parents, rng.random((40, 1)), rng.random(40), rng)
    children = np.vstack([evolution.ask() for _ in range(10)])
    assert (children == encoding.canonical(children)).all()
    depth, order = children[:, ORDERED.place("depth")], children[:, ORDERED.place("drop_order")]
    assert not order[depth == 0].any() and set(order[depth == 1]) == {0, 1} and set(order[depth == 2]) == {0, 2}


@pytest.mark.parametrize("name", get_args(StrategyName))
def test_a_strategy_searches_the_genes_of_attention(name: StrategyName, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inner_search, "GENERATIONS", 20)
    costs = CostModel(SPACE, ("parameters",), "float32")
    strategy = make_strategy(costs, StrategySettings(strategy=name, population=20))
    generations: list[list[Architecture]] = []
    for _ in range(2):
        generations.append(strategy.ask(20))
        strategy.tell([Evaluated(one, costs.of(one), 1 - len(one.without_attention) / 10) for one in generations[-1]])
    assert len({one.digest for generation in generations for one in generation}) == 40
    first, second = ([len(one.without_attention) for one in generation] for generation in generations)
    assert len(set(first)) > 4
    # A predictor has learnt what they are worth.
    assert strategy.predictor_name is None or sum(second) < sum(first)


def test_a_counterpart_has_as_many_layers_of_each_kind() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        network = SPACE.architecture([rng.randrange(gene.choices) for gene in SPACE.genes])
        drawn = counterpart(SPACE, network, {network}, seed)
        assert drawn is not None and drawn != network
        assert drawn.layers == network.layers and drawn.quantization == network.quantization
        assert _kinds(drawn) == _kinds(network)


def test_what_is_listed_and_drawn_is_what_former_releases_listed_and_drew() -> None:
    few = Encoding(SearchSpace(SHAPE, (3, 1), WIDTHS, (6, 3, 2, 5, 1, 4, 7), ("none", "int8")))
    deep = ["00000000", "01000000", "00000100", "01000100"]
    unquantised = [f"{genome}{last}" for last in "01" for genome in deep] + ["100000000", "110000000"]
    assert _texts(few.all_genomes()) == [f"{genome}{quantization}" for quantization in "01" for genome in unquantised]
    space = SearchSpace(SHAPE, (8, 6), (48, 32, 16), (6, 3), ("none", "int8"))
    drawn = stratified_sampling.random_genomes(Encoding(space), 4, np.random.default_rng(0))
    assert _texts(drawn) == ["1000000001", "1000000000", "1210012020", "0222112221"]
    mixed = space.architecture((0, 2, 0, 1, 0, 1, 1, 1, 2, 0))
    others = [counterpart(space, one, (), 0).mlp_widths for one in (mixed, space.largest(6))]
    assert others == [(32, 48, 16, 48, 16, 32, 32, 32), (32, 48, 48, 48, 48, 48)]


def _texts(genomes: IntArray) -> list[str]:
    return ["".join(map(str, genome)) for genome in genomes.tolist()]


def _kinds(network: Architecture) -> Counter[tuple[int, bool]]:
    return Counter((width, attention) for _, width, attention in network.layer_choices)
