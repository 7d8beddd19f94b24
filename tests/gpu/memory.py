"""Where memory runs out, scoring goes on with half as many tokens at a time."""

import torch

from services.evaluator.memory import is_out_of_memory
from services.evaluator.scoring import score
from shared.architecture import Architecture
from tests.gpu.check import Machine, WrongAnswerError, largest_difference, require
from tests.gpu.networks import Items, random_checkpoint, task_of

TOKENS = 32768
"""So many that masks, of each pair of them, make up most of what is taken."""
TOLERANCE = 0.5
"""Nats of a margin, where another kernel is chosen for want of memory; an item scored wrongly is off by many."""


def runs_out(machine: Machine) -> str:
    """A limit between what tensors of batches of TOKENS take and what torch holds for those of half the length."""
    machine.require_gpu("a CPU's memory isn't torch's to limit")
    machine.require_room(16)
    checkpoint = random_checkpoint(machine, "1B")
    network = checkpoint.cut(
        Architecture(layers=tuple(range(checkpoint.network.depth)), mlp_widths=checkpoint.network.mlp_widths)
    )
    items = Items.random(600, checkpoint.network.vocab_size, 64)
    peaks, held, scores = [], [], []
    for tokens in (TOKENS, TOKENS // 2):
        task = task_of(items, machine.device, tokens)
        machine.empty()
        scores.append(score(network, task))
        peaks.append(machine.peak_bytes())
        held.append(machine.reserved_bytes())
    require(
        held[1] < peaks[0], f"half as many tokens take no less memory: {held[1] / 1e9:.2f}, {peaks[0] / 1e9:.2f} GB"
    )
    del task
    machine.empty()
    total = torch.cuda.get_device_properties(machine.device).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((held[1] + peaks[0]) / 2 / total)
        short = task_of(items, machine.device, TOKENS)
        tried: list[int] = []
        halved = short.halved

        def noted() -> object:
            tried.append(TOKENS // 2)
            return halved()

        short.halved = noted
        found = score(network, short)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise WrongAnswerError("memory ran out with half as many tokens, too") from error
        raise
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    require(bool(tried), "memory didn't run out, so nothing was tried again")
    off = largest_difference([torch.tensor(found.margins)], [torch.tensor(scores[1].margins)])
    require(off <= TOLERANCE, f"margins differ by up to {off:.2g} nats from those of shorter batches")
    return f"{peaks[0] / 1e9:.1f} GB didn't fit, {peaks[1] / 1e9:.1f} GB did, margins within {off:.1g} nats"
