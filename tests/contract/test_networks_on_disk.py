"""Cut, written, opened again: the same network, for every family; and a config that says what it is to other tools."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from shared.architecture import Architecture, derive
from shared.errors import UserError
from shared.manifest import read_config, read_network
from shared.network.config import config_of, network_of
from shared.network.families import FAMILIES as FAMILY_NAMES
from shared.network.shape import NetworkShape, layers_to_json
from shared.network.tensors import tensors
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import pack
from shared.supernet.saving import save_network
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree
from tests.support.checkpoints import (
    FAMILIES,
    SIZES,
    WIDTH,
    copied_subnet,
    logits_one_by_one,
    random_sequences,
    write_checkpoint,
)
from tests.support.uneven import UNEVEN

SEQUENCES = random_sequences(3, 20, 9)
UNEVEN_CUT = Architecture(layers=(0, 2, 3), mlp_widths=(6, WIDTH, 11))
EVEN_CUT = Architecture(layers=(0, 2, 3), mlp_widths=(11, 11, 11))
CONFIG = LlamaConfig(**SIZES).to_dict()


@torch.inference_mode()
def logits(network: Decoder) -> Tensor:
    return network.logits(network.hidden(pack([Tree.plain(tokens) for tokens in SEQUENCES])))


def cut_and_written(directory: Path, family: str, architecture: Architecture) -> tuple[Decoder, Checkpoint]:
    write_checkpoint(directory / "base", family)
    base = Checkpoint.open(directory / "base")
    network = base.cut(architecture)
    save_network(network, base, architecture.layers, directory / "cut")
    return network, Checkpoint.open(directory / "cut")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_whose_layers_differ_is_the_same_when_it_is_opened_again(family: str, tmp_path: Path) -> None:
    network, opened = cut_and_written(tmp_path, family, UNEVEN_CUT)
    assert opened.network == network.shape == derive(read_network(tmp_path / "base"), UNEVEN_CUT)
    assert torch.equal(logits(opened.cut()), logits(network))
    config = read_config(tmp_path / "cut")
    assert config["model_type"] == "nasfarm" and config["family"] == network.shape.family
    assert [layer["mlp"]["width"] for layer in config["layers"]] == list(UNEVEN_CUT.mlp_widths)
    theirs = FAMILIES[family][0].from_dict(config | {"model_type": config["family"]})  # by `per_layer_config` alone
    assert [layer.intermediate_size for layer in theirs.per_layer_config] == list(UNEVEN_CUT.mlp_widths)
    assert load_tokenizer(tmp_path / "cut").get_vocab() == load_tokenizer(tmp_path / "base").get_vocab()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_of_layers_that_are_alike_is_a_plain_checkpoint_of_its_family(family: str, tmp_path: Path) -> None:
    network, opened = cut_and_written(tmp_path, family, EVEN_CUT)
    assert torch.equal(logits(opened.cut()), logits(network))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "cut", dtype=torch.float32)
    assert model.config.model_type == network.shape.family and model.config.num_hidden_layers == 3
    theirs = torch.cat(logits_one_by_one(model, SEQUENCES))
    packed = pack([Tree.plain(tokens) for tokens in SEQUENCES])
    order = torch.cat(
        [torch.arange(start, start + len(tokens)) for start, tokens in zip(packed.starts, SEQUENCES, strict=True)]
    )
    torch.testing.assert_close(logits(opened.cut())[order], theirs, atol=1e-5, rtol=1e-5)


def test_what_was_cut_can_be_cut_again(tmp_path: Path) -> None:
    _, opened = cut_and_written(tmp_path, "llama-grouped-tied", UNEVEN_CUT)
    again = Architecture(layers=(1, 2), mlp_widths=(12, 3))
    from_base = Architecture(layers=(2, 3), mlp_widths=(12, 3))
    assert torch.equal(logits(opened.cut(again)), logits(Checkpoint.open(tmp_path / "base").cut(from_base)))


def test_a_checkpoint_with_per_layer_config_is_opened_as_it_says(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "base", "llama-biases")
    network, _ = cut_and_written(tmp_path / "other", "llama-biases", UNEVEN_CUT)
    own = read_config(tmp_path / "other" / "cut")
    assert own["per_layer_config"] == {"0": {"intermediate_size": 6}, "2": {"intermediate_size": 11}}
    plain = {key: value for key, value in own.items() if key not in ("layers", "family")} | {"model_type": "llama"}
    assert network_of(plain) == network.shape
    (tmp_path / "other" / "cut" / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    packed = pack([Tree.plain(tokens) for tokens in SEQUENCES])
    reference = torch.cat(logits_one_by_one(copied_subnet(model, UNEVEN_CUT), SEQUENCES))
    found = logits(Checkpoint.open(tmp_path / "other" / "cut").cut())
    for (start, tokens), place in zip(zip(packed.starts, SEQUENCES, strict=True), (0, 3, 23), strict=True):
        expected = reference[place : place + len(tokens)]
        torch.testing.assert_close(found[start : start + len(tokens)], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", UNEVEN)
def test_any_network_s_config_says_what_it_is(name: str) -> None:
    shape = UNEVEN[name]
    config = json.loads(json.dumps(config_of(shape, CONFIG, range(shape.depth))))
    assert network_of(config) == shape
    assert NetworkShape.from_json(json.loads(json.dumps(shape.to_json())), "here") == shape


def test_key_and_value_heads_are_said_the_way_of_hugging_face_too_where_nothing_else_differs() -> None:
    shape = network_of({**CONFIG, "num_key_value_heads": 2, "per_layer_config": {"1": {"num_key_value_heads": 1}}})
    config = config_of(shape, CONFIG, range(shape.depth))
    assert config["model_type"] == "nasfarm" and config["per_layer_config"] == {"1": {"num_key_value_heads": 1}}
    assert "per_layer_config" not in config_of(UNEVEN["slicegpt"], CONFIG, range(4))


def own_layer(**changes: object) -> dict[str, object]:
    """A config of our own with a single layer whose attention is changed."""
    (layer,) = layers_to_json(UNEVEN["llm-pruner"].layers[:1])
    return {
        "model_type": "nasfarm",
        "family": "llama",
        "layers": [{**layer, "attention": layer["attention"] | changes}],
    }


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"per_layer_config": {"1": {"skip": ["self_attn"]}}}, r"per_layer_config\.1\.skip is not supported; only int"),
        ({"per_layer_config": {"5": {"intermediate_size": 4}}}, r"names layer '5', the model has layers 0 to 4"),
        ({"per_layer_config": {"first": {}}}, r"names layer 'first', the model has"),
        ({"per_layer_config": [1]}, r"must say for a layer's number what differs there"),
        ({"per_layer_config": {"1": {"intermediate_size": 0}}}, r"intermediate_size is 0, not a whole number from 1"),
        ({"layer_types": ["full_attention"], "model_type": "qwen3", "use_sliding_window": True}, r"nothing of layer 1"),
        ({"per_layer_config": {"01": {"intermediate_size": 4}}}, r"names layer '01', the model has layers 0 to 4"),
        ({"per_layer_config": {"1" * 5000: {}}}, r"names layer '1111.*, the model has layers 0 to 4"),
        ({"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": "x"}, r"max_window_layers is 'x'"),
        (
            {"model_type": "gemma3_text", "layer_types": ["chunked_attention"] * 5},
            r"no rotary embedding of gemma3_text",
        ),
        ({"model_type": "gemma3_text", "final_logit_softcapping": 30.0}, r"final_logit_softcapping is not supported"),
        ({"head_dim": 7}, r"head_dim: 7 is odd, which no rotary embedding can turn"),
        ({"model_type": "mistral", "sliding_window": -3}, r"sliding_window is -3"),
        (own_layer(rotary="nope"), r"attention\.rotary: 'nope' is no rotary embedding of llama"),
        (own_layer(post_norm=True), r"attention\.post_norm: networks of the family llama have none"),
        (own_layer(scale=0.0), r"attention\.scale: 0\.0 is impossible"),
        (own_layer(window=0), r"attention\.window: 0 is impossible"),
        ({"num_key_value_heads": 3}, r"4 heads can't share 3 key and value heads evenly"),
        ({"model_type": "nasfarm"}, r"model_type None is not supported; use a model of one of the families llama"),
        ({"model_type": "nasfarm", "family": "llama"}, r"layers must be a list with one object for each layer"),
        ({"model_type": "nasfarm", "family": "llama", "layers": []}, r"layers: a network has at least one"),
        (
            {"model_type": "nasfarm", "family": "llama", "layers": [{"hidden": 3}]},
            r"layers \(0\.attention: Fi",
        ),
        (
            {"model_type": "nasfarm", "family": "llama", "layers": layers_to_json(UNEVEN["slicegpt"].layers[::2])},
            r"layers: layer 1 takes states of 17 numbers, but layer 0 leaves 20",
        ),
        (
            {
                "model_type": "nasfarm",
                "family": "llama",
                "layers": layers_to_json(UNEVEN["slicegpt"].layers[:2]),
                "tie_word_embeddings": True,
            },
            r"tied embeddings: of 24 numbers, but the last layer leaves 17",
        ),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_in_one_line(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        network_of({**CONFIG, **change}, "dir/config.json")
    assert str(refusal.value).startswith("dir/config.json: ") and "\n" not in str(refusal.value)


def test_a_layer_that_changes_the_basis_is_not_left_out() -> None:
    shape = UNEVEN["slicegpt"]
    with pytest.raises(UserError, match="layers: 1 can't be left out, as it changes the basis of what it hands on"):
        derive(shape, Architecture(layers=(0, 2, 3), mlp_widths=(24, 9, 24)))
    assert derive(shape, Architecture(layers=(0, 1, 2), mlp_widths=(24, 24, 9))).outputs == 26


def test_a_layer_whose_width_is_0_has_no_mlp() -> None:
    shape = UNEVEN["no-mlp"]
    assert shape.mlp_widths == (0, 24, 0)
    derived = derive(shape, Architecture(layers=(0, 1, 2), mlp_widths=(0, 0, 0)))
    assert [layer.mlp for layer in derived.layers] == [None] * 3
    with pytest.raises(UserError, match="mlp_widths: 3 is above the model's 0 neurons"):
        derive(shape, Architecture(layers=(0, 1, 2), mlp_widths=(3, 24, 0)))


def test_what_lies_there_is_not_overwritten_and_a_network_in_int8_is_not_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama")
    base = Checkpoint.open(tmp_path / "base")
    with pytest.raises(UserError, match="base: exists already; name another directory"):
        save_network(base.cut(), base, range(5), tmp_path / "base")
    with pytest.raises(UserError, match="a network in INT8 has no checkpoint"):
        save_network(base.cut(UNEVEN_CUT.quantized("int8")), base, UNEVEN_CUT.layers, tmp_path / "cut")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


def test_a_network_is_not_there_if_what_describes_it_cant_be_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama")
    base = Checkpoint.open(tmp_path / "base")

    def describe(written: Path) -> None:
        assert Checkpoint.open(written).network == base.network
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"/cut: can't be written \(No space left on device\); free some space"):
        save_network(base.cut(), base, range(5), tmp_path / "cut", describe)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]


HUB_GEMMA = {
    "model_type": "gemma3_text",
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 5,
    "sliding_window_pattern": 3,
}
"""In the form of the first checkpoints at the hub: a rule says which layers have a window."""


@pytest.mark.parametrize(
    "config",
    [
        HUB_GEMMA,
        {**SIZES, "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
        {**SIZES, "model_type": "smollm3", "no_rope_layer_interval": 2},
    ],
    ids=lambda config: str(config["model_type"]),
)
def test_what_a_rule_says_of_layers_is_said_of_each_where_some_are_left_out(config: dict[str, object]) -> None:
    whole = network_of(config)
    kept = (0, 2, 3)
    cut = derive(whole, Architecture(layers=kept, mlp_widths=(24,) * 3))
    written = config_of(cut, config, kept)
    assert written["model_type"] == config["model_type"] and network_of(written) == cut
    assert len(written["layer_types"]) == 3
    with pytest.raises(ValueError, match="2 places for 3 layers"):
        config_of(cut, config, (0, 2))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
own_keys = st.sampled_from(
    [
        *(*CONFIG, "layers", "family", "per_layer_config", "layer_types", "no_rope_layers", "no_rope_layer_interval"),
        *("sliding_window", "use_sliding_window", "max_window_layers", "sliding_window_pattern"),
        "query_pre_attn_scalar",
    ]
)


@given(
    st.sampled_from([*FAMILY_NAMES, "nasfarm"]), st.dictionaries(own_keys, json_values | st.integers(0, 9), max_size=4)
)
def test_whatever_a_config_holds_is_a_network_or_one_line(model_type: str, changes: dict[str, object]) -> None:
    layers = layers_to_json(UNEVEN["llm-pruner"].layers)
    config = {**CONFIG, "layers": layers, "family": "llama", "model_type": model_type, **changes}
    try:
        network_of(config)
    except UserError as error:
        said = str(error)
    else:
        said = "a network"
    assert "\n" not in said and len(said) < 500


def test_the_order_of_weights_is_that_of_earlier_releases() -> None:
    parts = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
    parts += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"]
    config = {**SIZES, "model_type": "qwen3", "num_hidden_layers": 1}
    names = [spec.name for spec in tensors(network_of(config))]
    assert names == ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"] + [
        f"model.layers.0.{part}.weight" for part in (*parts, "self_attn.q_norm", "self_attn.k_norm")
    ]
