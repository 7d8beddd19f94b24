"""Opening checkpoints: whole ones however they are laid out, and one line about every bad one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from shared.errors import UserError
from shared.supernet.checkpoint import Checkpoint, writing_checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import (
    YARN_ROPE,
    logits_one_by_one,
    random_model,
    random_sequences,
    write_checkpoint,
)
from tests.support.content import digest_of
from tests.support.disk import nearly_full_disk


def edit_config(directory: Path, **changes: Any) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def edit_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = {name: tensor.clone() for name, tensor in load_file(directory / "model.safetensors").items()}
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def refused(directory: Path, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        Checkpoint.open(directory)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(str(directory))


def logits(directory: Path) -> torch.Tensor:
    network = Checkpoint.open(directory).cut()
    return network.logits(network.hidden(pack([Tree.plain(tokens) for tokens in random_sequences(12)])))


def test_a_sharded_checkpoint_is_the_same_as_one_in_a_single_file(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "single", "qwen2")
    write_checkpoint(tmp_path / "sharded", "qwen2", max_shard_size="30KB")
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 3
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    assert torch.equal(logits(tmp_path / "single"), logits(tmp_path / "sharded"))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "qwen2", max_shard_size="30KB")
    (lost, *_) = sorted(tmp_path.glob("model-00002-of-*.safetensors"))
    lost.unlink()
    refused(tmp_path, rf"{lost.name}: missing; the checkpoint must hold its weights as safetensors")


def transformers_logits(directory: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return logits_one_by_one(model, random_sequences(12))[0]


def saved_twice(directory: Path, first: str, second: str) -> None:
    """Two networks saved into the same directory, in shards of some size; the files of the first are left there."""
    write_checkpoint(directory / "former", "llama", seed=1, max_shard_size=first)
    write_checkpoint(directory / "both", "llama", seed=2, max_shard_size=second)
    for file in (directory / "former").glob("model*"):
        if not (directory / "both" / file.name).exists():
            file.rename(directory / "both" / file.name)


@pytest.mark.parametrize(("first", "second"), [("30KB", "1GB"), ("1GB", "30KB")], ids=["whole", "sharded"])
def test_of_a_whole_network_and_one_in_shards_the_one_is_read_that_transformers_reads(
    tmp_path: Path, first: str, second: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is the whole one, also where that is the older."""
    saved_twice(tmp_path, first, second)
    both = tmp_path / "both"
    assert {"model.safetensors", "model.safetensors.index.json"} <= {file.name for file in both.iterdir()}
    write_checkpoint(tmp_path / "whole", "llama", seed=2 if second == "1GB" else 1)
    assert torch.equal(logits(both), logits(tmp_path / "whole"))
    torch.testing.assert_close(logits(both), transformers_logits(both), atol=2e-5, rtol=2e-5)
    (said,) = caplog.messages
    assert said == (
        f"{both} holds both model.safetensors and model.safetensors.index.json: the former is read, as transformers "
        "does; remove the one that is out of date"
    )


def test_nothing_is_said_of_a_checkpoint_that_holds_one_network(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_checkpoint(tmp_path / "whole", "llama")
    write_checkpoint(tmp_path / "sharded", "llama", max_shard_size="30KB")
    assert torch.equal(logits(tmp_path / "whole"), logits(tmp_path / "sharded"))
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["other.safetensors", "model.safetensors.index.json"])
def test_weights_under_a_name_of_their_own_are_refused(tmp_path: Path, name: str) -> None:
    """transformers would read them, whatever lies beside."""
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, transformers_weights=name)
    refused(tmp_path, rf"config\.json: transformers_weights names '{name}', only model\.safetensors is supported")


@pytest.mark.parametrize("content", ["{torn", "{}", "[]", '{"weight_map": 3}'])
def test_a_damaged_index_is_refused_by_name(tmp_path: Path, content: str) -> None:
    write_checkpoint(tmp_path, "llama", max_shard_size="30KB")
    (tmp_path / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    refused(tmp_path, r"model\.safetensors\.index\.json: not a readable index of weights; copy the checkpoint again")


def test_a_directory_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "no config.json; give the directory of a Hugging Face checkpoint")
    refused(tmp_path / "nowhere", "no config.json; give the directory of a Hugging Face checkpoint")


@pytest.mark.parametrize("content", ["", "{", "\xff", "[1]", '"llama"'])
def test_a_damaged_config_is_refused_by_name(tmp_path: Path, content: str) -> None:
    write_checkpoint(tmp_path, "llama")
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    refused(tmp_path, r"config\.json: not .*JSON.*; copy the checkpoint again")


def test_a_config_that_transformers_refuses_is_refused_by_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, rms_norm_eps="small")
    refused(tmp_path, r"config\.json: transformers refuses it")


def test_a_checkpoint_without_weights_as_safetensors_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    refused(tmp_path, r"model\.safetensors: missing; the checkpoint must hold its weights as safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused_by_name(tmp_path: Path, share: float) -> None:
    write_checkpoint(tmp_path, "llama")
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    refused(tmp_path, r"model\.safetensors: truncated or not a safetensors file")


def test_weights_of_another_shape_are_refused_with_the_tensor_s_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, intermediate_size=20)
    refused(tmp_path, r"tensor model\.layers\.0\.mlp\.gate_proj\.weight is \(24, 32\), config\.json says \(20, 32\)")


def test_weights_of_another_family_are_refused_with_the_tensor_s_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    refused(tmp_path, r"tensor model\.layers\.0\.self_attn\.q_proj\.bias is missing")


def test_missing_layers_are_refused_with_the_tensor_s_name(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, num_hidden_layers=7)
    refused(tmp_path, r"tensor model\.layers\.5\..* is missing; the weights don't belong to this config\.json")


@pytest.mark.parametrize("family", ["gpt2", "mixtral", "gemma2", None])
def test_a_family_that_is_not_supported_is_refused_with_those_that_are(tmp_path: Path, family: str | None) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, model_type=family)
    refused(tmp_path, rf"config\.json: model_type {family!r} is not supported; .* llama, mistral, qwen2, qwen3")


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        {
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "factor": 2.0,
            "short_factor": [1.0] * 4,
            "long_factor": [2.0] * 4,
        },
    ],
    ids=["dynamic", "longrope"],
)
def test_a_rotary_scaling_that_depends_on_the_length_is_refused(tmp_path: Path, rope: dict[str, Any]) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_config(tmp_path, rope_parameters=rope)
    refused(
        tmp_path, rf"config\.json: rope_type '{rope['rope_type']}' is not supported; only default, linear, llama3, yarn"
    )


def test_a_static_rotary_scaling_changes_the_logits(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    plain = logits(tmp_path)
    edit_config(tmp_path, rope_parameters=YARN_ROPE)
    assert not torch.allclose(plain, logits(tmp_path), atol=1e-3)


def test_tensors_that_do_not_belong_to_the_network_are_left_out(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama-grouped-tied")
    names = set(Checkpoint.open(tmp_path).weights)
    plain = logits(tmp_path)

    def repeat(weights: dict[str, torch.Tensor]) -> None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
        weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    edit_weights(tmp_path, repeat)
    assert (
        set(Checkpoint.open(tmp_path).weights)
        == names
        == set(dict(random_model("llama-grouped-tied").named_parameters()))
    )
    assert torch.equal(plain, logits(tmp_path))


def test_a_head_of_its_own_where_the_config_says_that_it_is_tied_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama-grouped-tied")
    edit_weights(tmp_path, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"] + 1}))
    refused(tmp_path, "lm_head.weight is not the embeddings, as tie_word_embeddings in config.json says")


@pytest.mark.parametrize("family", ["llama-grouped-tied", "qwen2-window", "qwen3"])
def test_a_tied_network_of_which_only_the_head_is_stored_is_the_one_that_transformers_opens(
    tmp_path: Path, family: str
) -> None:
    write_checkpoint(tmp_path, family)
    plain = logits(tmp_path)
    edit_weights(tmp_path, lambda weights: weights.update({"lm_head.weight": weights.pop("model.embed_tokens.weight")}))
    assert torch.equal(logits(tmp_path), plain)
    torch.testing.assert_close(logits(tmp_path), transformers_logits(tmp_path), atol=2e-5, rtol=2e-5)


def test_an_untied_network_of_which_only_the_head_is_stored_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    edit_weights(tmp_path, lambda weights: weights.pop("model.embed_tokens.weight"))
    refused(tmp_path, r"tensor model\.embed_tokens\.weight is missing")


@pytest.mark.parametrize("whole", [True, False], ids=["with the model's config.json", "alone"])
@pytest.mark.parametrize("content", ['{"base_model_name_or_path": "meta/base"}', "{}", "[]", "{torn"])
def test_an_adapter_is_refused_with_how_it_is_merged(tmp_path: Path, whole: bool, content: str) -> None:
    if whole:
        write_checkpoint(tmp_path, "llama")
        (tmp_path / "model.safetensors").rename(tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(content, encoding="utf-8")
    base = "meta/base" if "meta" in content else "a model"
    refused(tmp_path, rf"holds an adapter \(PEFT\) to {base}, not a network; merge it .*merge_and_unload\(\)")


def test_a_network_beside_which_an_adapter_s_config_lies_is_opened(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    assert logits(tmp_path).isfinite().all()


def test_code_that_comes_with_a_checkpoint_is_neither_run_nor_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path, "llama")
    plain = logits(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    ran = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(ran)!r}, 'w')\n", encoding="utf-8")
    edit_config(tmp_path, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    assert torch.equal(logits(tmp_path), plain)
    assert not ran.exists()


def test_the_digest_of_a_checkpoint_is_that_of_what_decides_its_answers(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, "llama")
    before = digest_of(tmp_path)
    (tmp_path / "README.md").write_text("words", encoding="utf-8")
    assert digest_of(tmp_path) == before
    edit_weights(tmp_path, lambda weights: weights["model.norm.weight"].add_(1e-3))
    assert digest_of(tmp_path) != before


def test_a_full_disk_is_reported_in_one_line_when_weights_are_written(tmp_path: Path) -> None:
    with (
        nearly_full_disk(room=1000),
        pytest.raises(UserError, match=r"model: can't be written \(.*I/O error.*\); free some space") as refusal,
        writing_checkpoint(tmp_path / "model"),
    ):
        save_file({"a": torch.zeros(10_000)}, tmp_path / "weights.safetensors")
    assert "\n" not in str(refusal.value)
