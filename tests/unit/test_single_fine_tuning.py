"""Fine-tuning single networks: of every kind, all weights or by LoRA, interrupted or not."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from services.pruner.make_pruned import make_pruned, plan_pruning
from services.pruner.target import ParameterTarget
from services.trainer.chunked_loss import DISTILLED
from services.trainer.examples import batches
from services.trainer.fine_tuning import StepReport, fine_tune, gradients_of
from services.trainer.lora import adapt
from services.trainer.make_supernet import make_supernet, plan_training
from services.trainer.memory_choice import needs_of
from services.trainer.recipe import SingleRecord, Teacher
from services.trainer.single_fine_tuning import plan_single
from services.trainer.step_division import response
from services.trainer.training_state import TrainingState
from services.trainer.weight_updates import computing_dtype
from shared.architecture import Architecture, dense
from shared.checkpoint_files import REFITTED, FileDigests
from shared.environment import Environment
from shared.errors import UserError
from shared.manifest import LOSSES, RECIPE, SupernetManifest
from shared.memory_needs import RECIPES
from shared.network.sizes import parameters
from shared.network.tensors import tensors
from shared.settings import MemoryRecipe
from shared.settings.baselines import RandomOptions
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.device import preferred_dtype, torch_dtype
from shared.supernet.packing import pack
from shared.supernet.refitted import save_refitted
from shared.supernet.tree import Tree
from tests.support.checkpoints import LAYERS, WIDTH, random_sequences, write_checkpoint
from tests.support.content import content_of
from tests.support.disk import nearly_full_disk
from tests.support.tiny_single import METHODS, SOURCES, single_plan, tuned, write_source
from tests.support.tiny_training import run, tiny_settings

NARROW = Architecture(layers=(0, 2, 4), mlp_widths=(WIDTH, WIDTH // 2, 7))
PACKED = pack([Tree.plain(tokens) for tokens in random_sequences(9, 20)])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_source(tmp_path / "base")


def logits(network: Decoder) -> Tensor:
    with torch.no_grad():
        return network.logits(network.hidden(PACKED))


def weights(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "model.safetensors")


def differing(one: Path, other: Path) -> set[str]:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return {name for name in first if not torch.equal(first[name], second[name])}


def log_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / LOSSES).read_text(encoding="utf-8").splitlines()]


def interrupted_after(steps: int) -> Callable[[StepReport], None]:
    def report(reported: StepReport) -> None:
        if reported.step == steps:
            raise KeyboardInterrupt

    return report


@pytest.mark.parametrize("name", SOURCES)
def test_without_steps_a_network_is_only_cut_out_and_no_data_are_read(tmp_path: Path, name: str) -> None:
    source = write_source(tmp_path / "base", name)
    checkpoint = Checkpoint.open(source)
    chosen = Architecture(
        layers=dense(checkpoint.network).layers, mlp_widths=tuple(width // 2 for width in checkpoint.network.mlp_widths)
    )
    plan = single_plan(source, "lora", chosen, steps=0, data="nowhere")
    record = tuned(plan, tmp_path / "cut")
    made = Checkpoint.open(tmp_path / "cut")
    assert torch.equal(logits(made.cut()), logits(checkpoint.cut(chosen)))
    assert record.recipe.tuning is None and record.tokens == plan.tokens == 0 and record.losses == {}
    assert record.parameters == parameters(made.network) < parameters(checkpoint.network)
    assert not (tmp_path / "cut" / LOSSES).exists()


@pytest.mark.parametrize("name", SOURCES)
def test_all_weights_of_any_network_are_trained(tmp_path: Path, name: str) -> None:
    source = write_source(tmp_path / "base", name)
    record = tuned(single_plan(source, "full"), tmp_path / "made")
    before, made = Checkpoint.open(source), Checkpoint.open(tmp_path / "made")
    assert made.network == before.network
    assert differing(source, tmp_path / "made") == set(before.weights)
    assert logits(made.cut()).isfinite().all()
    assert [line["network"] for line in log_of(tmp_path / "made")] == ["full"] * 8
    assert record.losses.keys() == {"full"}


@pytest.mark.parametrize("name", SOURCES)
def test_lora_trains_the_linear_layers_of_any_network_and_nothing_else(tmp_path: Path, name: str) -> None:
    source = write_source(tmp_path / "base", name)
    tuned(single_plan(source, "lora"), tmp_path / "made")
    before, made = Checkpoint.open(source), Checkpoint.open(tmp_path / "made")
    assert made.network == before.network
    linear = {spec.name for spec in tensors(before.network) if spec.kind == "linear" and not spec.bias}
    assert differing(source, tmp_path / "made") == linear
    assert logits(made.cut()).isfinite().all()


@given(
    name=st.sampled_from(SOURCES),
    rank=st.integers(1, 8),
    scale=st.floats(0.5, 2),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25, deadline=None)
def test_an_update_changes_nothing_at_first_and_merged_the_same_as_beside(
    tmp_path_factory: pytest.TempPathFactory, name: str, rank: int, scale: float, seed: int
) -> None:
    source = write_source(tmp_path_factory.getbasetemp() / "adapted" / name, name)
    plain = Checkpoint.open(source).cut()
    adapted = adapt(plain.map(torch.clone), rank, rank * scale, seed)
    assert torch.equal(logits(adapted.network), logits(plain))
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        key: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for key, tensor in adapted.weights.items()
    }
    adapted.load(drawn)
    beside = logits(adapted.network)
    assert not torch.allclose(beside, logits(plain), atol=1e-3)
    torch.testing.assert_close(logits(adapted.merged()), beside, atol=5e-4, rtol=5e-4)


def test_an_update_begins_the_same_for_a_seed_and_leaves_the_common_random_state_alone(base: Path) -> None:
    network = Checkpoint.open(base).cut()
    state = torch.random.get_rng_state()
    first, again, other = (adapt(network, 3, 6, seed).weights for seed in (5, 5, -(2**70)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls(tmp_path: Path, base: Path, method: str) -> None:
    record = tuned(single_plan(base, method, steps=40, learning_rate=1e-2), tmp_path / "made")
    losses = [line["loss"] for line in log_of(tmp_path / "made")]
    assert mean(losses[-5:]) < 0.7 * mean(losses[:3])
    assert record.losses["full"] < losses[0]


def test_it_is_the_super_network_s_fine_tuning_where_that_samples_nothing(tmp_path: Path, base: Path) -> None:
    training: dict[str, Any] = {"steps": 10, "neuron_order": "none"}
    changed = tiny_settings(tmp_path, **training)
    only = changed.space.model_copy(update={"depths": (LAYERS,), "mlp_widths": (WIDTH,)})
    whole = plan_training(
        changed.model_copy(update={"space": only}), base, Environment(data=None, cache=tmp_path, threads=1)
    )
    make_supernet(whole, tmp_path / "unfinished", tmp_path / "supernet", lambda _: None)
    tuned(single_plan(base, **training), tmp_path / "made")
    assert differing(tmp_path / "supernet", tmp_path / "made") == set()


@pytest.mark.parametrize("method", METHODS)
def test_a_sub_network_is_tuned_as_if_it_had_been_written_first(tmp_path: Path, base: Path, method: str) -> None:
    tuned(single_plan(base, architecture=NARROW, steps=0), tmp_path / "cut")
    tuned(single_plan(tmp_path / "cut", method), tmp_path / "later")
    record = tuned(single_plan(base, method, NARROW), tmp_path / "at once")
    assert differing(tmp_path / "later", tmp_path / "at once") == set()
    assert record.kept == NARROW.layers
    assert Checkpoint.open(tmp_path / "at once").network.mlp_widths == NARROW.mlp_widths


@pytest.mark.parametrize("memory", RECIPES)
@pytest.mark.parametrize("teacher", ["base", "base only"])
def test_a_network_is_taught_by_what_it_was_cut_out_of_which_stays_as_it_is(
    tmp_path: Path, base: Path, memory: MemoryRecipe, teacher: Teacher
) -> None:
    plan = single_plan(base, "full", NARROW, teacher=teacher, steps=3, memory=memory)
    assert plan.data is not None and plan.recipe.tuning is not None
    untaught = single_plan(base, "full", NARROW, steps=3, memory=memory)
    assert plan.digest != untaught.digest and "teacher" not in json.dumps(untaught.recipe.counted)
    examples = next(batches(plan.data.examples, 256, plan.recipe.tuning.training.seed))
    compute = computing_dtype(memory, torch_dtype(preferred_dtype()))
    packed = pack([Tree.plain(example.tokens) for example in examples])
    teacher_only = teacher == "base only"
    predicted = [range(1, len(example.tokens)) if teacher_only else response(example) for example in examples]
    starts = zip(packed.starts, predicted, strict=True)
    places = [start + place - 1 for start, learnt in starts for place in learnt]
    own_places = zip(examples, predicted, strict=True)
    targets = torch.tensor([example.tokens[place] for example, learnt in own_places for place in learnt])
    whole, cut = (
        network.map(lambda tensor: tensor.to(compute)) for network in (plan.base.cut(), plan.base.cut(NARROW))
    )
    with torch.no_grad():
        taught, own = (network.logits(network.hidden(packed)[places]).float() for network in (whole, cut))
    divergence = functional.kl_div(own.log_softmax(-1), taught.log_softmax(-1), reduction="none", log_target=True)
    part = 1 if teacher_only else DISTILLED
    written = (1 - part) * functional.cross_entropy(own, targets) + part * divergence.sum(-1).mean()

    before = weights(base)
    record = tuned(plan, tmp_path / "made")
    first = log_of(tmp_path / "made")[0]
    assert first["loss"] == pytest.approx(float(written), rel=1e-4 if compute == torch.float32 else 1e-2)
    assert record.recipe.tuning is not None and record.recipe.tuning.teacher == teacher
    assert "teacher" not in untaught.recipe.model_dump(mode="json")["tuning"], (
        "earlier releases read what they could make"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in plan.base.weights.items())
    tuned(untaught, tmp_path / "untaught")
    assert differing(tmp_path / "made", tmp_path / "untaught")


def test_who_is_taught_needs_room_for_the_teacher(base: Path) -> None:
    plan = single_plan(base, "full", NARROW)
    assert plan.data is not None and plan.recipe.tuning is not None
    of = partial(needs_of, plan.network, plan.recipe.tuning.training, plan.data)
    for memory in RECIPES:
        width = 4 if memory == "full" and preferred_dtype() == "float32" else 2
        assert of(memory, teacher=plan.base.network).device - of(memory).device == width * parameters(plan.base.network)


def test_what_was_refitted_for_its_widths_is_where_a_network_s_fine_tuning_begins(tmp_path: Path, base: Path) -> None:
    shape, half = Checkpoint.open(base).network, WIDTH // 2
    for layer in range(shape.depth):
        save_refitted(base, shape, layer, {half: torch.full((shape.layers[layer].outputs, half), float(layer + 1))})
    narrow = Architecture(layers=(0, 2), mlp_widths=(half, WIDTH))
    plan = single_plan(base, "full", narrow, teacher="base", steps=1)
    begun = plan.network.weights["model.layers.0.mlp.down_proj.weight"]
    assert torch.equal(begun, torch.ones_like(begun)) and begun.shape[1] == half
    tuned(plan, tmp_path / "made")
    made = weights(tmp_path / "made")["model.layers.0.mlp.down_proj.weight"]
    torch.testing.assert_close(made, begun, atol=0.1, rtol=0.1)
    assert not (tmp_path / "made" / REFITTED).exists()


@pytest.mark.parametrize("method", METHODS)
def test_weights_are_written_in_their_own_dtype(tmp_path: Path, method: str) -> None:
    source = write_source(tmp_path / "base")
    half = {name: tensor.to(torch.bfloat16) for name, tensor in weights(source).items()}
    save_file(half, source / "model.safetensors", metadata={"format": "pt"})
    record = tuned(single_plan(source, method), tmp_path / "made")
    assert {tensor.dtype for tensor in weights(tmp_path / "made").values()} == {torch.bfloat16}
    assert record.bytes == 2 * record.parameters
    assert json.loads((tmp_path / "made" / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"


@pytest.mark.parametrize("method", METHODS)
@given(stops=st.lists(st.integers(1, 8), min_size=1, max_size=3), saving=st.booleans())
@settings(max_examples=8, deadline=None)
def test_interrupted_anywhere_it_ends_with_the_same_weights(
    tmp_path_factory: pytest.TempPathFactory, method: str, stops: list[int], saving: bool
) -> None:
    home = tmp_path_factory.mktemp("stopped")
    plan = single_plan(write_source(home / "base"), method, checkpoint_every_seconds=1e-6 if saving else 1000)
    undisturbed = tuned(plan, home / "undisturbed")
    for stop in stops:
        try:
            tuned(plan, home / "made", interrupted_after(stop))
        except KeyboardInterrupt:
            assert not (home / "made").exists()
    resumed = tuned(plan, home / "made")
    assert differing(home / "undisturbed", home / "made") == set()
    assert resumed == undisturbed
    assert not (home / "made.unfinished").exists()


def test_a_network_that_is_there_already_is_not_made_again_and_its_leftovers_go(tmp_path: Path, base: Path) -> None:
    record = tuned(single_plan(base), tmp_path / "made")
    (tmp_path / "made.unfinished").mkdir()
    steps: list[StepReport] = []
    assert tuned(single_plan(base), tmp_path / "made", steps.append) == record
    assert steps == [] and not (tmp_path / "made.unfinished").exists()
    with pytest.raises(UserError, match=r"made: exists already, and doesn't hold this network; name another"):
        tuned(single_plan(base, "lora"), tmp_path / "made")
    with pytest.raises(UserError, match=r"base: exists already, and doesn't hold this network; name another"):
        tuned(single_plan(base), base)


def test_a_state_of_another_fine_tuning_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tuned(single_plan(base, checkpoint_every_seconds=1e-6), tmp_path / "made", interrupted_after(3))
    with pytest.raises(UserError, match=r"training: belongs to a fine-tuning with other settings"):
        tuned(single_plan(base, "lora", checkpoint_every_seconds=1e-6), tmp_path / "made")


def test_a_disk_that_is_too_full_says_so_and_nothing_is_lost(tmp_path: Path, base: Path) -> None:
    plan = single_plan(base)
    size = (base / "model.safetensors").stat().st_size
    with nearly_full_disk(room=size // 2), pytest.raises(UserError, match="can't be written") as refusal:
        tuned(plan, tmp_path / "made")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "made").exists()
    assert tuned(plan, tmp_path / "made").losses.keys() == {"full"}


def test_a_recipe_tells_the_whole_story(tmp_path: Path, base: Path) -> None:
    target = ParameterTarget(at_most=int(0.9 * parameters(Checkpoint.open(base).network)))
    planned = plan_pruning(base, "digest of base", RandomOptions(), target)
    pruned = make_pruned(planned, tmp_path / "pruned", FileDigests(tmp_path / "cache"))
    plan = single_plan(tmp_path / "pruned", "lora")
    record = tuned(plan, tmp_path / "made")
    written = json.loads((tmp_path / "made" / RECIPE).read_text(encoding="utf-8"))
    assert SingleRecord.read(tmp_path / "made") == record
    assert written["kind"] == "fine_tuned" and written["base"] == str(tmp_path / "pruned")
    assert written["plan"] == plan.digest and written["recipe"]["base"] == "digest of pruned"
    assert written["recipe"]["tuning"]["method"] == {"method": "lora", "rank": 3, "alpha": 6.0}
    assert written["source"] == pruned.model_dump(mode="json") and written["source"]["kind"] == "pruned"
    assert written["tokens"] == plan.tokens == 8 * 256
    assert set(written["versions"]) == {"torch", "transformers", "nasfarm", "peft"}
    assert written["files"] == content_of(tmp_path / "made")
    again = tuned(single_plan(tmp_path / "made"), tmp_path / "again")
    assert again.source == written and set(again.versions) == {"torch", "transformers", "nasfarm"}


def test_a_network_of_a_super_network_has_that_one_s_story_and_not_its_losses(tmp_path: Path) -> None:
    manifest = run(tmp_path, steps=2)
    record = tuned(single_plan(tmp_path / "run" / "supernet", architecture=NARROW, steps=0), tmp_path / "made")
    assert record.source is not None and SupernetManifest.model_validate_json(json.dumps(record.source)) == manifest
    assert not (tmp_path / "made" / LOSSES).exists() and not (tmp_path / "made" / "supernet.json").exists()


def test_the_whole_network_is_the_same_by_its_architecture_or_without(base: Path) -> None:
    assert single_plan(base).digest == single_plan(base, architecture=dense(Checkpoint.open(base).network)).digest


def test_plans_share_data_that_are_the_same(tmp_path: Path, base: Path) -> None:
    first = single_plan(base)
    tuned(single_plan(base, architecture=NARROW, steps=0), tmp_path / "cut")
    environment = Environment(data=None, cache=tmp_path, threads=1)

    def second(**training: Any) -> Any:
        asked = tiny_settings(tmp_path, **training).training
        return plan_single(tmp_path / "cut", "d", None, asked, METHODS["full"], environment, first.data).data

    assert first.data is not None
    assert second() is first.data
    shorter = second(tokens_per_step=128)
    assert shorter.instructions is first.data.instructions and shorter.examples != first.data.examples
    assert second(data="plain_facts").digest != first.data.digest


def test_without_peft_lora_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"LoRA needs the package peft, .*: pip install peft") as refusal:
        single_plan(base, "lora")
    assert "\n" not in str(refusal.value)
    assert single_plan(base, "full").tokens == single_plan(base, "lora", steps=0).tokens + 8 * 256


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_ends_it_in_one_line_and_writes_nothing(
    tmp_path: Path, base: Path, method: str
) -> None:
    setting = {"full": r"fine_tuning\.learning_rate", "lora": r"fine_tuning\.lora_learning_rate"}[method]
    broken = {name: tensor.clone() for name, tensor in weights(base).items()}
    broken["model.norm.weight"][0] = torch.inf
    save_file(broken, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"^{setting}: the loss is not finite at step 0; lower it and") as refusal:
        tuned(single_plan(base, method), tmp_path / "made")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "made").exists()


def test_a_gradient_that_is_not_finite_spoils_no_weights_though_the_loss_is(tmp_path: Path, base: Path) -> None:
    plan = single_plan(base, steps=1)
    assert plan.recipe.tuning is not None and plan.data is not None
    before = {name: tensor.clone() for name, tensor in plan.network.weights.items()}
    state = TrainingState.of_single(plan.digest, {name: tensor.clone() for name, tensor in before.items()})
    norm = state.weights["model.norm.weight"].requires_grad_()
    norm.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(UserError, match=r"^training\.learning_rate: the loss is not finite at step 0"):
        fine_tune(
            gradients_of(lambda _: ("full", [lambda: plan.network.cut(weights=state.weights)]), torch.device("cpu")),
            plan.data.examples,
            plan.recipe.tuning.training,
            state,
            tmp_path / "state.pt",
            tmp_path / "log.jsonl",
            lambda _: None,
        )
    assert all(torch.equal(state.weights[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"architecture": NARROW.quantized("int8")}, r"base: a network in INT8 can't be fine-tuned"),
        ({"architecture": Architecture(layers=(9,), mlp_widths=(1,))}, r"layers: 9 is asked for, but the model has"),
        ({"architecture": Architecture(layers=(0,), mlp_widths=(99,))}, r"mlp_widths: 99 is above the model's 24"),
        ({"data": "nothing.jsonl"}, r"training\.data: 'nothing\.jsonl' is neither"),
    ],
)
def test_what_can_not_be_made_is_refused_in_one_line(base: Path, arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        single_plan(base, **arguments)
    assert "\n" not in str(refusal.value)


def test_a_source_that_can_not_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: no config\.json"):
        single_plan(tmp_path / "none")
    write_checkpoint(tmp_path / "small", "llama", vocab_size=300)
    with pytest.raises(UserError, match=r"small: its tokenizer has the token .* embeddings of 0 to 299 only"):
        single_plan(tmp_path / "small")
    write_source(tmp_path / "base")
    (tmp_path / "base" / RECIPE).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"recipe\.json: not readable as JSON .*; copy it again"):
        single_plan(tmp_path / "base")


def test_data_of_which_no_prompt_fits_into_a_step_are_refused(tmp_path: Path, base: Path) -> None:
    long = {"instruction": "word " * 200, "input": "", "output": "x"}
    (tmp_path / "long.jsonl").write_text(json.dumps(long) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"training\.data: no row of .* fits into training\.tokens_per_step; raise it"):
        single_plan(base, data=str(tmp_path / "long.jsonl"), tokens_per_step=64)
