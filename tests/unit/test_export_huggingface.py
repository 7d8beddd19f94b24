"""Networks exported for Hugging Face's libraries do there what checkpoints do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from services.exporter.huggingface import HuggingFace, modeling_nasfarm
from services.exporter.network import ExportedNetwork
from shared.architecture import dense
from shared.errors import UserError
from shared.manifest import EXPORT, read_config
from shared.network.config import network_of
from shared.network.families import FAMILIES
from shared.supernet.checkpoint import WEIGHTS, WEIGHTS_INDEX, Checkpoint
from shared.supernet.int8 import OUTLIER
from shared.supernet.packing import pack
from shared.supernet.saving import copy_companions, save_network
from shared.supernet.tree import Tree
from tests.support.checkpoints import FAMILIES as KINDS_OF_CHECKPOINTS
from tests.support.checkpoints import VOCABULARY, WIDTH, random_sequences, write_checkpoint
from tests.support.data import ROOT
from tests.support.exports import LAYERED, network, own_logits, transformers_logits, transformers_model, written

PROMPT = random_sequences(9)[0]
STATEFUL = ["llama-biases, layered", "gemma3, layered", "smollm3-window, layered", "mistral-window, layered"]
STATEFUL += ["slicegpt", "attention-free-first-layer", "no-attention-anywhere", "no-mlp"]


def exported(directory: Path, name: str) -> tuple[ExportedNetwork, Path]:
    chosen = network(directory / "base", name)
    return chosen, written(chosen, HuggingFace(), directory / "export")


def greedy(chosen: ExportedNetwork, prompt: list[int], count: int) -> list[int]:
    """By our own decoder, which keeps no keys and values."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(own_logits(chosen, [tokens])[0][-1].argmax()))
    return tokens[len(prompt) :]


def generated(model: PreTrainedModel, prompts: list[list[int]], count: int, **settings: object) -> list[list[int]]:
    """Greedy tokens; shorter prompts are padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = {"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **settings}
    return model.generate(ids, attention_mask=mask, **settings)[:, longest:].tolist()


@pytest.mark.parametrize("name", STATEFUL)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_generate_gives_the_tokens_of_our_decoder_whatever_a_cache_holds(
    name: str, attention: str, tmp_path: Path
) -> None:
    chosen, directory = exported(tmp_path, name)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation=attention)
    prompts = [PROMPT, PROMPT[:4]]
    expected = [greedy(chosen, prompt, 8) for prompt in prompts]
    assert generated(model, prompts, 8) == expected
    assert generated(model, prompts[:1], 8, use_cache=False) == expected[:1]


@pytest.mark.parametrize("family", KINDS_OF_CHECKPOINTS)
@torch.inference_mode()
def test_a_layer_whose_attention_was_skipped_is_its_mlp_alone_in_transformers_too(family: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", family)
    skipping = LAYERED.model_copy(update={"without_attention": LAYERED.layers[1:2]})
    chosen = ExportedNetwork(Checkpoint.open(tmp_path / "base"), skipping)
    assert chosen.shape.layers[1].attention is None
    directory = written(chosen, HuggingFace(), tmp_path / "export")
    for ours, theirs in zip(own_logits(chosen, [PROMPT]), transformers_logits(directory, [PROMPT]), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_beams_go_along_with_their_keys_and_values(tmp_path: Path) -> None:
    model = transformers_model(exported(tmp_path, "attention-free-first-layer")[1])
    settings = {"num_beams": 3, "num_return_sequences": 3}
    assert generated(model, [PROMPT], 6, **settings) == generated(model, [PROMPT], 6, use_cache=False, **settings)


@pytest.mark.parametrize("name", ["llama, layered", "all-of-it", "gemma3, layered"])
def test_what_was_saved_again_is_the_same_network_and_brings_its_modelling_file(name: str, tmp_path: Path) -> None:
    _, directory = exported(tmp_path, name)
    model = transformers_model(directory)
    model.save_pretrained(tmp_path / "again")
    tokens = torch.tensor([PROMPT])
    again = transformers_model(tmp_path / "again")
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert (tmp_path / "again" / "modeling_nasfarm.py").read_bytes() == (directory / "modeling_nasfarm.py").read_bytes()
    assert read_config(tmp_path / "again")["auto_map"] == read_config(directory)["auto_map"]
    assert Checkpoint.open(tmp_path / "again").network == Checkpoint.open(directory).network


@pytest.mark.parametrize("name", ["llama-grouped-tied, layered", "qwen2, shallow", "slicegpt"])
def test_our_own_checkpoint_opens_it_as_the_same_network_which_can_be_saved_again(name: str, tmp_path: Path) -> None:
    chosen, directory = exported(tmp_path, name)
    opened = Checkpoint.open(directory)
    assert opened.network == chosen.shape
    again = ExportedNetwork(opened, dense(opened.network))
    assert torch.equal(own_logits(again, [PROMPT])[0], own_logits(chosen, [PROMPT])[0])
    second = written(ExportedNetwork(opened, dense(opened.network)), HuggingFace(), tmp_path / "second")
    assert read_config(second) == read_config(directory)


@pytest.mark.parametrize("name", ["llama-grouped-tied, layered", "qwen2, shallow", "slicegpt"])
def test_a_network_that_is_made_of_an_export_names_no_code_brings_none_and_can_be_exported_again(
    name: str, tmp_path: Path
) -> None:
    chosen, directory = exported(tmp_path, name)
    (directory / EXPORT).write_text("{}")
    (directory / "tokenization_of_others.py").write_text("raise SystemExit")
    settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    named = settings | {"auto_map": {"AutoTokenizer": ["tokenization_of_others.Tokens", None]}}
    (directory / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    opened = Checkpoint.open(directory)
    save_network(opened.cut(), opened, range(opened.network.depth), tmp_path / "saved")
    assert not [*(tmp_path / "saved").glob("*.py"), *(tmp_path / "saved").glob(EXPORT)]
    config = read_config(tmp_path / "saved")
    assert not {"auto_map", "arithmetic"} & set(config)
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text(encoding="utf-8")) == settings
    saved = Checkpoint.open(tmp_path / "saved")
    assert saved.network == chosen.shape
    second = written(ExportedNetwork(saved, dense(saved.network)), HuggingFace(), tmp_path / "second")
    assert {path.name for path in second.iterdir()} == {path.name for path in (tmp_path / "export").iterdir()} - {
        EXPORT,
        "tokenization_of_others.py",
    }
    theirs = transformers_model(second)(torch.tensor([PROMPT])).logits[0]
    torch.testing.assert_close(theirs, own_logits(chosen, [PROMPT])[0], atol=2e-5, rtol=1e-5)


def test_a_copy_whose_config_stays_keeps_the_code_that_it_names(tmp_path: Path) -> None:
    """As a super-network is one, which computes what its base does."""
    _, directory = exported(tmp_path, "llama, layered")
    (tmp_path / "copy").mkdir()
    copy_companions(directory, tmp_path / "copy", code=True)
    assert read_config(tmp_path / "copy") == read_config(directory)
    assert (tmp_path / "copy" / "modeling_nasfarm.py").is_file()


@pytest.mark.parametrize("name", ["llama, layered", "slicegpt", "gemma3, layered"])
def test_lora_trains_it_further(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers_model(exported(tmp_path, name)[1]).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.Adam([one for one in tuned.parameters() if one.requires_grad], lr=0.01)
    tokens = torch.tensor(random_sequences(24, 24))
    losses = []
    for _ in range(12):
        loss = tuned(tokens, labels=tokens).loss
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.5


def test_a_plain_network_needs_no_code_and_a_layered_one_says_what_it_is(tmp_path: Path) -> None:
    plain = read_config(exported(tmp_path / "plain", "llama3-rope, shallow")[1])
    assert plain["model_type"] == "llama" and "auto_map" not in plain and "arithmetic" not in plain
    assert (plain["rope_theta"], plain["rope_scaling"]["rope_type"]) == (500000.0, "llama3")
    assert plain["torch_dtype"] == "float32" and not {"dtype", "rope_parameters"} & set(plain)
    assert not (tmp_path / "plain" / "export" / "modeling_nasfarm.py").exists()
    own = read_config(exported(tmp_path / "own", "llama, layered")[1])
    assert (own["model_type"], own["architectures"]) == ("nasfarm", ["NasfarmForCausalLM"])
    assert own["per_layer_config"] == {"0": {"intermediate_size": 6}, "2": {"intermediate_size": 11}}
    windowed = read_config(exported(tmp_path / "windowed", "mistral-window, layered")[1])
    assert not {"sliding_window", "per_layer_config"} & set(windowed)
    assert [layer["attention"]["window"] for layer in windowed["layers"]] == [5, 5, 5]


def test_the_auto_classes_know_it_without_trusting_code(tmp_path: Path) -> None:
    _, directory = exported(tmp_path, "qwen3, layered")
    model = AutoModel.from_pretrained(directory, trust_remote_code=False)
    assert type(model).__module__ == "services.exporter.huggingface.modeling_nasfarm"
    assert AutoConfig.from_pretrained(directory).num_hidden_layers == 3
    states = model(torch.tensor([PROMPT]), output_hidden_states=True, return_dict=False)
    assert states[0].shape == (1, len(PROMPT), 32) and len(states[-1]) == 4


LOADING = """
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

one, two, output, root, *prompt = sys.argv[1:]
found = []


def load(directory, loaded_by, **options):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **options)
    assert type(model).__module__.startswith(loaded_by), type(model)
    found.append(model(torch.tensor([[int(token) for token in prompt]])).logits[0].detach())


AutoTokenizer.from_pretrained(one, trust_remote_code=True)
load(one, "transformers_modules", trust_remote_code=True)
load(two, "transformers_modules", trust_remote_code=True)
assert "services" not in sys.modules

sys.path.insert(0, root)
from services.evaluator.engines.vllm_plugin.config import NasfarmConfig as VllmsConfig  # noqa: E402

AutoConfig.register("nasfarm", VllmsConfig, exist_ok=True)  # as in the processes of vLLM
load(one, "transformers_modules", trust_remote_code=True)
import services.exporter.huggingface  # noqa: E402

load(one, "services.exporter")
load(two, "services.exporter", trust_remote_code=True)
AutoConfig.register("nasfarm", VllmsConfig, exist_ok=True)
load(two, "transformers_modules", trust_remote_code=True)
torch.save(torch.stack(found), output)
"""


def test_one_process_loads_exports_by_their_own_code_beside_vllm_and_by_nasfarm_s(tmp_path: Path) -> None:
    chosen, directory = exported(tmp_path, "all-of-it")
    second = shutil.copytree(directory, tmp_path / "second")
    output = tmp_path / "logits.pt"
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    arguments = [directory, second, output, ROOT, *map(str, PROMPT)]
    subprocess.run([sys.executable, "-c", LOADING, *arguments], check=True, env=environment, cwd=tmp_path)
    expected = own_logits(chosen, [PROMPT])[0]
    torch.testing.assert_close(torch.load(output), expected.expand(6, -1, -1), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama-grouped-tied, layered", "qwen2, layered"])
def test_shards_hold_the_bytes_that_were_cut(name: str, tmp_path: Path) -> None:
    chosen = network(tmp_path / "base", name)
    form = HuggingFace(shard_bytes=15_000)
    directory = written(chosen, form, tmp_path / "export")
    files = sorted(directory.glob("*.safetensors"))
    assert len(files) > 3 and files[0].name == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((directory / WEIGHTS_INDEX).read_text(encoding="utf-8"))
    expected = dict(chosen.weights())
    assert set(index["weight_map"]) == set(expected)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    for file in files:
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata() == {"format": "pt"}
            names = list(opened.keys())
            for tensor in names:
                assert index["weight_map"][tensor] == file.name
                assert torch.equal(opened.get_tensor(tensor), expected[tensor])
            assert sum(expected[tensor].nbytes for tensor in names) <= 15_000 or len(names) == 1
    assert sum(file.stat().st_size for file in files) == form.bytes(chosen)
    ours, theirs = own_logits(chosen, [PROMPT])[0], transformers_model(directory)(torch.tensor([PROMPT])).logits[0]
    torch.testing.assert_close(theirs, ours, atol=2e-5, rtol=1e-5)


def test_weights_of_another_kind_are_refused_by_name(tmp_path: Path) -> None:
    chosen = network(tmp_path, "llama, layered")
    odd = {name: tensor.to(torch.int8) for name, tensor in chosen.checkpoint.weights.items()}
    checkpoint = Checkpoint(tmp_path, chosen.checkpoint.config, chosen.checkpoint.network, odd)
    with pytest.raises(UserError, match=r"model\.embed_tokens\.weight: int8 can't be exported; save the checkpoint as"):
        HuggingFace().require_possible(ExportedNetwork(checkpoint, LAYERED))


def loaded_int8(name: str, directory: Path) -> tuple[ExportedNetwork, PreTrainedModel]:
    chosen = network(directory / "base", name)
    chosen = ExportedNetwork(chosen.checkpoint, chosen.architecture.quantized("int8"))
    return chosen, transformers_model(written(chosen, HuggingFace(), directory / "export"))


@pytest.mark.parametrize("name", ["llama, layered", "llama, shallow", "llama-biases, layered", "qwen2, shallow"])
def test_a_network_in_int8_has_in_transformers_the_weights_and_logits_that_were_measured(
    name: str, tmp_path: Path
) -> None:
    chosen, model = loaded_int8(name, tmp_path)
    settings = read_config(tmp_path / "export")["quantization_config"]
    assert (settings["load_in_8bit"], settings["llm_int8_threshold"]) == (True, OUTLIER)
    kinds = {name: type(module).__name__ for name, module in model.named_modules() if hasattr(module, "weight")}
    assert {name for name, kind in kinds.items() if kind == "Linear8bitLt"} == {
        name for name in kinds if name.endswith("_proj")
    }
    assert kinds["lm_head"] == "Linear"
    decoder = chosen.checkpoint.cut(chosen.architecture)
    measured = [projection for layer in decoder.layers for projection in layer.projections]
    weights = [module.weight for name, module in model.named_modules() if kinds.get(name) == "Linear8bitLt"]
    for projection, weight in zip(measured, weights, strict=True):
        assert torch.equal(weight.data, projection.weight) and torch.equal(weight.SCB, projection.scales)
    with torch.inference_mode():
        logits = decoder.logits(decoder.hidden(pack([Tree.plain(PROMPT)])))
        torch.testing.assert_close(model(torch.tensor([PROMPT])).logits[0], logits, atol=1e-4, rtol=1e-4)


def test_a_network_in_int8_takes_the_place_on_disk_that_is_said(tmp_path: Path) -> None:
    chosen, model = loaded_int8("llama, layered", tmp_path)
    plain = HuggingFace().bytes(ExportedNetwork(chosen.checkpoint, LAYERED))
    written_bytes = (tmp_path / "export" / WEIGHTS).stat().st_size
    assert written_bytes == HuggingFace().bytes(chosen) < plain
    with safe_open(tmp_path / "export" / WEIGHTS, framework="pt") as opened:
        kinds = {name: (held.dtype, held.ndim) for name in opened.keys() for held in (opened.get_tensor(name),)}  # noqa: SIM118
    assert {kinds[name] for name in chosen.quantized} == {(torch.int8, 2)}
    assert {kind for name, kind in kinds.items() if name.endswith("SCB")} == {(torch.float32, 1)}
    assert {kind for name, kind in kinds.items() if name.endswith("weight_format")} == {(torch.uint8, 0)}
    with pytest.raises(NotImplementedError):  # as its card says
        model.save_pretrained(tmp_path / "again")


def test_shortcuts_of_a_network_in_int8_stay_as_they_are(tmp_path: Path) -> None:
    _, model = loaded_int8("slicegpt", tmp_path)
    assert model.model.layers[0].mlp.shortcut.weight.is_floating_point()
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear8bitLt"


def test_a_tokenizer_is_written_for_old_releases_too(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama")
    base = AutoTokenizer.from_pretrained(tmp_path / "base")
    base.chat_template = "{% for message in messages %}<{{ message.content }}>{% endfor %}"
    base.add_special_tokens({"extra_special_tokens": ["<|turn|>"]})
    base.save_pretrained(tmp_path / "base")
    checkpoint = Checkpoint.open(tmp_path / "base")
    assert len(base) <= VOCABULARY + 1
    directory = written(ExportedNetwork(checkpoint, LAYERED), HuggingFace(), tmp_path / "export")
    settings = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["model_input_names"] == ["input_ids", "attention_mask"]
    assert settings["additional_special_tokens"] == ["<|turn|>"] and "extra_special_tokens" not in settings
    assert settings["chat_template"] == base.chat_template and not (directory / "chat_template.jinja").exists()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.chat_template == base.chat_template
    text = "The quick <|turn|> brown\n fox"
    assert tokenizer(text).input_ids == base(text).input_ids


def test_a_tokenizer_that_the_family_has_of_its_own_is_called_by_its_name(tmp_path: Path) -> None:
    _, directory = exported(tmp_path, "qwen2, layered")
    assert json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))["tokenizer_class"] == (
        type(AutoTokenizer.from_pretrained(tmp_path / "base")).__name__
    )


def test_what_per_layer_config_says_is_what_the_layers_say(tmp_path: Path) -> None:
    chosen, directory = exported(tmp_path, "llama, layered")
    config = read_config(directory)
    left = {"layers", "family", "arithmetic", "auto_map"}
    plain = {key: value for key, value in config.items() if key not in left} | {"model_type": "llama"}
    assert network_of(plain) == chosen.shape and chosen.shape.mlp_widths == (6, WIDTH, 11)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_modelling_file_calls_norms_what_the_family_s_checkpoints_call_them(family: str) -> None:
    names = FAMILIES[family].names
    parts = {"attention": "attention.norm", "attention_post": "attention.post_norm"}
    parts |= {"mlp": "mlp.norm", "mlp_post": "mlp.post_norm"}
    expected = {norm: names[part] for norm, part in parts.items() if part in names}
    assert modeling_nasfarm.NORMS[family == "gemma3_text"] == expected
