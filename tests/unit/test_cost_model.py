"""Costs: additive, exact, and the same one by one and in batches."""

import random
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.coordinator.cost_model import CostModel, LayerKind
from services.coordinator.genomes import Encoding
from shared.architecture import Architecture, Quantization, dense, derive
from shared.messages import CostSpec, CostTable, Dtype, Workload
from shared.network.sizes import cache_bytes, parameters, weight_bytes
from shared.settings import Objective
from shared.space import QUANTIZATIONS, SearchSpace
from tests.support.pretending import SHAPE, pretended_tables
from tests.support.spaces import LLAMA2_7B, PAPER_SPACE, spaces

EVERY: tuple[Objective, ...] = get_args(Objective)
DTYPES = st.sampled_from(get_args(Dtype))


LOAD = Workload(batch=3, prompt_tokens=70, generated_tokens=30)


def tables(space: SearchSpace, quantizations: tuple[Quantization, ...] = QUANTIZATIONS) -> tuple[CostTable, ...]:
    widths = tuple({*space.mlp_widths, space.network.mlp_widths[0]})
    spec = CostSpec(engine="torch", workload=Workload(), mlp_widths=widths, quantizations=quantizations)
    return pretended_tables(spec, "float32")


def drawn(space: SearchSpace, rng: random.Random, count: int = 20) -> list[Architecture]:
    return [space.sample(rng).quantized(rng.choice(space.quantizations)) for _ in range(count)]


@given(spaces(), DTYPES, st.randoms(use_true_random=False))
def test_sizes_are_exactly_those_of_the_networks(space: SearchSpace, dtype: Dtype, rng: random.Random) -> None:
    costs = CostModel(space, ("bytes", "parameters"), dtype)
    for one in [*drawn(space, rng), dense(space.network), dense(space.network).quantized("int8")]:
        assert costs.of(one) == (
            weight_bytes(derive(space.network, one), dtype, one.quantization),
            parameters(derive(space.network, one)),
        )


@given(spaces(), st.randoms(use_true_random=False))
def test_seconds_are_those_of_the_table(space: SearchSpace, rng: random.Random) -> None:
    by_quantization = {table.quantization: table for table in tables(space)}
    costs = CostModel(space, ("decode_seconds", "prefill_seconds"), "float32", tables(space))
    for one in drawn(space, rng):
        table = by_quantization[one.quantization]
        assert costs.of(one) == pytest.approx((table.decode.seconds(one), table.prefill.seconds(one)))


@given(spaces(), DTYPES, st.randoms(use_true_random=False))
def test_costs_of_a_batch_are_to_the_last_bit_those_of_its_networks(
    space: SearchSpace, dtype: Dtype, rng: random.Random
) -> None:
    costs, encoding = CostModel(space, EVERY, dtype, tables(space), LOAD), Encoding(space)
    networks = drawn(space, rng)
    batch = costs.of_genomes(encoding.encode(networks))
    assert batch.shape == (len(networks), len(EVERY))
    assert [tuple(row) for row in batch.tolist()] == [costs.of(one) for one in networks]


def test_genes_without_effect_cost_nothing() -> None:
    encoding, costs = Encoding(PAPER_SPACE), CostModel(PAPER_SPACE, EVERY, "bfloat16", tables(PAPER_SPACE), LOAD)
    raw = np.random.default_rng(0).integers(encoding.choices, size=(200, encoding.genes))
    assert (costs.of_genomes(raw) == costs.of_genomes(encoding.canonical(raw))).all()


def test_layers_are_counted_by_attention_and_width() -> None:
    space = SearchSpace(SHAPE, (8, 6), (32, 16), (3, 4))
    costs = CostModel(space, ("parameters",), "float32")
    genomes = Encoding(space).encode([space.largest(), space.smallest(6)])
    assert costs.kinds == [LayerKind(32), LayerKind(16), LayerKind(48)]
    assert costs.layers_of_kind(genomes).tolist() == [[8, 0, 0], [0, 6, 0]]
    space = replace(space, attentions=("keep", "skip"))
    costs = CostModel(space, ("parameters",), "float32")
    one = Architecture(layers=tuple(range(8)), mlp_widths=(32,) * 7 + (16,), without_attention=(0, 7))
    genomes = Encoding(space).encode([one, space.smallest(6)])
    assert costs.kinds == [LayerKind(width, has) for has in (True, False) for width in (32, 16)] + [LayerKind(48)]
    assert costs.layers_of_kind(genomes).tolist() == [[6, 0, 1, 1, 0], [0, 0, 0, 6, 0]]


@given(spaces(), DTYPES, st.randoms(use_true_random=False))
def test_the_kv_cache_is_that_of_the_served_batch_at_its_longest(
    space: SearchSpace, dtype: Dtype, rng: random.Random
) -> None:
    costs = CostModel(space, ("kv_cache_bytes",), dtype, load=LOAD)
    for one in [*drawn(space, rng), dense(space.network)]:
        assert costs.of(one) == (3 * 100 * cache_bytes(derive(space.network, one), dtype),)
    with pytest.raises(ValueError, match="load"):
        CostModel(space, ("kv_cache_bytes",), dtype)


def test_layers_cache_no_more_than_their_windows_and_then_it_matters_which_layers_there_are() -> None:
    attention = SHAPE.layers[0].attention
    assert attention is not None
    windowed = replace(SHAPE.layers[0], attention=replace(attention, window=60))
    network = replace(SHAPE, layers=(windowed, *SHAPE.layers[1:]))
    space = SearchSpace(network, (8,), (48, 32), (), attentions=("keep", "skip"))
    costs = CostModel(space, ("kv_cache_bytes", "parameters"), "bfloat16", load=LOAD)
    layers, widths = tuple(range(8)), (48,) * 8
    with_window, without = (
        Architecture(layers=layers, mlp_widths=widths, without_attention=(skipped,)) for skipped in (5, 0)
    )
    per_token = 2 * 2 * attention.keys
    assert costs.of(with_window) == (3 * per_token * (60 + 6 * 100), costs.of(without)[1])
    assert costs.of(without)[0] == 3 * per_token * 7 * 100
    assert costs.of_genomes(Encoding(space).encode([with_window, without]))[:, 0].tolist() == [
        costs.of(one)[0] for one in (with_window, without)
    ]
    assert not costs.same_everywhere
    assert CostModel(space, ("parameters",), "bfloat16").same_everywhere
    short = LOAD.model_copy(update={"prompt_tokens": 30})
    assert CostModel(space, ("kv_cache_bytes",), "bfloat16", load=short).same_everywhere


def test_networks_with_as_many_layers_of_each_width_cost_exactly_the_same() -> None:
    costs = CostModel(PAPER_SPACE, EVERY, "bfloat16", tables(PAPER_SPACE), LOAD)
    widths = [11008] * 20 + [5504] * 12
    shuffled = random.Random(0).sample(widths, len(widths))
    one, other = (Architecture(layers=tuple(range(32)), mlp_widths=tuple(each)) for each in (widths, shuffled))
    assert one != other
    assert costs.of(one) == costs.of(other)


def test_llama2_7b_has_the_bytes_of_the_paper() -> None:
    whole = dense(LLAMA2_7B)
    costs = CostModel(PAPER_SPACE, ("bytes",), "bfloat16")
    assert costs.dense == costs.of(whole) == (2 * 6_738_415_616,)
    linear = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
    scales = 32 * (4 * 4096 + 2 * 11008 + 4096)
    assert costs.of(whole.quantized("int8")) == (2 * (6_738_415_616 - linear) + linear + 4 * scales,)


def test_the_dense_network_is_the_unit_though_no_choice_of_the_space_is_as_wide() -> None:
    space = SearchSpace(SHAPE, (8, 6), (32, 16), (3, 4), ("int8",))
    assert CostModel(space, ("parameters",), "float32").dense == (parameters(SHAPE),)
    costs = CostModel(space, ("decode_seconds",), "float32", tables(space))
    assert costs.dense == pytest.approx((0.001 + 8 * (7 + 48) * 0.0001,))


def test_what_was_not_measured_is_not_invented() -> None:
    costs = CostModel(PAPER_SPACE, ("decode_seconds",), "float32", tables(PAPER_SPACE, ("none",)))
    with pytest.raises(ValueError, match="int8"):
        costs.of(PAPER_SPACE.largest().quantized("int8"))
    with pytest.raises(ValueError, match="7"):
        costs.of(Architecture(layers=(0,), mlp_widths=(7,)))
