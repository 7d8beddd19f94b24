"""Twenty sub-networks of a 7B network, cut and scored, beside a plain loop over transformers' own network."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from services.evaluator.batch_size import batch_tokens
from services.evaluator.scoring import score
from shared.architecture import Architecture
from shared.network.sizes import outer_parameters, parameters
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import device_name
from tests.gpu.check import Machine, largest_difference, require
from tests.gpu.networks import Items, as_transformers, random_checkpoint, task_of

NETWORKS, ITEMS, CONTEXT = 20, 400, 64
BATCH_SIZES = (8, 32, 128, 512)
TRIAL = 256
"""Sequences on which a batch size is tried."""
TOLERANCE = 0.5
"""Nats of a log-likelihood of some ten tokens, in bfloat16 on either side, on average: a wrong one is off by many."""


@torch.inference_mode()
def twenty_of_7b(machine: Machine) -> str:
    """Items a second, how many times those of the loop that is, and the share of the card's rate."""
    machine.require_room(30)
    networks, count = (2, 8) if machine.tiny else (NETWORKS, ITEMS)
    checkpoint = random_checkpoint(machine, "7B")
    items = Items.random(count, checkpoint.network.vocab_size, CONTEXT)
    tokens = 256 if machine.tiny else batch_tokens(checkpoint.network, "bfloat16", machine.device)
    task = task_of(items, machine.device, tokens)
    whole = _whole(checkpoint)
    ours: list[Any] = []
    score(checkpoint.cut(whole), task)  # compiles, and makes the masks
    seconds = machine.seconds(lambda: ours.append(score(checkpoint.cut(whole), task)))
    chosen = [_subnet(whole, number) for number in range(networks)]
    of_all = machine.seconds(lambda: [score(checkpoint.cut(one), task) for one in chosen])
    rate = machine.products_per_second()
    layers = parameters(checkpoint.network) - outer_parameters(checkpoint.network)
    share = 2 * layers * task.tokens / seconds / rate
    loop = _Loop(machine, checkpoint, items)
    size, theirs, their_seconds = loop.at_its_best()
    own = torch.tensor([[ours[0].metrics[f"choice {choice}"][item] for choice in range(4)] for item in range(count)])
    off = float((own - theirs.view(count, 4)).abs().mean())
    wild = largest_difference([own], [theirs.view(count, 4)])
    said = (
        f"{networks} networks in {of_all:.1f} s ({networks * count / of_all:.0f} items/s); the whole one "
        f"{count / seconds:.0f} items/s, {share:.0%} of {device_name(machine.device)}'s {rate / 1e12:.0f} TFLOP/s; "
        f"transformers' loop (batch {size}) {count / their_seconds:.0f}: {their_seconds / seconds:.1f}x"
    )
    require(off <= TOLERANCE, f"log-likelihoods are {off:.2f} nats from transformers' on average, {wild:.2f} at most")
    return said


def _whole(checkpoint: Checkpoint) -> Architecture:
    return Architecture(layers=tuple(range(checkpoint.network.depth)), mlp_widths=checkpoint.network.mlp_widths)


def _subnet(whole: Architecture, seed: int) -> Architecture:
    """Most layers, and of some of them half of the neurons."""
    rng = random.Random(seed)
    kept = sorted(rng.sample(whole.layers, max(2, whole.depth * 3 // 4)))
    return Architecture(
        layers=tuple(kept), mlp_widths=tuple(whole.mlp_widths[layer] // rng.choice((1, 2)) for layer in kept)
    )


class _Loop:
    """What anybody would write: sequences sorted by length, padded, a batch at a time."""

    def __init__(self, machine: Machine, checkpoint: Checkpoint, items: Items) -> None:
        self._machine, self._model = machine, as_transformers(checkpoint)
        self._sequences = items.sequences
        self._longest_first = sorted(range(len(self._sequences)), key=lambda number: -len(self._sequences[number][0]))

    def at_its_best(self) -> tuple[int, Tensor, float]:
        """The batch size at which it is fastest, what it says at that one, and how long that takes."""
        few = self._longest_first[:: max(1, len(self._longest_first) // TRIAL)]
        timed = {}
        for size in BATCH_SIZES:
            try:
                self._read(few, size)
                timed[size] = self._machine.seconds(lambda size=size: self._read(few, size))  # type: ignore[misc]
            except torch.OutOfMemoryError:
                break
        best = min(timed, key=lambda size: timed[size])
        found: list[Tensor] = []
        read: Callable[[], None] = lambda: found.append(self._read(self._longest_first, best))  # noqa: E731
        return best, (seconds := self._machine.seconds(read), found[0])[1], seconds

    def _read(self, numbers: list[int], size: int) -> Tensor:
        device = self._machine.device
        answers = torch.zeros(len(self._sequences), device=device)
        for start in range(0, len(numbers), size):
            batch = numbers[start : start + size]
            longest = max(len(self._sequences[number][0]) for number in batch) - 1
            padded = torch.zeros(len(batch), longest, dtype=torch.long)
            targets = torch.full((len(batch), longest), -100)
            for line, number in enumerate(batch):
                whole, scored = self._sequences[number]
                padded[line, : len(whole) - 1] = torch.tensor(whole[:-1])
                targets[line, len(whole) - 1 - scored : len(whole) - 1] = torch.tensor(whole[-scored:])
            mask = (
                torch.arange(longest)[None] < torch.tensor([[len(self._sequences[n][0]) - 1] for n in batch])
            ).long()
            logits = self._model(padded.to(device), attention_mask=mask.to(device)).logits
            losses = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), targets.to(device).flatten(), reduction="none"
            )
            answers[torch.tensor(batch, device=device)] = -losses.view(len(batch), -1).sum(1)
        return answers.cpu()
