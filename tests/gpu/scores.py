"""Scores are transformers': of every family, behind prefixes, in windows, in float32 and in bfloat16."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from services.evaluator.placement import to_device
from services.evaluator.scoring import score
from shared.supernet.checkpoint import Checkpoint
from tests.gpu.check import Machine, largest_difference, require
from tests.gpu.networks import Items, task_of
from tests.support.checkpoints import FAMILIES, VOCABULARY, write_checkpoint

TOLERANCE = 2e-3
"""Nats of a log-likelihood in float32: what the order of sums may do in some tokens of 5 layers."""
FEW = ("gemma3", "llama-grouped-tied", "mistral-window")
"""Windows in some layers, in none, and in all."""
PREFIX = 80
BATCH = 128


def in_float32(machine: Machine) -> str:
    """All families."""
    families = FEW[:1] if machine.tiny else tuple(FAMILIES)
    worst = max(_differences(machine, family, torch.float32)[0] for family in families)
    require(worst <= TOLERANCE, f"log-likelihoods differ by up to {worst:.2g} nats from transformers'")
    return f"{len(families)} families, log-likelihoods within {worst:.1g} nats of transformers'"


def in_bfloat16(machine: Machine) -> str:
    """As close to float32 as transformers is in bfloat16."""
    families = FEW[:1] if machine.tiny else FEW
    found = [_differences(machine, family, torch.bfloat16) for family in families]
    ours, theirs = max(own for own, _ in found), max(other for _, other in found)
    require(ours <= 2 * theirs + 0.05, f"{ours:.2f} nats off what float32 says, transformers only {theirs:.2f}")
    return f"{len(families)} families, {ours:.2f} nats off what float32 says at most, transformers {theirs:.2f}"


@torch.inference_mode()
def _differences(machine: Machine, family: str, dtype: torch.dtype) -> tuple[float, float]:
    """How far our log-likelihoods in a dtype, and transformers', are at most from transformers' in float32."""
    with tempfile.TemporaryDirectory() as directory:
        model = write_checkpoint(Path(directory), family)
        checkpoint = to_device(Checkpoint.open(Path(directory)), machine.device, dtype)
    prefix = Items.random(1, VOCABULARY, PREFIX, seed=1).contexts[0]
    count = 3 if machine.tiny else 8
    items = Items.random(count, VOCABULARY, 20)
    network, model = checkpoint.cut(), model.to(machine.device)
    ours, exact, theirs = [], [], []
    for before in ([], prefix):
        task = task_of(items, machine.device, BATCH, before)
        scores = score(network, task).metrics
        ours += [torch.tensor([scores[f"choice {choice}"][item] for item in range(count) for choice in range(4)])]
        exact += [_one_by_one(model.float(), before, items)]
    if dtype != torch.float32:
        theirs = [_one_by_one(model.to(dtype), before, items) for before in ([], prefix)]
    return largest_difference(ours, exact), largest_difference(theirs or exact, exact)


def _one_by_one(model: PreTrainedModel, before: list[int], items: Items) -> Tensor:
    """Log-likelihoods of all choices, each sequence alone in its batch."""
    found = []
    for whole, scored in items.sequences:
        logits = model(torch.tensor([before + whole[:-1]], device=model.device)).logits[0, -scored:].float()
        targets = torch.tensor(whole[-scored:], device=model.device)
        found.append(logits.log_softmax(-1)[torch.arange(scored, device=model.device), targets].double().sum())
    return torch.stack(found)
