"""Down projections that are refitted for narrower MLPs: the closed form, what is written, and who takes it along."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from services.application.export.verification.float32 import in_float32
from services.application.prepared_search import PreparedSearch
from services.application.supernet_training import fine_tune
from services.evaluator.evaluator import Evaluator
from services.evaluator.placement import to_device
from services.exporter.network import ExportedNetwork
from services.trainer import make_supernet as making
from services.trainer import refit as module
from services.trainer.refit import RIDGE, add_products, refitted
from shared.architecture import Architecture, dense
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Event, Events, StepAdvanced, StepBegan, StepEnded
from shared.manifest import SupernetManifest
from shared.memory_needs import fine_tuning_needs, refitted_numbers
from shared.messages import CheckpointRef, EvaluationRequest, EvaluationSpec, TaskItems
from shared.network.sizes import parameters, refitted_parameters
from shared.supernet.blocked import blocked
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder, Linear
from shared.supernet.int8 import Int8Linear
from shared.supernet.refitted import down_projection, read_refitted, refitted_file
from shared.supernet.w8a8 import as_w8a8
from tests.support.checkpoints import FAMILIES, LAYERS, WIDTH, write_checkpoint
from tests.support.content import content_of, digest_of
from tests.support.exports import FORMATS, written
from tests.support.tiny_single import single_plan, tuned
from tests.support.tiny_training import run, tiny_plan, train_in

HALF, QUARTER = WIDTH // 2, WIDTH // 4
SPACE = {"depths": [LAYERS, 3], "mlp_widths": [WIDTH, HALF, QUARTER]}
NARROW = Architecture(layers=(0, 2, 3, 4), mlp_widths=(HALF, WIDTH, QUARTER, HALF))


def neurons_of(seed: int, tokens: int, width: int) -> Tensor:
    """Neurons that have something to do with each other, as those of networks have."""
    generator = torch.Generator().manual_seed(seed)
    causes = torch.randn(tokens, max(1, width // 2), generator=generator)
    mixed = causes @ torch.randn(causes.shape[1], width, generator=generator)
    return mixed + 0.3 * torch.randn(tokens, width, generator=generator)


def gram_of(neurons: Tensor, after: Tensor | None = None) -> Tensor:
    gram = torch.zeros(neurons.shape[1], neurons.shape[1], dtype=torch.float64)
    states = torch.ones(len(neurons), 1) if after is None else after
    for part, its_states in zip(torch.split(neurons, 7), torch.split(states, 7), strict=True):
        add_products(gram, part, its_states)
    return gram


def projection(seed: int, outputs: int, width: int) -> Tensor:
    return torch.randn(outputs, width, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 99), width=st.integers(2, 9), data=st.data())
@settings(max_examples=25, deadline=None)
def test_it_is_what_least_squares_find_with_the_ridge_as_further_equations(
    seed: int, width: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, width - 1))
    ridge = data.draw(st.sampled_from([1e-3, 0.1, 2.0]))
    neurons, weight = neurons_of(seed, 40, width), projection(seed, 3, width)
    found = refitted(weight, gram_of(neurons), kept, ridge)
    some, whole = neurons[:, :kept].double().numpy(), (neurons.double() @ weight.double().T).numpy()
    root = np.sqrt(ridge * (neurons.double().numpy() ** 2).sum(0).mean())
    equations = np.concatenate((some, root * np.eye(kept)))
    wanted = np.concatenate((whole, root * weight[:, :kept].double().T.numpy()))
    expected = np.linalg.lstsq(equations, wanted)[0].T
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 99), width=st.integers(2, 12), data=st.data())
@settings(max_examples=25, deadline=None)
def test_the_whole_output_is_reproduced_no_worse_than_by_the_columns_alone(
    seed: int, width: int, data: st.DataObject
) -> None:
    kept = data.draw(st.integers(1, width - 1))
    neurons, weight = neurons_of(seed, 60, width), projection(seed, 4, width)
    whole, some = neurons @ weight.T, neurons[:, :kept]
    found = refitted(weight, gram_of(neurons), kept, RIDGE)
    cut, fitted = ((whole - some @ one.T).square().sum() for one in (weight[:, :kept], found))
    assert fitted <= cut * (1 + 1e-5)


def test_an_error_counts_as_a_part_of_the_state_that_it_is_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 3)
    neurons, after = neurons_of(1, 20, 8), 10 ** torch.linspace(-1, 2, 20)[:, None] * torch.ones(20, 4)
    single = (neurons / after[:, :1]).double()
    torch.testing.assert_close(gram_of(neurons, after), single.T @ single, rtol=1e-5, atol=1e-5)


def test_a_large_ridge_leaves_the_columns_and_so_does_a_neuron_that_is_silent() -> None:
    neurons, weight = neurons_of(0, 50, 8), projection(0, 3, 8)
    torch.testing.assert_close(refitted(weight, gram_of(neurons), 5, 1e9), weight[:, :5])
    neurons[:, 2] = 0
    found = refitted(weight, gram_of(neurons), 5, RIDGE)
    assert torch.equal(found[:, 2], weight[:, 2]) and not torch.allclose(found[:, 1], weight[:, 1])
    silent = refitted(weight, gram_of(torch.zeros(9, 8)), 5, RIDGE)
    assert torch.equal(silent, weight[:, :5])


@pytest.fixture(scope="module")
def supernet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A super-network whose projections were refitted."""
    directory = tmp_path_factory.mktemp("refitted")
    run(directory, space=SPACE, steps=4, refit=True)
    return directory / "run" / "supernet"


@pytest.fixture
def checkpoint(supernet: Path) -> Checkpoint:
    return Checkpoint.open(supernet)


def copied(supernet: Path, directory: Path) -> Path:
    shutil.copytree(supernet, directory)
    return directory


def plain(checkpoint: Checkpoint) -> Checkpoint:
    """The same super-network as if nothing were refitted."""
    return replace(checkpoint, refitted={})


def down_of(network: Decoder, place: int) -> Tensor:
    mlp = network.layers[place].mlp
    assert mlp is not None
    return mlp.down.weight


def test_each_layer_has_one_for_each_narrower_width_and_the_manifest_names_the_files(
    supernet: Path, checkpoint: Checkpoint
) -> None:
    assert set(checkpoint.refitted) == {(layer, width) for layer in range(LAYERS) for width in (HALF, QUARTER)}
    numbers = sum(tensor.numel() for tensor in checkpoint.refitted.values())
    assert numbers == refitted_parameters(checkpoint.network, SPACE["mlp_widths"])
    manifest = SupernetManifest.read(supernet)
    assert manifest.training.refit and manifest.recipe["training"]["refit"] is True
    assert manifest.files == content_of(supernet)
    assert sum(name.startswith("refitted/layer-") for name in manifest.files) == LAYERS
    assert manifest.digest == digest_of(supernet)
    assert {file.stat().st_mode & 0o777 for file in (supernet / "refitted").iterdir()} == {0o644}


def test_a_narrower_layer_is_a_view_of_its_own_projection_and_a_whole_one_has_the_original(
    checkpoint: Checkpoint,
) -> None:
    network = checkpoint.cut(NARROW)
    for place, (layer, width) in enumerate(zip(NARROW.layers, NARROW.mlp_widths, strict=True)):
        whole = checkpoint.weights[down_projection(checkpoint.network, layer)]
        source = whole if width == WIDTH else checkpoint.refitted[layer, width]
        assert down_of(network, place).data_ptr() == source.data_ptr()
        assert down_of(network, place).shape == (32, width)
    assert network.bytes == plain(checkpoint).cut(NARROW).bytes


def test_of_a_width_that_nothing_was_refitted_for_it_is_cut_as_ever(checkpoint: Checkpoint) -> None:
    other = Architecture(layers=(1, 2), mlp_widths=(HALF + 1, HALF))
    network, cut = checkpoint.cut(other), plain(checkpoint).cut(other)
    assert torch.equal(down_of(network, 0), down_of(cut, 0))
    assert not torch.equal(down_of(network, 1), down_of(cut, 1))


def test_weights_that_stand_in_for_the_checkpoint_s_have_nothing_refitted(checkpoint: Checkpoint) -> None:
    """They are others, as while a network is trained."""
    network, cut = checkpoint.cut(NARROW, dict(checkpoint.weights)), plain(checkpoint).cut(NARROW)
    assert torch.equal(down_of(network, 0), down_of(cut, 0))


def test_networks_that_are_cut_together_share_a_refitted_layer_where_its_width_is_the_same(
    checkpoint: Checkpoint,
) -> None:
    other = Architecture(layers=NARROW.layers, mlp_widths=(HALF, HALF, QUARTER, QUARTER))
    one, two = checkpoint.cut_together([NARROW, other])
    assert [mine is theirs for mine, theirs in zip(one.layers, two.layers, strict=True)] == [True, False, True, False]
    assert torch.equal(down_of(two, 3), checkpoint.refitted[4, QUARTER])


def test_in_int8_what_was_refitted_is_quantised(checkpoint: Checkpoint) -> None:
    network = checkpoint.cut(NARROW.quantized("int8"))
    assert network.layers[0].mlp is not None
    expected = Int8Linear.quantized(checkpoint.refitted[0, HALF])
    assert torch.equal(down_of(network, 0), expected.weight)
    w8a8 = as_w8a8(checkpoint.cut(NARROW))
    assert not torch.equal(down_of(w8a8, 0), down_of(as_w8a8(plain(checkpoint).cut(NARROW)), 0))


def test_on_a_device_and_in_another_dtype_it_comes_along(checkpoint: Checkpoint) -> None:
    moved = to_device(checkpoint, torch.device("cpu"), torch.bfloat16)
    network = moved.cut(NARROW)
    assert torch.equal(down_of(network, 0), checkpoint.refitted[0, HALF].bfloat16())
    layer = blocked(network.layers[0])  # for many tokens
    neurons = torch.randn(6, HALF).bfloat16()
    assert layer.mlp is not None
    expected = Linear(checkpoint.refitted[0, HALF].bfloat16())(neurons)
    torch.testing.assert_close(layer.mlp.down(neurons), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_writes_it(checkpoint: Checkpoint, name: str, tmp_path: Path) -> None:
    network = ExportedNetwork(checkpoint, NARROW)
    directory = written(network, FORMATS[name].format, tmp_path / "export")
    other = written(replace(network, checkpoint=plain(checkpoint)), FORMATS[name].format, tmp_path / "plain")
    assert not (directory / "refitted").exists()
    if name == "gguf":
        pair = [(each / "model-F32.gguf").read_bytes() for each in (directory, other)]
        assert pair[0] != pair[1] and len(pair[0]) == len(pair[1])
        assert checkpoint.refitted[0, HALF].float().numpy().tobytes() in pair[0]
        return
    weights = load_file(directory / "model.safetensors")
    assert torch.equal(weights[down_projection(network.shape, 0)], checkpoint.refitted[0, HALF])
    assert torch.equal(weights[down_projection(network.shape, 2)], checkpoint.refitted[3, QUARTER])


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_exports_are_compared_with_it(checkpoint: Checkpoint, quantization: Any) -> None:
    architecture = NARROW.quantized(quantization)
    found = in_float32(ExportedNetwork(checkpoint, architecture))
    single = replace(
        checkpoint,
        weights={name: tensor.float() for name, tensor in checkpoint.weights.items()},
        refitted={place: tensor.float() for place, tensor in checkpoint.refitted.items()},
    )
    assert torch.equal(down_of(found, 0), down_of(single.cut(architecture), 0))


def test_vllm_is_given_it(supernet: Path, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    base_loader = "vllm.model_executor.model_loader.base_loader"
    for name in ("vllm", "vllm.config", "vllm.model_executor", "vllm.model_executor.model_loader", base_loader):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["vllm.config"].__dict__["ModelConfig"] = object
    sys.modules[base_loader].__dict__["BaseModelLoader"] = object
    monkeypatch.delitem(sys.modules, "services.evaluator.engines.vllm_plugin.loader", raising=False)
    from services.evaluator.engines.vllm_plugin.loader import SupernetLoader

    monkeypatch.delitem(sys.modules, "services.evaluator.engines.vllm_plugin.loader")
    loader, loaded = SupernetLoader(), dict[str, Tensor]()
    loader.load_config = SimpleNamespace(model_loader_extra_config=NARROW.model_dump(mode="json"))
    model = SimpleNamespace(load_weights=loaded.update)
    loader.load_weights(model, cast(Any, SimpleNamespace(model=str(supernet))))
    assert torch.equal(loaded["model.layers.0.mlp.down_proj.weight"], checkpoint.refitted[0, HALF])


@pytest.mark.parametrize("quantization", ["none", "int8"])
def test_an_evaluator_measures_it_alone_and_together(supernet: Path, tmp_path: Path, quantization: Any) -> None:
    bare = copied(supernet, tmp_path / "bare")
    shutil.rmtree(bare / "refitted")
    networks = [NARROW, Architecture(layers=NARROW.layers, mlp_widths=(HALF, WIDTH, QUARTER, WIDTH))]
    evaluator = Evaluator(Environment(data=None, cache=tmp_path / "cache", threads=1))

    def requests(directory: Path) -> list[EvaluationRequest]:
        spec = EvaluationSpec(tasks=(TaskItems(task="plain_facts", split="test", stop=4),), dtype="float32")
        reference = CheckpointRef(location=str(directory), digest=digest_of(directory))
        quantized = [network.quantized(quantization) for network in networks]
        return [
            EvaluationRequest(search="test", checkpoint=reference, architecture=one, spec=spec.computing(one))
            for one in quantized
        ]

    def margins(directory: Path) -> list[Sequence[float]]:
        return [evaluator.measure(each).scores[0].margins for each in requests(directory)]

    with_it, without = margins(supernet), margins(bare)
    assert all(mine != theirs for mine, theirs in zip(with_it, without, strict=True))
    together = [result.outcome.scores[0].margins for result in evaluator.evaluate_together(requests(supernet))]
    assert together == with_it


def test_transformers_loads_the_super_network_and_sees_no_unexpected_tensors(supernet: Path) -> None:
    _, told = AutoModelForCausalLM.from_pretrained(supernet, output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_of_every_family_come_closer_to_the_whole_mlp_on_the_text(tmp_path: Path, family: str) -> None:
    plan = tiny_plan(tmp_path, family, space={"depths": [LAYERS], "mlp_widths": [WIDTH, HALF]}, refit=True, steps=0)
    train_in(tmp_path / "run", plan)
    checkpoint = Checkpoint.open(tmp_path / "run" / "supernet")
    text = list(making._calibration_text(plan, torch.device("cpu")))
    errors = dict[int, list[tuple[float, float]]]()

    def observe(index: int, _before: Tensor, neurons: Tensor | None, after: Tensor) -> None:
        assert neurons is not None
        some = neurons / after.square().mean(1, keepdim=True).sqrt()
        whole = checkpoint.weights[down_projection(checkpoint.network, index)]
        wanted = some @ whole.T
        candidates = (checkpoint.refitted[index, HALF], whole[:, :HALF])
        fitted, cut = ((wanted - some[:, :HALF] @ one.T).square().sum().item() for one in candidates)
        errors.setdefault(index, []).append((fitted, cut))

    for packed in text:
        checkpoint.cut().map(lambda tensor: tensor.float()).hidden(packed, observe)
    sums = [[sum(each) for each in zip(*errors[index], strict=True)] for index in range(LAYERS)]
    assert all(fitted < 0.95 * cut for fitted, cut in sums)


def test_a_network_that_is_fine_tuned_by_itself_begins_with_it(supernet: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(supernet)
    plan = single_plan(copied(supernet, tmp_path / "source"), architecture=NARROW, steps=0)
    tuned(plan, tmp_path / "made")
    made = Checkpoint.open(tmp_path / "made")
    assert torch.equal(made.weights[down_projection(made.network, 0)], checkpoint.refitted[0, HALF])
    assert made.refitted == {} == plan.network.refitted


@pytest.mark.parametrize("memory", ["full", "lean", "leanest"])
def test_by_every_recipe_of_memory_it_is_the_trained_weights_that_are_refitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    trained = list[dict[str, Tensor]]()
    written = making._written

    def noted(plan: Any, state: Any, *places: Path) -> SupernetManifest:
        trained.append({name: tensor.clone() for name, tensor in state.weights.items()})
        return written(plan, state, *places)

    monkeypatch.setattr(making, "_written", noted)
    run(tmp_path, space=SPACE, steps=2, warmup_steps=0, memory=memory, refit=True)
    checkpoint = Checkpoint.open(tmp_path / "run" / "supernet")
    (weights,) = trained
    assert all(torch.equal(checkpoint.weights[name], tensor) for name, tensor in weights.items())
    for layer in range(LAYERS):
        columns = weights[down_projection(checkpoint.network, layer)][:, :HALF]
        found = checkpoint.refitted[layer, HALF]
        assert found.dtype == columns.dtype and not torch.equal(found, columns)
        assert torch.corrcoef(torch.stack((found.flatten(), columns.flatten())))[0, 1] > 0.5


def test_whether_it_is_refitted_changes_nothing_in_the_weights(supernet: Path, tmp_path: Path) -> None:
    run(tmp_path, space=SPACE, steps=4)
    weights = [directory / "model.safetensors" for directory in (supernet, tmp_path / "run" / "supernet")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_where_no_width_is_narrower_there_is_nothing_to_refit(tmp_path: Path) -> None:
    run(tmp_path, space={"depths": [LAYERS, 3], "mlp_widths": [WIDTH]}, steps=0, refit=True)
    assert not (tmp_path / "run" / "supernet" / "refitted").exists()


def interrupted(directory: Path, layers: int) -> None:
    """Interrupted when so many layers are refitted."""

    def refitted(done: int, _: int) -> None:
        if done == layers:
            raise KeyboardInterrupt

    place = directory / "killed"
    plan = tiny_plan(directory, space=SPACE, steps=4, refit=True)
    with pytest.raises(KeyboardInterrupt):
        making.make_supernet(plan, place / "unfinished", place / "supernet", lambda _: None, refitted=refitted)
    assert not (place / "supernet").exists()


def test_interrupted_while_it_refits_it_goes_on_there_and_trains_no_step_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "undisturbed", space=SPACE, steps=4, refit=True)
    interrupted(tmp_path, 3)
    solved, solve = list[int](), module.refitted

    def counted(weight: Tensor, gram: Tensor, width: int, ridge: float) -> Tensor:
        solved.append(width)
        return solve(weight, gram, width, ridge)

    monkeypatch.setattr(module, "refitted", counted)
    monkeypatch.setattr(making, "_trained_now", None)
    run(tmp_path, "killed", space=SPACE, steps=4, refit=True)
    assert len(solved) == 2 * (LAYERS - 3)
    files = [tmp_path / name / "supernet" for name in ("undisturbed", "killed")]
    assert content_of(files[0]) == content_of(files[1])
    assert SupernetManifest.read(files[1]).files == content_of(files[1])
    assert not (tmp_path / "killed" / "unfinished").exists()


def test_a_checkpoint_that_has_changed_since_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, "undisturbed", space=SPACE, steps=4, refit=True)
    interrupted(tmp_path, 2)
    (weights,) = (tmp_path / "killed").glob("unfinished/checkpoint/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    run(tmp_path, "killed", space=SPACE, steps=4, refit=True)
    assert content_of(tmp_path / "undisturbed" / "supernet") == content_of(tmp_path / "killed" / "supernet")


def test_neurons_that_are_not_finite_are_refused_in_one_line(tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight.fill_(float("inf"))
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(UserError, match=r"training\.refit: the neurons of layer 2 are not finite") as refusal:
        run(tmp_path, steps=0, neuron_order="none", refit=True, space={**SPACE, "depth_rule": "first"})
    assert "\n" not in str(refusal.value)


def test_it_is_a_step_of_its_own_in_which_layers_are_counted(tmp_path: Path) -> None:
    plan = tiny_plan(tmp_path, space=SPACE, steps=2, refit=True)
    prepared = SimpleNamespace(training=plan, place=tmp_path / "supernets" / "one", settings=plan.settings)
    published: list[Event] = []
    fine_tune(cast(PreparedSearch, prepared), Events(published.append))
    (began,) = (each for each in published if isinstance(each, StepBegan) and each.name == "Refit")
    place = published.index(began)
    assert began.total == LAYERS and isinstance(published[place - 1], StepEnded)
    done = [each.done for each in published[place:] if isinstance(each, StepAdvanced)]
    assert done == list(range(LAYERS + 1)) and isinstance(published[-1], StepEnded)


def test_what_is_missing_damaged_or_of_another_network_is_named(supernet: Path, tmp_path: Path) -> None:
    def refused(directory: Path, complaint: str) -> None:
        with pytest.raises(UserError, match=complaint) as refusal:
            Checkpoint.open(directory)
        assert "\n" not in str(refusal.value)

    directory = copied(supernet, tmp_path / "missing")
    refitted_file(directory, 3).unlink()
    refused(directory, r"layer-003.safetensors: missing, or without width (6|12), which others have")
    directory = copied(supernet, tmp_path / "truncated")
    refitted_file(directory, 1).write_bytes(refitted_file(directory, 1).read_bytes()[:-3])
    refused(directory, "layer-001.safetensors: truncated or not a safetensors file")
    for number, (name, size) in enumerate(
        [("model.layers.1.mlp.down_proj.weight.12", (32, 12)), ("model.layers.0.mlp.down_proj.weight.12", (32, 11))]
    ):
        directory = copied(supernet, tmp_path / f"other{number}")
        save_file({name: torch.zeros(size)}, refitted_file(directory, 0))
        refused(directory, r"layer-000.safetensors: model.layers.* is no projection of this network")


def test_a_super_network_without_any_is_opened_as_ever(tmp_path: Path) -> None:
    run(tmp_path, steps=0)
    supernet = tmp_path / "run" / "supernet"
    checkpoint = Checkpoint.open(supernet)
    assert checkpoint.refitted == {} == read_refitted(supernet, checkpoint.network)
    assert "refit" not in json.loads((supernet / "supernet.json").read_text(encoding="utf-8"))["training"]


def test_disk_is_counted_with_it_and_no_network_has_more_parameters(checkpoint: Checkpoint, tmp_path: Path) -> None:
    settings = tiny_plan(tmp_path, space=SPACE, refit=True).settings
    network = checkpoint.network
    numbers = refitted_numbers(network, settings.space, settings.training)
    assert numbers == sum(tensor.numel() for tensor in checkpoint.refitted.values())
    assert refitted_numbers(network, settings.space, settings.training.model_copy(update={"refit": False})) == 0
    more, less = (
        fine_tuning_needs(network, settings.training, "full", "float32", refitted=each) for each in (numbers, 0)
    )
    assert more.checkpoint - less.checkpoint == 2 * numbers and more.device == less.device
    assert parameters(checkpoint.cut(dense(network)).shape) == parameters(network)
