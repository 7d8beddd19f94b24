"""The search space: encoding, sampling, and sizes that are exact."""

import json
import random
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from shared.architecture import Architecture, dense, derive
from shared.digest import digest_json
from shared.drop_orders import DropOrders, all_orders, from_json, one_or_several, to_json, unmeasured_orders
from shared.errors import UserError
from shared.network.config import network_of
from shared.network.sizes import parameters, weight_bytes
from shared.space import Genome, SearchSpace
from tests.support.checkpoints import FAMILIES, SIZES, random_model
from tests.support.spaces import LLAMA2_7B, PAPER_SPACE, spaces, spaces_with_genomes

LLAMA_CONFIG = {"model_type": "llama", **SIZES}


@given(spaces_with_genomes(genomes=1))
def test_genome_to_architecture_to_genome_leads_back(case: tuple[SearchSpace, list[Genome]]) -> None:
    space, (genome,) = case
    architecture = space.architecture(genome)
    canonical = space.genome(architecture)
    assert space.architecture(canonical) == architecture
    assert space.genome(space.architecture(canonical)) == canonical
    for gene, value, chosen in zip(space.genes, canonical, genome, strict=True):
        if gene.kind != "drop_order":
            assert value == (chosen if gene.layer is None or gene.layer in architecture.layers else 0)


@given(spaces_with_genomes(genomes=1), st.randoms(use_true_random=False))
def test_genes_without_effect_do_not_matter(case: tuple[SearchSpace, list[Genome]], rng: random.Random) -> None:
    space, (genome,) = case
    architecture = space.architecture(genome)
    disturbed = tuple(
        value if gene.layer is None or gene.layer in architecture.layers else rng.randrange(gene.choices)
        for value, gene in zip(genome, space.genes, strict=True)
    )
    assert space.architecture(disturbed) == architecture
    assert space.architecture(disturbed).digest == architecture.digest
    assert space.genome(space.architecture(disturbed)) == space.genome(architecture)


@given(spaces_with_genomes(genomes=2))
def test_networks_are_equal_exactly_where_their_digests_and_canonical_genomes_are(
    case: tuple[SearchSpace, list[Genome]],
) -> None:
    space, (one, other) = (case[0], [case[0].architecture(genome) for genome in case[1]])
    assert (one == other) == (one.digest == other.digest) == (space.genome(one) == space.genome(other))


@given(spaces(max_layers=3))
def test_the_stated_numbers_are_those_counted(space: SearchSpace) -> None:
    genes = [range(len(space.drop_orders))] if len(space.drop_orders) > 1 else []
    genes += [range(len(space.mlp_widths))] * space.network.depth
    genes += [range(len(space.attentions))] * (space.network.depth if len(space.attentions) > 1 else 0)
    genomes = list(product(range(len(space.depths)), *genes, range(len(space.quantizations))))
    assert len(genomes) == space.genomes
    assert len({space.architecture(genome).digest for genome in genomes}) == space.networks


@given(spaces())
def test_no_network_is_smaller_than_the_smallest_or_larger_than_the_largest(space: SearchSpace) -> None:
    sampled = [space.parameters(space.sample(random.Random(seed))) for seed in range(20)]
    assert space.parameters(space.smallest()) <= min(sampled)
    assert max(sampled) <= space.parameters(space.largest())
    for depth in space.depths:
        assert space.smallest(depth).depth == space.largest(depth).depth == depth
        assert set(space.smallest(depth).mlp_widths) == {min(space.mlp_widths)}
        assert set(space.largest(depth).mlp_widths) == {max(space.mlp_widths)}
        assert not space.largest(depth).without_attention
        assert any(space.smallest(depth).attentions) == (len(space.attentions) == 1)


@given(spaces(), st.integers(0, 2**32))
def test_the_trainer_s_networks_are_never_quantised_and_do_not_depend_on_the_choice(
    space: SearchSpace, seed: int
) -> None:
    plain = replace(space, quantizations=("none",))
    rng, other = random.Random(seed), random.Random(seed)
    drawn = [space.sample(rng) for _ in range(5)]
    assert drawn == [plain.sample(other) for _ in range(5)]
    assert {network.quantization for network in drawn} == {"none"}


@given(spaces(max_orders=1), st.integers(0, 2**32))
def test_where_attention_is_kept_all_is_as_in_former_releases(space: SearchSpace, seed: int) -> None:
    plain = replace(space, attentions=("keep",), quantizations=("none",))
    architecture = plain.sample(random.Random(seed))
    assert len(plain.genes) == plain.network.depth + 2 == len(plain.genome(architecture))
    assert "without_attention" not in architecture.model_dump_json()
    assert architecture.digest == digest_json(
        {"layers": list(architecture.layers), "mlp_widths": list(architecture.mlp_widths)}
    )
    with_skips = replace(plain, attentions=("keep", "skip"))
    skipping = Architecture(**{**architecture.model_dump(), "without_attention": architecture.layers[-1:]})
    assert with_skips.genome(skipping) != with_skips.genome(architecture)
    with pytest.raises(UserError, match="lacks its attention"):
        plain.genome(skipping)


def test_some_attention_has_to_be_kept() -> None:
    with pytest.raises(UserError, match=r"space.attention.*list keep"):
        SearchSpace(LLAMA2_7B, (32,), (11008,), (), attentions=("skip",))


def test_the_trainer_draws_attentions_too() -> None:
    space = SearchSpace(network_of(LLAMA_CONFIG), (5,), (24,), (), attentions=("keep", "skip"))
    counts = Counter(len(space.sample(random.Random(seed)).without_attention) for seed in range(400))
    assert set(counts) == set(range(6)) and counts[2] + counts[3] > 200


def test_the_trainer_s_networks_are_those_of_former_releases() -> None:
    space = SearchSpace(network_of(LLAMA_CONFIG), (5, 3), (24, 12, 6), (2, 3))
    drawn = [space.sample(random.Random(f"0/{step}")) for step in (1, 3)]
    assert [one.mlp_widths for one in drawn] == [(6, 6, 24), (24, 24, 12, 12, 6)]
    assert [one.layers for one in drawn] == [(0, 1, 4), (0, 1, 2, 3, 4)]


@given(spaces())
def test_both_ends_of_a_space_lie_in_it(space: SearchSpace) -> None:
    assert set(space.quantizations) <= {"none", "int8"} and space.quantizations == tuple(
        sorted(space.quantizations, reverse=True)
    )
    for end in (space.largest(), space.smallest()):
        assert space.architecture(space.genome(end)) == end
    assert space.largest().quantization == space.quantizations[0]
    assert space.smallest().quantization == space.quantizations[-1]


def test_bytes_are_those_of_the_weights_and_of_a_scale_for_each_row() -> None:
    shape = network_of(LLAMA_CONFIG | {"attention_bias": True, "mlp_bias": True})
    one = Architecture(layers=(0, 3), mlp_widths=(24, 6))
    assert weight_bytes(derive(shape, one), "bfloat16", "none") == 2 * parameters(derive(shape, one))
    assert weight_bytes(derive(shape, one), "float32", "none") == 4 * parameters(derive(shape, one))
    model = random_model("llama")
    linear = [
        module.weight for name, module in model.named_modules() if name.startswith("model.layers.0.") and "proj" in name
    ]
    shape = network_of(model.config.to_dict())
    weights, rows = (shape.depth * sum(size) for size in zip(*((w.numel(), w.shape[0]) for w in linear), strict=True))
    rest = parameters(shape) - weights
    assert weight_bytes(shape, "bfloat16", "int8") == weights + 4 * rows + 2 * rest


@given(spaces())
def test_layers_leave_in_the_stated_order(space: SearchSpace) -> None:
    for depth in range(space.depths[-1], space.network.depth + 1):
        for number, order in enumerate(space.drop_orders):
            kept = space.kept_layers(depth, number)
            assert list(kept) == sorted(kept) and len(kept) == depth
            assert set(range(space.network.depth)) - set(kept) == set(order[: space.network.depth - depth])


@given(spaces())
def test_orders_that_leave_the_same_layers_make_the_same_network(space: SearchSpace) -> None:
    for depth in space.depths:
        choices = [space.kept_layers(depth, order) for order in range(len(space.drop_orders))]
        for order, kept in enumerate(choices):
            assert space.first_order(depth, order) == choices.index(kept)
            for end in (space.largest(depth, order), space.smallest(depth, order)):
                assert end.layers == kept
                assert all(space.genome(end)[place] == choices.index(kept) for place in space.places("drop_order"))
            (place,) = space.places("drop_order") or (None,)
            assert place is None or space.effective(depth, order)[place] == (len(set(choices)) > 1)


ORDERS = ((2, 3, 1), (3, 2, 1), (2, 1, 3))
SEVERAL = SearchSpace(network_of(LLAMA_CONFIG), (5, 4, 3, 2), (24, 12), ORDERS)


def test_networks_of_several_orders_are_counted_once() -> None:
    assert [gene.name for gene in SEVERAL.genes[:2]] == ["depth", "drop_order"] and SEVERAL.genes[1].choices == 3
    dropped = {5: 1, 4: 2, 3: 2, 2: 1}  # {2} or {3}, {2, 3} or {2, 1}, all three
    assert SEVERAL.networks == sum(sets * 2**depth for depth, sets in dropped.items())
    assert SEVERAL.genomes == 4 * 3 * 2**5
    without_3 = Architecture(layers=(0, 1, 2, 4), mlp_widths=(24,) * 4)
    assert SEVERAL.genome(without_3)[:2] == (1, 1)
    assert SEVERAL.genome(SEVERAL.largest(4, 2))[:2] == (1, 0)
    with pytest.raises(UserError, match=r"layers \[0, 1, 3, 4\] are none"):
        replace(SEVERAL, drop_order=ORDERS[1]).genome(Architecture(layers=(0, 1, 3, 4), mlp_widths=(24,) * 4))


def test_one_order_in_a_list_is_that_order() -> None:
    plain = replace(SEVERAL, drop_order=(2, 3, 1))
    listed = replace(SEVERAL, drop_order=((2, 3, 1),))
    assert listed == plain and listed.drop_order == (2, 3, 1) and listed.drop_orders == ((2, 3, 1),)
    assert [gene.name for gene in plain.genes[:2]] == ["depth", "mlp_width[0]"]


def test_the_trainer_draws_networks_of_all_orders() -> None:
    rng = random.Random(0)
    layers = Counter(SEVERAL.sample(rng).layers for _ in range(4000))
    assert len(layers) == 6
    by_depth = {depth: [count for kept, count in layers.items() if len(kept) == depth] for depth in (4, 3)}
    assert all(250 < count < 750 for counts in by_depth.values() for count in counts)


def test_orders_that_were_not_measured_yet_make_as_many_networks_as_any() -> None:
    assert unmeasured_orders(5, 1) == (4, 3, 2, 1)
    for layers in range(2, 8):
        orders = unmeasured_orders(layers, 3)
        assert all(sorted(order) == list(range(1, layers)) for order in all_orders(orders))
        several = len(set(all_orders(orders)))
        for drops in range(1, layers - 1):
            assert len({frozenset(order[:drops]) for order in all_orders(orders)}) == several
    assert unmeasured_orders(1, 2) == ((), ())


@pytest.mark.parametrize("orders", [(), (2, 1), ((2, 1),), ((2, 1), (1, 2)), ((), ())])
def test_orders_are_read_as_they_were_written(orders: DropOrders) -> None:
    written = to_json(orders)
    assert json.loads(json.dumps(written)) == written
    assert from_json(written) == orders
    assert all_orders(one_or_several(all_orders(orders))) == all_orders(orders)


def test_sampling_draws_every_gene_uniformly() -> None:
    space = SearchSpace(network_of(LLAMA_CONFIG), (5, 3), (24, 12, 6), (2, 3))
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(3000)]
    depths = Counter(architecture.depth for architecture in drawn)
    widths = Counter(architecture.mlp_widths[0] for architecture in drawn)
    assert all(abs(depths[depth] - 1500) < 150 for depth in (5, 3))
    assert all(abs(widths[width] - 1000) < 150 for width in (24, 12, 6))
    assert drawn[:50] == [space.sample(rng) for rng in [random.Random(0)] for _ in range(50)]


def test_the_paper_s_space_has_exactly_the_paper_s_numbers() -> None:
    assert PAPER_SPACE.genomes == 3 * 2**32
    assert PAPER_SPACE.networks == 2**24 + 2**28 + 2**32
    assert PAPER_SPACE.parameters(PAPER_SPACE.smallest()) == 3_496_153_088
    assert PAPER_SPACE.parameters(PAPER_SPACE.largest()) == 6_738_415_616
    assert PAPER_SPACE.largest() == dense(LLAMA2_7B)


def test_the_paper_s_network_for_arc_c_has_exactly_its_size() -> None:
    halved = 8
    network = Architecture(layers=tuple(range(32)), mlp_widths=(11008,) * (32 - halved) + (5504,) * halved)
    assert PAPER_SPACE.parameters(network) == 6_197_350_400


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameters_of_the_whole_network_are_those_of_transformers(family: str) -> None:
    model = random_model(family)
    shape = network_of(model.config.to_dict())
    assert parameters(shape) == model.num_parameters()


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
        {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
        | {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
        {"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28}
        | {"num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936, "tie_word_embeddings": True},
        {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
        | {"num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000},
    ],
    ids=["Llama-3-8B", "Qwen2-0.5B", "Qwen3-0.6B", "Mistral-7B"],
)
def test_the_parameters_of_well_known_models_are_those_of_transformers(config: dict[str, object]) -> None:
    arguments = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **arguments))
    shape = network_of(config)
    assert parameters(shape) == model.num_parameters()


@pytest.mark.parametrize(
    ("depths", "widths", "order", "complaint"),
    [
        ((), (24,), (), "space.depths: give at least one choice"),
        ((5,), (), (), "space.mlp_widths: give at least one choice"),
        ((6,), (24,), (), "space.depths: 6 is impossible, the model has 5 layers; choose from 1 to 5"),
        ((0, 5), (24,), (1, 2, 3, 4, 0), "space.depths: 0 is impossible"),
        ((5,), (25,), (), "space.mlp_widths: 25 is impossible, the model has 24 neurons; choose from 1 to 24"),
        ((5,), (12, 0), (), "space.mlp_widths: 0 is impossible"),
        ((5, 5), (24,), (), r"space.depths: \[5, 5\] names a choice twice"),
        ((5,), (24, 24), (), r"space.mlp_widths: \[24, 24\] names a choice twice"),
        ((3,), (24,), (1,), "drop_order must name 2 different layers"),
        ((3,), (24,), (1, 1), "drop_order must name 2 different layers"),
        ((3,), (24,), ((1, 2), (3,)), r"drop_order must name 2 different layers, it is \[3\]"),
    ],
)
def test_impossible_choices_are_refused_in_one_line(
    depths: tuple[int, ...], widths: tuple[int, ...], order: DropOrders, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        SearchSpace(network_of(LLAMA_CONFIG), depths, widths, order)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("architecture", "complaint"),
    [
        (Architecture(layers=(0, 1, 2, 3), mlp_widths=(24,) * 4), r"layers \[0, 1, 2, 3\] are none of the"),
        (Architecture(layers=(0, 1, 2), mlp_widths=(24,) * 3), r"layers \[0, 1, 2\] are none of the"),
        (
            Architecture(layers=(0, 1, 4), mlp_widths=(24, 7, 24)),
            r"layer 1: MLP width 7 is none of the choices \[24, 12\]",
        ),
        (
            Architecture(layers=(0, 1, 4), mlp_widths=(24, 12, 24), quantization="int8"),
            "quantization int8 is none of the",
        ),
    ],
)
def test_an_architecture_outside_the_space_has_no_genome(architecture: Architecture, complaint: str) -> None:
    space = SearchSpace(network_of(LLAMA_CONFIG), (5, 3), (24, 12), (2, 3))
    with pytest.raises(UserError, match=complaint):
        space.genome(architecture)


def test_what_does_not_fit_into_the_model_is_refused() -> None:
    shape = network_of(LLAMA_CONFIG)
    assert derive(shape, dense(shape)) == shape
    with pytest.raises(UserError, match="layers: 5 is asked for"):
        derive(shape, Architecture(layers=(5,), mlp_widths=(24,)))
    with pytest.raises(UserError, match="mlp_widths: 30 is above"):
        derive(shape, Architecture(layers=(0, 1), mlp_widths=(24, 30)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"model_type": "gpt2"},
            "dir/config.json: model_type 'gpt2' is not supported; use .* llama, mistral, qwen2, qwen3",
        ),
        ({"model_type": None}, "dir/config.json: model_type None is not supported"),
        ({"hidden_act": "gelu"}, "dir/config.json: hidden_act 'gelu' is not supported"),
        ({"num_hidden_layers": 0}, "dir/config.json: num_hidden_layers is 0"),
        ({"intermediate_size": None}, "dir/config.json: intermediate_size is None"),
        ({"vocab_size": "many"}, "dir/config.json: vocab_size is 'many'"),
        ({"hidden_size": 32.0}, "dir/config.json: hidden_size is 32.0"),
        ({"num_key_value_heads": True}, "dir/config.json: num_key_value_heads is True"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_with_file_and_field(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        network_of({**LLAMA_CONFIG, **change}, "dir/config.json")
    assert "\n" not in str(refusal.value)
