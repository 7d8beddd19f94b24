"""The recipes of `training.memory`: what they learn, how they resume, and which one is taken."""

import itertools
import json
from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from services.trainer import chunked_loss, lean_adamw, memory_choice, training_state
from services.trainer.chunked_loss import chunked_cross_entropy
from services.trainer.lean_adamw import BLOCK, LeanAdamW, block_size
from services.trainer.make_supernet import cut_out, cutting
from services.trainer.memory_choice import record_memory, recorded_memory
from services.trainer.training_state import load_state
from services.trainer.weight_updates import loss_of_targets, weight_updates
from shared.architecture import Architecture
from shared.errors import UserError
from shared.machine_memory import Memory
from shared.manifest import SupernetManifest
from shared.memory_needs import RECIPES
from shared.settings import MemoryRecipe, TrainingSettings
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.packing import Packed, pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import WIDTH, random_sequences, write_checkpoint
from tests.support.tiny_training import tiny_plan, train_in

LEAN: tuple[MemoryRecipe, ...] = ("lean", "leanest")
NARROW = Architecture(layers=(0, 1, 2, 4), mlp_widths=(WIDTH, WIDTH // 2, 7, WIDTH))
FAMILIES = ["llama-grouped-tied", "qwen2", "mistral-window"]


def batch() -> tuple[Packed, list[int], list[int]]:
    packed = pack([Tree.plain(tokens) for tokens in random_sequences(9, 30, 4)])
    places = list(range(5, 20))
    return packed, places, [int(packed.tokens[place + 1]) for place in places]


def leaves(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: tensor.to(dtype, copy=True).requires_grad_() for name, tensor in checkpoint.weights.items()}


def loss_of(memory: MemoryRecipe, network: Decoder) -> Tensor:
    return loss_of_targets(memory)(network, *batch(), None)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_that_are_computed_again_and_logits_in_chunks_change_no_loss_and_no_gradient(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunked_loss, "LOGITS", 4 * 800)
    write_checkpoint(tmp_path, family)
    checkpoint = Checkpoint.open(tmp_path)
    found = {}
    for memory in ("full", "lean"):
        weights = leaves(checkpoint, torch.float32)
        loss = loss_of(memory, checkpoint.cut(weights=weights))  # type: ignore[arg-type]
        loss.backward()  # type: ignore[no-untyped-call]
        found[memory] = loss, weights
    torch.testing.assert_close(found["full"][0], found["lean"][0])
    for name, weight in found["full"][1].items():
        torch.testing.assert_close(weight.grad, found["lean"][1][name].grad, atol=1e-6, rtol=1e-4, msg=name)


@settings(max_examples=25, deadline=None)
@given(places=st.integers(1, 40), words=st.integers(2, 60), logits=st.integers(1, 500), seed=st.integers(0, 99))
def test_the_loss_in_chunks_is_the_cross_entropy_of_all_logits(places: int, words: int, logits: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    states, head = (torch.randn(size, 8, generator=generator, requires_grad=True) for size in (places, words))
    targets = torch.randint(0, words, (places,), generator=generator)
    usual, chunk = F.cross_entropy(F.linear(states, head), targets), chunked_loss.LOGITS
    chunked_loss.LOGITS = logits
    try:
        chunked = chunked_cross_entropy(states, head, targets)
    finally:
        chunked_loss.LOGITS = chunk
    torch.testing.assert_close(chunked, usual)
    gradients = [torch.autograd.grad(2 * loss, (states, head)) for loss in (chunked, usual)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_stochastic_rounding_is_right_on_average_and_keeps_what_bfloat16_can_hold() -> None:
    noise = torch.Generator().manual_seed(0)
    between = torch.full((40_000,), 1 + 0.3 / 128)
    rounded = lean_adamw._stochastically_rounded(between.clone(), noise)
    assert set(rounded.tolist()) == {1.0, 1 + 1 / 128}
    assert float((rounded.mean() - 1) * 128) == pytest.approx(0.3, abs=0.02)
    exact = torch.tensor([0.0, -0.0, 1.0, -2.5, 2.0**-126, 3e38]).bfloat16()
    assert torch.equal(lean_adamw._stochastically_rounded(exact.float(), noise), exact.float())


@pytest.mark.parametrize("shape", [(7,), (12, 24), (3, 514), (40, 192)])
def test_the_lean_optimiser_moves_weights_as_torch_s_does(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lean_adamw, "CHUNK", {"cpu": 1000})
    generator = torch.Generator().manual_seed(0)
    start = (torch.randn(shape, generator=generator) * 0.02).bfloat16()
    theirs, ours = start.float().requires_grad_(), start.clone()
    torch_s = torch.optim.AdamW([theirs], lr=1e-3, betas=lean_adamw.BETAS, weight_decay=0.1)
    lean = LeanAdamW(0.1, seed=0)
    scale = torch.logspace(-3, 0, shape[-1])
    for step in range(40):
        gradient = (torch.randn(shape, generator=generator) * 1e-3 + 5e-4) * scale
        theirs.grad = gradient
        torch_s.step()
        lean.update("weight", ours, gradient, step, 1e-3, None)
    moved, expected = ours.float() - start.float(), theirs.detach() - start.float()
    assert float(F.cosine_similarity(moved.flatten(), expected.flatten(), dim=0)) > 0.995
    assert float((moved - expected).abs().mean()) < 0.08 * float(expected.abs().mean())


def test_rows_that_processes_share_among_them_are_not_rounded_alike() -> None:
    start, gradient = torch.ones(8, 64).bfloat16(), torch.ones(8, 64).bfloat16()
    parts = [start.clone() for _ in range(2)]
    for rank, rows in enumerate(parts):
        LeanAdamW(0.0, seed=0, rank=rank).update("weight", rows, gradient, 0, 1e-3, None)
    assert not torch.equal(*parts)


@given(columns=st.integers(1, 20_000))
def test_blocks_divide_a_row_evenly(columns: int) -> None:
    size = block_size(columns)
    assert columns % size == 0
    assert size <= BLOCK or size == columns


@pytest.mark.parametrize("memory", LEAN)
def test_a_weight_without_a_gradient_is_not_touched_and_its_updates_are_not_counted(
    tmp_path: Path, memory: MemoryRecipe
) -> None:
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    weights = leaves(checkpoint, torch.bfloat16)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    updates = weight_updates(memory, weights, TrainingSettings(weight_decay=0.5), {})
    dropped = checkpoint.cut(weights=weights)
    shallow = checkpoint.cut(NARROW, weights=weights)
    for step, network in enumerate((shallow, dropped)):
        updates.begin(step, 1e-2)
        loss_of(memory, network).backward()  # type: ignore[no-untyped-call]
        assert bool(updates.gradient_norm().isfinite())
        updates.finish()
        if step == 0:
            untouched = [name for name in weights if ".layers.3." in name]
            assert untouched and all(torch.equal(weights[name], before[name]) for name in untouched)
            assert not any(torch.equal(weights[name], before[name]) for name in weights if "layers.2.mlp" in name)
    counted = {name: state["step"] for name, state in updates.state_dict().items()}
    assert {counted[name] for name in untouched} == {1} and counted["model.embed_tokens.weight"] == 2
    assert all(weight.grad is None for weight in weights.values())


def test_leanest_without_clipping_is_lean_bit_for_bit(tmp_path: Path) -> None:
    """Tied embeddings get their gradient once, from both ends."""
    write_checkpoint(tmp_path, "llama-grouped-tied")
    checkpoint = Checkpoint.open(tmp_path)
    made = []
    for memory in LEAN:
        weights = leaves(checkpoint, torch.bfloat16)
        updates = weight_updates(memory, weights, TrainingSettings(clip_norm=1e9), {})
        for step, architecture in enumerate((None, NARROW, None)):
            updates.begin(step, 1e-2)
            loss_of(memory, checkpoint.cut(architecture, weights=weights)).backward()  # type: ignore[no-untyped-call]
            norm = updates.gradient_norm()
            updates.finish()
        updates.close()
        made.append((weights, norm))
    torch.testing.assert_close(made[0][1], made[1][1])
    assert all(torch.equal(weight, made[1][0][name]) for name, weight in made[0][0].items())


def test_narrow_weights_are_updated_as_soon_as_the_backward_pass_is_through_with_their_layer(tmp_path: Path) -> None:
    """Were they cut before the first layer runs, the gradients of all of them would be held until the pass ends."""
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    weights, updated = leaves(checkpoint, torch.bfloat16), list[str]()
    for name, weight in weights.items():
        weight.register_post_accumulate_grad_hook(lambda _, name=name: updated.append(name))  # type: ignore[no-untyped-call]
    narrow = Architecture(layers=(0, 1, 2, 4), mlp_widths=(WIDTH // 2,) * 4)
    _, (cut,) = cut_out(cutting(checkpoint, weights, torch.bfloat16), lambda _: ("subnet", [narrow]))(0)
    loss_of("leanest", cut()).backward()  # type: ignore[no-untyped-call]
    layers = [int(name.split(".")[2]) for name in updated if ".layers." in name]
    assert layers == sorted(layers, reverse=True) and set(layers) == {0, 1, 2, 4}


@pytest.mark.parametrize("memory", RECIPES)
def test_every_recipe_resumes_bit_for_bit_and_learns(
    tmp_path: Path, memory: MemoryRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = {"steps": 24, "memory": memory, "checkpoint_every_seconds": 1e-9}
    whole = train_in(tmp_path / "whole", tiny_plan(tmp_path, **steps))

    class KilledError(Exception):
        pass

    def kill(report: object) -> None:
        if getattr(report, "step", 0) == 13:
            raise KilledError

    monkeypatch.setattr(training_state, "WAITING_SHARE", 1.0)

    plan = tiny_plan(tmp_path, **steps)
    with pytest.raises(KilledError):
        train_in(tmp_path / "killed", plan, kill)
    unfinished = tmp_path / "killed" / "unfinished"
    assert recorded_memory(unfinished) == memory
    state = load_state(unfinished / "training", plan.digest)
    assert state is not None and state.step == 12
    resumed = train_in(tmp_path / "killed", plan)
    assert resumed.losses == whole.losses and resumed.memory == memory
    one, other = (load_file(tmp_path / name / "supernet" / "model.safetensors") for name in ("whole", "killed"))
    assert all(one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one)
    log = (tmp_path / "whole" / "supernet" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_the_recipes_learn_alike(tmp_path: Path) -> None:
    losses = {
        memory: train_in(tmp_path / memory, tiny_plan(tmp_path, steps=24, memory=memory)).losses for memory in RECIPES
    }
    for memory, kind in itertools.product(LEAN, ("full", "subnet")):
        assert losses[memory][kind] == pytest.approx(losses["full"][kind], rel=0.1)


def test_a_recipe_that_changes_what_comes_out_is_named_and_the_usual_one_is_not(tmp_path: Path) -> None:
    plans = {memory: tiny_plan(tmp_path, steps=1, memory=memory) for memory in RECIPES}
    assert len({plan.digest for plan in plans.values()}) == len(RECIPES)
    assert "memory" not in plans["full"].recipe and plans["lean"].recipe["memory"] == "lean"
    assert {tiny_plan(tmp_path, steps=0, memory=memory).digest for memory in RECIPES} == {
        tiny_plan(tmp_path, steps=0).digest
    }
    for memory, plan in plans.items():
        made = train_in(tmp_path / memory, plan)
        written = json.loads((tmp_path / memory / "supernet" / "supernet.json").read_text(encoding="utf-8"))
        assert written.get("memory", "full") == memory == SupernetManifest.read(tmp_path / memory / "supernet").memory
        assert made.plan == plan.digest
    automatic = train_in(tmp_path / "auto", tiny_plan(tmp_path, steps=1))
    written = json.loads((tmp_path / "auto" / "supernet" / "supernet.json").read_text(encoding="utf-8"))
    assert automatic.plan == plans["full"].digest
    assert "memory" not in written and "memory" not in written["training"], "an earlier release couldn't read it"


@pytest.mark.parametrize("memory", LEAN)
def test_a_loss_that_is_not_finite_ends_every_recipe_before_weights_are_written(
    tmp_path: Path, memory: MemoryRecipe
) -> None:
    plan = tiny_plan(tmp_path, steps=3, memory=memory)
    plan.base.weights["model.norm.weight"][0] = torch.inf
    with pytest.raises(UserError, match=r"^training\.learning_rate: the loss is not finite at step 0; lower it"):
        train_in(tmp_path / "run", plan)
    assert not (tmp_path / "run" / "supernet").exists()


@pytest.mark.parametrize("memory", LEAN)
def test_a_gradient_that_is_not_finite_is_found_though_the_loss_is(tmp_path: Path, memory: MemoryRecipe) -> None:
    write_checkpoint(tmp_path, "llama")
    checkpoint = Checkpoint.open(tmp_path)
    weights = leaves(checkpoint, torch.bfloat16)
    weights["model.norm.weight"].register_hook(lambda gradient: gradient * torch.inf)
    updates = weight_updates(memory, weights, TrainingSettings(), {})
    updates.begin(0, 1e-3)
    loss_of(memory, checkpoint.cut(weights=weights)).backward()  # type: ignore[no-untyped-call]
    assert not bool(updates.gradient_norm().isfinite())


def test_auto_takes_the_first_recipe_that_fits_the_memory_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tiny_plan(tmp_path, steps=1)
    needs = {
        memory: memory_choice.needs_of(plan.base, plan.settings.training, plan.data, memory).device
        for memory in RECIPES
    }
    for total, expected in [(2 * needs["full"], "full"), (1, RECIPES[-1])]:
        monkeypatch.setattr(memory_choice, "device_memory", lambda _, total=total: Memory(total, 0))
        assert tiny_plan(tmp_path, steps=1).memory == expected
    assert tiny_plan(tmp_path, steps=1, memory="lean").memory == "lean"
    assert {plan.memory for plan in tiny_plan(tmp_path, steps=1).choices} == set(get_args(MemoryRecipe))


def test_what_was_taken_is_found_again_and_an_earlier_release_took_full(tmp_path: Path) -> None:
    assert recorded_memory(tmp_path) is None
    (tmp_path / "training.pt").touch()
    assert recorded_memory(tmp_path) == "full"
    record_memory(tmp_path, "lean")
    assert recorded_memory(tmp_path) == "lean"
    (tmp_path / "memory.json").write_text('{"memory": "little"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"memory\.json: can't be read; remove .* to start the fine-tuning again"):
        recorded_memory(tmp_path)
