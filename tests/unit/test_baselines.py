"""What each baseline removes first, where the right answer is known."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from services.pruner.baselines import make_baseline
from services.pruner.baselines.llm_pruner import MEASURES, LlmPruner, saliences
from services.pruner.calibration import TOKENS_PER_PASS, Calibration
from services.pruner.input_statistics import InputStatistics, measure_inputs
from services.pruner.protocol import PrunedNetwork
from services.pruner.ranking import Ranking, globally, uniformly
from services.pruner.selection import choose, narrowed
from services.pruner.structures import KINDS, Scores, count, per_number, with_counts
from services.pruner.target import ParameterTarget
from shared.architecture import Architecture
from shared.errors import UserError
from shared.network.shape import NetworkShape
from shared.network.sizes import layer_parameters, parameters
from shared.network.tensors import TensorSpec, tensors
from shared.settings.baselines import LlmPrunerOptions, parse_options
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.divergence import WholeNetwork
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import LAYERS, WIDTH, random_sequences, write_checkpoint
from tests.support.uneven import UNEVEN

TEXT = Calibration(tuple(map(tuple, random_sequences(9, 14, 5, 12, seed=7))))
CPU = torch.device("cpu")
DEAD = (3, 17)
"""Neurons that do nothing, in every layer."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    made: dict[str, Checkpoint] = {}

    def base(family: str) -> Checkpoint:
        if family not in made:
            place: Path = tmp_path_factory.mktemp("base")
            write_checkpoint(place, family)
            made[family] = Checkpoint.open(place)
        return made[family]

    return base


def changed(base: Checkpoint, change: Callable[[TensorSpec, Tensor], Tensor]) -> Checkpoint:
    """A base with other weights."""
    weights = {spec.name: change(spec, base.weights[spec.name].clone()) for spec in tensors(base.network)}
    return replace(base, weights=weights)


@torch.inference_mode()
def logits(network: Decoder) -> Tensor:
    return network.logits(network.hidden(pack([Tree.plain(one) for one in TEXT.sequences])))


def without(base: Checkpoint, neurons: int = 0, groups: int = 0) -> ParameterTarget:
    """The size of a base of which each layer has lost so many structures."""
    layers = tuple(
        with_counts(layer, layer.mlp_width - neurons, layer.attention.kv_heads - groups)
        for layer in base.network.layers
        if layer.attention is not None
    )
    return ParameterTarget(at_most=parameters(replace(base.network, layers=layers)))


def prune(base: Checkpoint, target: ParameterTarget, seed: int = 0, **options: Any) -> PrunedNetwork:
    return make_baseline(parse_options(options, "test")).prune(base, TEXT, target, seed)


def zeroed(tensor: Tensor, axis: int, places: slice | tuple[int, ...]) -> Tensor:
    index = list(range(tensor.shape[axis]))[places] if isinstance(places, slice) else list(places)
    tensor.index_fill_(axis, torch.tensor(index), 0)
    return tensor


def dead_neurons(spec: TensorSpec, tensor: Tensor) -> Tensor:
    if spec.neurons is None:
        return tensor
    return zeroed(tensor, 0 if spec.neurons == "rows" else 1, DEAD)


def silent_neurons(spec: TensorSpec, tensor: Tensor) -> Tensor:
    """Neurons with large weights that are always 0, as their gates are."""
    if spec.part == "mlp.gate":
        return zeroed(tensor, 0, DEAD)
    if spec.neurons is not None:
        tensor.index_fill_(0 if spec.neurons == "rows" else 1, torch.tensor(DEAD), 9.0)
    return tensor


def unread_neurons(spec: TensorSpec, tensor: Tensor) -> Tensor:
    """Neurons whose gates and ups have large weights, but which nobody reads."""
    if spec.part == "mlp.down":
        return zeroed(tensor, 1, DEAD)
    if spec.part in ("mlp.gate", "mlp.up"):
        tensor.index_fill_(0, torch.tensor(DEAD), 9.0)
    return tensor


def dead_first_group(spec: TensorSpec, tensor: Tensor) -> Tensor:
    if spec.part == "attention.output" and not spec.bias:
        return zeroed(tensor, 1, slice(0, spec.size[1] // 2))
    if spec.part.startswith("attention.") and spec.kind == "linear" and not spec.bias:
        return zeroed(tensor, 0, slice(0, spec.rows // 2))
    return tensor


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"baseline": "magnitude"}, dead_neurons),
        ({"baseline": "magnitude", "allocation": "global"}, dead_neurons),
        ({"baseline": "wanda", "heads": False}, dead_neurons),
        ({"baseline": "wanda", "heads": False}, silent_neurons),
        ({"baseline": "wanda", "heads": False}, unread_neurons),
        ({"baseline": "flap", "heads": False, "allocation": "uniform", "compensation": False}, dead_neurons),
        ({"baseline": "flap", "heads": False, "allocation": "uniform", "compensation": False}, silent_neurons),
        ({"baseline": "flap", "heads": False, "allocation": "uniform", "compensation": False}, unread_neurons),
    ],
    ids=lambda value: value["baseline"] if isinstance(value, dict) else value.__name__,
)
def test_neurons_that_do_nothing_go_first_and_nothing_changes(
    options: Mapping[str, Any], change: Callable[[TensorSpec, Tensor], Tensor], bases: Callable[[str], Checkpoint]
) -> None:
    base = changed(bases("llama-grouped-tied"), change)
    made = prune(base, without(base, neurons=len(DEAD)), **options).network
    assert made.shape.mlp_widths == (WIDTH - len(DEAD),) * LAYERS
    torch.testing.assert_close(logits(made), logits(base.cut()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", [dead_neurons, silent_neurons, unread_neurons])
@pytest.mark.parametrize("importance", ["element", "vector"])
def test_llm_pruner_takes_them_too_but_of_its_first_and_last_layers(
    importance: str, change: Callable[[TensorSpec, Tensor], Tensor], bases: Callable[[str], Checkpoint]
) -> None:
    base = changed(bases("llama-grouped-tied"), change)
    size, one_layer = parameters(base.network), (parameters(base.network) - without(base, neurons=2).at_most) // LAYERS
    target = ParameterTarget(at_most=size - one_layer * (LAYERS - 2))
    made = prune(base, target, baseline="llm-pruner", heads=False, importance=importance).network
    assert made.shape.mlp_widths == (WIDTH, *(WIDTH - 2,) * (LAYERS - 2), WIDTH)
    torch.testing.assert_close(logits(made), logits(base.cut()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["magnitude", "wanda", "flap"])
def test_key_and_value_heads_go_with_the_query_heads_that_share_them(
    name: str, bases: Callable[[str], Checkpoint]
) -> None:
    base = changed(bases("llama-grouped-tied"), dead_first_group)
    options = {"compensation": False} if name == "flap" else {}
    target = without(base, groups=1)
    made = prune(base, target, baseline=name, heads=True, allocation="global", **options).network
    attentions = [layer.attention for layer in made.shape.layers]
    if name == "magnitude":
        assert [(one.heads, one.kv_heads) for one in attentions if one] == [(2, 1)] * LAYERS
        assert made.shape.mlp_widths == (WIDTH,) * LAYERS
        torch.testing.assert_close(logits(made), logits(base.cut()), atol=1e-5, rtol=1e-5)
    assert any(one.kv_heads == 1 for one in attentions if one)
    for layer, original in zip(made.layers, base.cut().layers, strict=True):
        assert layer.attention is not None and original.attention is not None
        if layer.attention.shape.kv_heads == 1:
            for part, axis in (("query", 0), ("key", 0), ("value", 0), ("output", 1)):
                whole = getattr(original.attention, part).weight
                second = whole.narrow(axis, whole.shape[axis] // 2, whole.shape[axis] // 2)
                assert torch.equal(getattr(layer.attention, part).weight, second)


def test_llm_pruner_s_importance_of_a_group_is_that_of_its_own_heads(bases: Callable[[str], Checkpoint]) -> None:
    base = bases("llama-grouped-tied")  # 4 heads of 8 numbers, 2 key and value heads
    salience = saliences(base.cut(), TEXT)
    found = per_number(base.network, 1, lambda spec: salience[spec.name], lambda vectors: vectors.abs().sum(1))
    for group in (0, 1):
        rows = slice(16 * group, 16 * (group + 1))
        shared = slice(8 * group, 8 * (group + 1))
        own = [
            salience["model.layers.1.self_attn.q_proj.weight"][rows],
            salience["model.layers.1.self_attn.k_proj.weight"][shared],
            salience["model.layers.1.self_attn.v_proj.weight"][shared],
            salience["model.layers.1.self_attn.o_proj.weight"][:, rows],
        ]
        expected = sum(float(one.abs().sum()) for one in own) / sum(one.numel() for one in own)
        assert float(found["groups"][group]) == pytest.approx(expected, rel=1e-5)


def test_saliences_say_how_the_loss_changes_when_weights_grow(bases: Callable[[str], Checkpoint]) -> None:
    base, step = bases("llama-biases"), 1e-2
    salience = saliences(base.cut(), TEXT)
    for name in ("model.layers.2.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.bias"):
        losses = []
        for factor in (1 + step, 1 - step):
            weights = {**base.weights, name: base.weights[name] * factor}
            network = replace(base, weights=weights).cut()
            (one,) = TEXT.passes(CPU)
            with torch.inference_mode():
                scores = network.logits(network.hidden(one.packed)[one.places])
                losses.append(float(F.cross_entropy(scores.double(), one.targets)))
        assert float(salience[name].sum()) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=0.02, abs=1e-4)
    assert all(name in base.weights and not tensor.requires_grad for name, tensor in salience.items())
    assert not any(tensor.requires_grad for tensor in base.weights.values())


def test_importance_of_vectors_lets_weights_cancel_out() -> None:
    salience = torch.tensor([[1.0, -1.0], [2.0, 2.0]])
    assert MEASURES["element"](salience).tolist() == [2.0, 4.0]
    assert MEASURES["vector"](salience).tolist() == [0.0, 4.0]


@pytest.mark.parametrize(("depth", "spared"), [(32, {0, 1, 2, 3, 30, 31}), (5, {0, 4}), (1, {0}), (2, {0, 1})])
def test_llm_pruner_spares_first_and_last_layers(depth: int, spared: set[int]) -> None:
    assert LlmPruner(LlmPrunerOptions()).spared(depth) == spared


def constant_neurons(spec: TensorSpec, tensor: Tensor) -> Tensor:
    """Neurons whose value doesn't depend on the input."""
    if spec.part in ("mlp.gate", "mlp.up"):
        tensor.index_fill_(0, torch.tensor(DEAD), 2.0 if spec.bias else 0.0)
    return tensor


def test_flap_removes_what_is_constant_and_keeps_what_it_adds(bases: Callable[[str], Checkpoint]) -> None:
    base = changed(bases("llama-biases"), constant_neurons)
    made, plain = (
        prune(
            base,
            without(base, neurons=len(DEAD)),
            baseline="flap",
            heads=False,
            allocation="uniform",
            compensation=compensation,
        ).network
        for compensation in (True, False)
    )
    assert made.shape.mlp_widths == plain.shape.mlp_widths == (WIDTH - len(DEAD),) * LAYERS
    tolerance = 2e-2 * float(logits(base.cut()).std())  # of the means, measured in bfloat16 on some machines
    assert float((logits(made) - logits(base.cut())).abs().max()) < tolerance
    assert float((logits(plain) - logits(base.cut())).abs().max()) > tolerance


def test_flap_s_biases_count_and_are_zero_beside_those_that_it_needs(bases: Callable[[str], Checkpoint]) -> None:
    base = bases("llama-grouped-tied")
    target = ParameterTarget(at_most=int(0.8 * parameters(base.network)))
    made = prune(base, target, baseline="flap").network
    assert parameters(made.shape) == sum(tensor.numel() for _, tensor in made.weights()) <= target.at_most
    for before, after in zip(base.network.layers, made.shape.layers, strict=True):
        assert after.mlp is not None and after.attention is not None
        assert after.mlp.bias == (after.mlp_width < before.mlp_width)
        assert not after.attention.qkv_bias
    mlp = next(layer.mlp for layer in made.layers if layer.mlp is not None and layer.mlp.shape.bias)
    assert mlp.gate.bias is not None and mlp.up.bias is not None and mlp.down.bias is not None
    assert not mlp.gate.bias.any() and not mlp.up.bias.any() and mlp.down.bias.any()


def test_statistics_are_those_of_all_tokens(bases: Callable[[str], Checkpoint]) -> None:
    chunks = torch.randn(3, 5, 4) * 3 + 10
    counted = InputStatistics(4, CPU)
    for chunk in chunks:
        counted.add(chunk)
    flat = chunks.flatten(0, 1).double()
    torch.testing.assert_close(counted.mean, flat.mean(0))
    torch.testing.assert_close(counted.mean_square, flat.square().mean(0))
    torch.testing.assert_close(counted.variance, flat.var(0))
    network = bases("gemma3").cut()
    measured = measure_inputs(network, TEXT)
    neurons: dict[int, Tensor] = {}
    (one,) = TEXT.passes(CPU)
    with torch.inference_mode():
        network.hidden(
            one.packed, lambda index, _, inner, __: neurons.update({index: inner}) if inner is not None else None
        )
    for index, layer in enumerate(measured):
        assert layer.mlp is not None and layer.attention is not None
        assert layer.mlp.tokens == layer.attention.tokens == TEXT.tokens
        torch.testing.assert_close(layer.mlp.mean, neurons[index].double().mean(0))


IDENTITY = 2
"""The layer that does nothing."""


def identity_block(spec: TensorSpec, tensor: Tensor) -> Tensor:
    return tensor.zero_() if spec.layer == IDENTITY and spec.part in ("attention.output", "mlp.down") else tensor


@pytest.mark.parametrize("name", ["shortgpt", "greedy", "evopress"])
@pytest.mark.parametrize("family", ["llama-grouped-tied", "qwen3-window"])
def test_a_layer_that_does_nothing_goes_first(family: str, name: str, bases: Callable[[str], Checkpoint]) -> None:
    base = changed(bases(family), identity_block)
    made = prune(base, ParameterTarget(at_most=parameters(base.network) - 1), baseline=name)
    assert made.kept == (0, 1, 3, 4)
    torch.testing.assert_close(logits(made.network), logits(base.cut()), atol=1e-5, rtol=1e-5)


def test_greedy_dropping_looks_at_what_is_left(bases: Callable[[str], Checkpoint]) -> None:
    base = bases("llama-grouped-tied")
    layer = layer_parameters(base.network.family, base.network.layers[0])
    target = ParameterTarget(at_most=parameters(base.network) - 2 * layer)
    made = prune(base, target, baseline="greedy")
    dense = logits(base.cut()).double().log_softmax(-1)

    def cost(kept: tuple[int, ...]) -> float:
        widths = tuple(base.network.mlp_widths[index] for index in kept)
        ours = logits(base.cut(Architecture(layers=kept, mlp_widths=widths))).double().log_softmax(-1)
        return float((dense.exp() * (dense - ours)).sum(-1).mean())

    kept = tuple(range(LAYERS))
    for _ in range(2):
        kept = min((tuple(one for one in kept if one != gone) for gone in kept), key=cost)
    assert made.kept == kept
    every = tuple(range(LAYERS))
    assert WholeNetwork(base.cut(), TEXT.rows(CPU)).divergences([kept, every]) == {
        kept: pytest.approx(cost(kept), rel=1e-4),
        every: pytest.approx(0, abs=1e-6),
    }


def test_choices_of_layers_share_the_work_on_what_they_begin_with(
    bases: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, through = bases("qwen3-window"), list[int]()
    one_less = [tuple(one for one in range(LAYERS) if one != gone) for gone in range(LAYERS)]
    choices = [*one_less, (0,), (0, 1), (LAYERS - 1,), tuple(range(LAYERS))]
    alone = [WholeNetwork(base.cut(), TEXT.rows(CPU)).divergences([kept])[kept] for kept in choices]
    plain = Decoder.layer_outputs

    def counted(self: Decoder, index: int, *others: Any) -> Tensor:
        through.append(index)
        return plain(self, index, *others)

    monkeypatch.setattr(Decoder, "layer_outputs", counted)
    whole = WholeNetwork(base.cut(), TEXT.rows(CPU))
    together = whole.divergences(one_less)
    # Without layer i those behind it are to be passed, once each, and those before the last one all together.
    assert len(through) == sum(range(LAYERS)) + LAYERS - 1
    assert [whole.divergences(choices)[kept] for kept in choices] == alone, "to the last bit"
    through.clear()
    assert whole.divergences(one_less) == together and not through, "nothing is measured twice"


def test_greedy_dropping_measures_no_drop_that_isn_t_made(
    bases: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, asked = bases("llama-biases"), list[int]()
    plain = WholeNetwork.divergences

    def counted(self: WholeNetwork, choices: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
        found = plain(self, choices)
        asked.append(len(found))
        return found

    monkeypatch.setattr(WholeNetwork, "divergences", counted)
    layer = layer_parameters(base.network.family, base.network.layers[0])
    prune(base, ParameterTarget(at_most=parameters(base.network) - 2 * layer), baseline="greedy")
    assert asked == [LAYERS, LAYERS - 1]


def test_evolution_finds_the_best_of_all_choices_of_layers(bases: Callable[[str], Checkpoint]) -> None:
    base = bases("llama-biases")
    layer = layer_parameters(base.network.family, base.network.layers[0])
    target = ParameterTarget(at_most=parameters(base.network) - 2 * layer)
    divergences = WholeNetwork(base.cut(), TEXT.rows(CPU)).divergences(combinations(range(LAYERS), LAYERS - 2))
    best = min(divergences, key=lambda kept: divergences[kept])
    assert prune(base, target, baseline="evopress").kept == best
    hasty = {"baseline": "evopress", "generations": 1, "offspring": 2}
    assert len({prune(base, target, seed, **hasty).kept for seed in range(5)}) > 1


def test_random_networks_differ_in_depth_and_from_layer_to_layer(bases: Callable[[str], Checkpoint]) -> None:
    base = bases("llama-grouped-tied")
    target = ParameterTarget(at_most=int(0.8 * parameters(base.network)))
    made = [prune(base, target, seed, baseline="random") for seed in range(30)]
    assert len({one.network.shape.depth for one in made}) > 1
    assert len({one.kept for one in made}) > 5
    assert all(len(set(one.network.shape.mlp_widths)) > 1 for one in made if one.network.shape.depth == LAYERS)


numbers = st.lists(st.floats(-5, 5, width=16), min_size=0, max_size=6).map(torch.tensor)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4), st.sampled_from([uniformly, globally]))
def test_a_ranking_holds_all_but_the_best_of_each_layer_and_kind_the_least_important_first(
    layers: list[tuple[Tensor, Tensor]], rank: Callable[[Scores], Ranking]
) -> None:
    scores = Scores(tuple(one for one, _ in layers), tuple(one for _, one in layers))
    ranking = rank(scores)
    for kind, own in zip(KINDS, (scores.neurons, scores.groups), strict=True):
        for layer, values in enumerate(own):
            places = ranking.removed(len(ranking), layer, kind)
            assert len(places) == len(set(places.tolist())) == max(len(values) - 1, 0)
            gone = values[places]
            assert gone.tolist() == sorted(gone.tolist()) and (not len(gone) or gone[-1] <= values.max())
    if rank is globally:
        both = (scores.neurons, scores.groups)
        order = [
            float(both[kind][layer][place])
            for layer, kind, place in zip(
                *(one.tolist() for one in (ranking.layers, ranking.kinds, ranking.places)), strict=True
            )
        ]
        assert order == sorted(order)


@given(st.sampled_from(list(UNEVEN.values())), st.sampled_from([uniformly, globally]), st.data())
def test_no_more_is_removed_than_has_to_be(
    network: NetworkShape, rank: Callable[[Scores], Ranking], data: st.DataObject
) -> None:
    chance = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    ranking = rank(
        Scores.of_layers(
            {kind: torch.rand(count(layer, kind), generator=chance) for kind in KINDS} for layer in network.layers
        )
    )
    sizes = [parameters(narrowed(network, ranking.counts(number, network))) for number in range(len(ranking) + 1)]
    target = data.draw(st.integers(sizes[-1], sizes[0] + 1))
    kept = choose(network, ranking, ParameterTarget(at_most=target))
    removed = sum(
        count(layer, kind) - len(one[kind]) for layer, one in zip(network.layers, kept, strict=True) for kind in KINDS
    )
    assert removed == next(number for number, size in enumerate(sizes) if size <= target)


@given(st.lists(st.lists(st.floats(-5, 5, width=16), min_size=6, max_size=6), min_size=2, max_size=5), st.data())
def test_layers_of_equal_size_lose_equally_much(layers: list[list[float]], data: st.DataObject) -> None:
    empty = (torch.empty(0),) * len(layers)
    ranking = uniformly(Scores(tuple(map(torch.tensor, layers)), empty))
    number = data.draw(st.integers(0, len(ranking)))
    gone = [len(ranking.removed(number, layer, "neurons")) for layer in range(len(layers))]
    assert sum(gone) == number and max(gone) - min(gone) <= 1


@pytest.mark.parametrize(("neurons_gone", "groups_gone"), [(0, 0), (3, 0), (4, 1), (7, 1), (8, 2), (11, 2)])
def test_of_few_groups_one_goes_with_as_large_a_share_of_the_neurons(neurons_gone: int, groups_gone: int) -> None:
    ranking = uniformly(Scores((torch.arange(12.0),), (torch.arange(3.0) - 9,)))
    number = neurons_gone + groups_gone
    assert len(ranking.removed(number, 0, "neurons")) == neurons_gone
    assert ranking.removed(number, 0, "groups").tolist() == list(range(groups_gone))


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"baseline": "nope"}, r"baselines: .*'nope'"),
        ({}, r"baselines: .*baseline"),
        ("magnitude", r"baselines: "),
        ({"baseline": "magnitude", "head": True}, r"baselines: magnitude\.head: unknown key"),
        ({"baseline": "wanda", "allocation": "some"}, r"baselines: wanda\.allocation: .*\(it is 'some'\)"),
        ({"baseline": "shortgpt", "heads": True}, r"baselines: shortgpt\.heads: unknown key"),
    ],
)
def test_options_that_there_are_not_are_refused_in_one_line(values: object, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        parse_options(values, "baselines")
    assert "\n" not in str(refusal.value)


def test_calibration_text_goes_through_a_network_whole_and_in_order() -> None:
    sequences = tuple(tuple(range(length)) for length in (700, 1500, 3000, 2, 600))
    text = Calibration(sequences)
    passes = list(text.passes(CPU))
    assert [len(one.packed.tokens) for one in passes] == [700, 1500, 3000, 602]
    assert TOKENS_PER_PASS == 2048 and text.tokens == 5802 and text.predictions == 5797
    for one in passes:
        assert torch.equal(one.packed.tokens[one.places] + 1, one.targets)  # each token is one more than the last
    assert text.digest == Calibration(sequences).digest != Calibration(sequences[1:]).digest


@pytest.mark.parametrize(
    ("sequences", "complaint"),
    [
        ((), r"^calibration: there are no sequences"),
        (((1, 2), (3,)), r"^calibration: sequence 2 has less than 2 tokens"),
    ],
)
def test_calibration_text_that_says_nothing_is_refused(sequences: tuple[tuple[int, ...], ...], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        Calibration(sequences)
