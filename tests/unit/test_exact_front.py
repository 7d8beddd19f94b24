"""The best networks of an additive model, against all networks of small spaces."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.coordinator.cost_model import CostModel
from services.coordinator.genomes import Encoding, FloatArray, IntArray
from services.coordinator.pareto import non_dominated
from services.coordinator.strategies.exact_front import best_by_counts, has_few_counts
from shared.messages import CostSpec, Workload
from shared.settings import Objective
from shared.space import SearchSpace
from tests.support.networks import uniform_network
from tests.support.pretending import pretended_tables
from tests.support.spaces import LLAMA2_7B, spaces
from tests.unit.test_genes import SMALL

OBJECTIVES: list[tuple[Objective, ...]] = [
    ("parameters",),
    ("bytes",),
    ("decode_seconds",),
    ("bytes", "prefill_seconds"),
    ("kv_cache_bytes", "parameters"),
]


def _random_sums(encoding: Encoding, models: int, seed: int) -> Callable[[IntArray], FloatArray]:
    """Accuracies that are sums of any numbers for each gene and for any two that follow each other, which differ with
    the genes of the whole network."""
    rng = np.random.default_rng(seed)
    genes, most = encoding.genes, int(encoding.choices.max())
    single = rng.standard_normal((models, most, most, genes, most))
    pairs = rng.standard_normal((models, genes, most, most))
    places = np.arange(genes)
    neighbours = [
        (place, other)
        for place, gene in enumerate(encoding.space.genes)
        for other, after in enumerate(encoding.space.genes)
        if gene.layer is not None and after.layer == gene.layer + 1
    ]

    def predict(genomes: IntArray) -> FloatArray:
        genomes, effective = encoding.canonical(genomes), encoding.effective(genomes)
        depth, last = genomes[:, 0, None], genomes[:, -1, None]
        total: FloatArray = (single[:, depth, last, places, genomes] * effective).sum(axis=2)
        for one, other in neighbours:
            present = effective[:, one] & effective[:, other]
            total += present * pairs[:, one, genomes[:, one], genomes[:, other]]
        return total

    return predict


def _best_by_enumeration(encoding: Encoding, costs: FloatArray, accuracies: FloatArray) -> list[tuple[float, ...]]:
    front = non_dominated(costs, accuracies)
    return [(*costs[index], round(float(accuracies[index]), 9)) for index in front]


@given(spaces(max_layers=5, attentions=(("keep",),)) | spaces(max_layers=3), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_front_of_every_model_is_that_of_all_networks(space: SearchSpace, seed: int) -> None:
    encoding = Encoding(space)
    predict = _random_sums(encoding, 2, seed)
    found, every = best_by_counts(encoding, predict), encoding.all_genomes()
    request = CostSpec(
        engine="torch",
        workload=Workload(),
        mlp_widths=tuple({*space.mlp_widths, space.network.mlp_widths[0]}),
        quantizations=("none", "int8"),
    )
    for objectives in OBJECTIVES:
        costs = CostModel(space, objectives, "bfloat16", pretended_tables(request, "bfloat16"), Workload())
        for model, genomes in enumerate(found):
            assert (genomes == encoding.canonical(genomes)).all()
            here = _best_by_enumeration(encoding, costs.of_genomes(genomes), predict(genomes)[model])
            there = _best_by_enumeration(encoding, costs.of_genomes(every), predict(every)[model])
            assert here == there


def test_with_several_genes_of_a_layer_their_choices_are_combined() -> None:
    encoding = Encoding(SMALL)
    predict = _random_sums(encoding, 1, 0)
    every = encoding.all_genomes()
    widths = list(SMALL.places("mlp_width"))
    attention = [SMALL.place(f"attention[{layer}]") for layer in range(len(widths))]

    def best(genomes: IntArray) -> dict[tuple[int, ...], float]:
        """By depth, and by how many layers are of each kind."""
        highest: dict[tuple[int, ...], float] = {}
        effective = encoding.effective(genomes)[:, widths]
        kinds = np.where(effective, 2 * genomes[:, widths] + genomes[:, attention], -1)
        for genome, row, accuracy in zip(genomes, kinds, predict(genomes)[0], strict=True):
            key = (int(genome[0]), *(int((row == kind).sum()) for kind in range(4)))
            highest[key] = max(highest.get(key, -np.inf), round(float(accuracy), 9))
        return highest

    assert best(best_by_counts(encoding, predict)[0]) == best(every)


@pytest.mark.parametrize(("widths", "few"), [(1, True), (2, True), (4, True), (5, False)])
def test_spaces_with_too_many_counts_are_known(widths: int, few: bool) -> None:
    space = SearchSpace(LLAMA2_7B, (32, 28), tuple(range(1000, 11000, 1000))[:widths], tuple(range(31, 0, -1)))
    assert has_few_counts(Encoding(space)) == few


@pytest.mark.parametrize(("widths", "few"), [(1, True), (2, True), (3, False)])
def test_attention_makes_two_kinds_of_layers_of_each(widths: int, few: bool) -> None:
    choices = tuple(range(1000, 11000, 1000))[:widths]
    space = SearchSpace(LLAMA2_7B, (32,), choices, (), attentions=("keep", "skip"))
    assert has_few_counts(Encoding(space)) == few


def test_a_space_without_choices_has_one_network() -> None:
    space = SearchSpace(uniform_network(4, 96, hidden=16), (4,), (96,), ())
    assert best_by_counts(Encoding(space), lambda genomes: np.zeros((1, len(genomes)))).tolist() == [[[0] * 6]]
