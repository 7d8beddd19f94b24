"""Distillation: sub-networks learn what the whole network predicts, which learns nothing by that."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from services.application.estimate import Work, estimate
from services.trainer import chunked_loss
from services.trainer.chunked_loss import DISTILLED, Taught, chunked_cross_entropy, chunked_distillation
from services.trainer.examples import tokenize
from services.trainer.fine_tuning import gradients_of
from services.trainer.make_supernet import cut_out, cutting
from services.trainer.step_division import response
from services.trainer.weight_updates import held_dtype
from shared.architecture import Architecture, dense
from shared.manifest import SupernetManifest, search_space, supernet_recipe
from shared.memory_needs import RECIPES
from shared.settings import MemoryRecipe
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import WIDTH, tiny_tokenizer, write_checkpoint
from tests.support.instructions import ROWS
from tests.support.tiny_training import run, tiny_settings

NARROW = Architecture(layers=(0, 1, 2, 4), mlp_widths=(WIDTH, WIDTH // 2, 7, WIDTH))


def divergence(logits: Tensor, taught: Tensor, targets: Tensor, part: float) -> Tensor:
    """The loss as it is written down, of logits that are all there; a part of it is the teacher's."""
    expected, found = taught.log_softmax(-1), logits.log_softmax(-1)
    kl = (expected.exp() * (expected - found)).sum(-1).mean()
    return (1 - part) * F.cross_entropy(logits, targets) + part * kl


@settings(max_examples=25, deadline=None)
@given(
    places=st.integers(1, 40),
    words=st.integers(2, 60),
    logits=st.integers(1, 500),
    own_head=st.booleans(),
    teacher_only=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_loss_in_chunks_is_that_of_all_logits_and_teaches_the_student_alone(
    places: int, words: int, logits: int, own_head: bool, teacher_only: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states, head = (torch.randn(size, 8, generator=generator, requires_grad=True) for size in (places, words))
    teacher_head = torch.randn(words, 8, generator=generator, requires_grad=True) if own_head else head
    taught = Taught(torch.randn(places, 8, generator=generator), teacher_head, teacher_only)
    targets, part = torch.randint(0, words, (places,), generator=generator), 1 if teacher_only else DISTILLED
    usual = divergence(F.linear(states, head), F.linear(taught.states, taught.head.detach()), targets, part)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chunked_loss, "LOGITS", logits)
        chunked = chunked_distillation(states, head, targets, taught)
    torch.testing.assert_close(chunked, usual)
    gradients = [torch.autograd.grad(2 * loss, (states, head)) for loss in (chunked, usual)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_who_predicts_what_the_teacher_does_has_only_the_data_to_learn_from() -> None:
    states, head = torch.randn(5, 8, requires_grad=True), torch.randn(30, 8)
    targets = torch.arange(5)
    taught, alone = (
        chunked_distillation(states, head, targets, Taught(states.detach(), head)),
        chunked_cross_entropy(states, head, targets),
    )
    torch.testing.assert_close(taught, (1 - DISTILLED) * alone)
    (ours,), (theirs,) = (torch.autograd.grad(loss, states) for loss in (taught, (1 - DISTILLED) * alone))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("memory", RECIPES)
@pytest.mark.parametrize("teacher_only", [False, True])
def test_a_step_s_gradients_are_those_of_the_sub_network_taught_by_the_whole_one(
    tmp_path: Path, memory: MemoryRecipe, teacher_only: bool
) -> None:
    write_checkpoint(tmp_path, "qwen2")
    checkpoint, held = Checkpoint.open(tmp_path), held_dtype(memory)
    examples = tokenize(ROWS[:5], tiny_tokenizer(), 200)
    found, expected = (
        {name: tensor.to(held, copy=True).requires_grad_() for name, tensor in checkpoint.weights.items()}
        for _ in range(2)
    )
    cut = cutting(checkpoint, found, held)
    networks = cut_out(cut, lambda step: ("subnet", [NARROW]) if step % 2 else ("full", [dense(checkpoint.network)]))
    device = torch.device("cpu")
    of_step = gradients_of(networks, device, memory, lambda: cut(dense(checkpoint.network)), teacher_only)
    loss = of_step(1, examples).loss

    packed = pack([Tree.plain(example.tokens) for example in examples])
    places, targets, part = [], [], 1 if teacher_only else DISTILLED
    for start, example in zip(packed.starts, examples, strict=True):
        predicted = range(1, len(example.tokens)) if teacher_only else response(example)
        places += [start + place - 1 for place in predicted]
        targets += [example.tokens[place] for place in predicted]
    whole, narrow = (checkpoint.cut(one, expected) for one in (None, NARROW))
    with torch.no_grad():
        taught = whole.logits(whole.hidden(packed)[places]).float()
    found_logits = narrow.logits(narrow.hidden(packed)[places]).float()
    written = divergence(found_logits, taught, torch.tensor(targets), part)
    written.backward()  # type: ignore[no-untyped-call]
    exact = memory == "full"
    torch.testing.assert_close(loss, written.detach(), rtol=1e-5 if exact else 2e-2, atol=1e-5)
    for name, weight in expected.items():
        if weight.grad is None:
            assert found[name].grad is None, f"{name} is none of the sub-network's"
        else:
            ours, theirs = found[name].grad.float(), weight.grad.float()
            assert float((ours - theirs).norm()) <= (1e-4 if exact else 5e-2) * float(theirs.norm()), name
    assert any(weight.grad is None for weight in expected.values())

    plain = gradients_of(networks, device, memory)
    assert float(of_step(0, examples).loss) == float(plain(0, examples).loss), "the whole network has no teacher"


@pytest.mark.parametrize("memory", RECIPES)
def test_a_super_network_is_made_with_it_and_says_so(tmp_path: Path, memory: MemoryRecipe) -> None:
    levers = {"distillation": "full", "sampling": "stratified"}
    taught = run(tmp_path, "taught", steps=4, memory=memory, **levers)
    plain = run(tmp_path, "plain", steps=4, memory=memory)
    assert taught.digest != plain.digest and taught.plan != plain.plan
    read = SupernetManifest.read(tmp_path / "taught" / "supernet").training
    assert (read.distillation, read.sampling) == ("full", "stratified")
    first, other = (
        json.loads((tmp_path / name / "supernet" / "training.jsonl").read_text("utf-8").splitlines()[0])
        for name in ("taught", "plain")
    )
    assert first == other, "the first step trains the whole network"
    weights = load_file(tmp_path / "taught" / "supernet" / "model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_each_lever_makes_another_super_network_and_none_is_the_one_of_former_releases(tmp_path: Path) -> None:
    asked = [
        {},
        {"distillation": "full"},
        {"distillation": "all"},
        {"full_every": 4},
        {"sampling": "stratified"},
        {"distillation": "full", "sampling": "stratified"},
    ]
    recipes = [
        supernet_recipe("b", "d", (settings := tiny_settings(tmp_path, **levers)).space, settings.training)
        for levers in asked
    ]
    assert len({json.dumps(recipe) for recipe in recipes}) == len(asked)
    assert not recipes[0]["training"].keys() & {"distillation", "sampling", "full_every"}


def test_the_estimate_counts_the_teacher_s_passes(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "base", "llama-grouped-tied")
    network = Checkpoint.open(tmp_path / "base").network

    def seconds(**levers: Any) -> float:
        settings = tiny_settings(tmp_path, **levers)
        space = search_space(network, settings.space, tuple(range(network.depth)))
        return estimate(settings, space, 1e6, 1, 1, Work(0, 0, 0, 0)).training

    taught = seconds(distillation="full")
    assert 1.1 < taught / seconds() < 1.25
    assert seconds(distillation="all") == taught
    assert seconds(full_every=4) < seconds(), "sub-networks are smaller"
    assert seconds(distillation="all", full_every=4) - seconds(full_every=4) > taught - seconds(), "more are taught"
