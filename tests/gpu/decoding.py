"""Decoding: the tokens of transformers, and how many a second."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from services.evaluator.engines import make_engine, random_prompts
from shared.architecture import Architecture
from shared.messages import Workload
from shared.supernet.checkpoint import Checkpoint
from tests.gpu.check import Machine, require
from tests.gpu.networks import as_transformers, random_checkpoint
from tests.support.checkpoints import random_sequences, write_checkpoint

FAMILIES = ("llama-grouped-tied", "qwen3-window", "gemma3")
TOKENS = 12
WORKLOAD = Workload(batch=8, prompt_tokens=128, generated_tokens=64)
TINY_WORKLOAD = Workload(batch=2, prompt_tokens=8, generated_tokens=4)


def greedy_tokens(machine: Machine) -> str:
    """Prompts of different and of equal lengths, in float32."""
    for family in FAMILIES[:1] if machine.tiny else FAMILIES:
        with tempfile.TemporaryDirectory() as directory:
            model = write_checkpoint(Path(directory), family).to(machine.device)
            checkpoint = Checkpoint.open(Path(directory))
            for prompts in (random_sequences(3, 14, 1, 6), random_sequences(7, 7, 7)):
                expected = [_generated(model, [prompt], TOKENS)[0] for prompt in prompts]
                with make_engine("torch", machine.device).run(checkpoint, _whole(checkpoint), "float32") as running:
                    found = running.generate(prompts, TOKENS)
                require(found == expected, f"{family}: {found} instead of {expected}")
    return "the tokens of transformers"


@torch.inference_mode()
def speed_of_7b(machine: Machine) -> str:
    """Tokens a second of a batch, beside transformers' `generate`."""
    machine.require_room(30)
    checkpoint = random_checkpoint(machine, "7B")
    workload = TINY_WORKLOAD if machine.tiny else WORKLOAD
    with make_engine("torch", machine.device).run(checkpoint, _whole(checkpoint), "bfloat16") as running:
        passes = running.time(workload, 2)
    ours = workload.batch / min(passes.decode)
    model, prompts = as_transformers(checkpoint), random_prompts(workload, checkpoint.network.vocab_size)
    _generated(model, prompts, 2)
    short = machine.seconds(lambda: _generated(model, prompts, 1))
    long = machine.seconds(lambda: _generated(model, prompts, 1 + workload.generated_tokens))
    theirs = workload.batch * workload.generated_tokens / max(long - short, 1e-9)
    read = ours / workload.batch * sum(tensor.nbytes for tensor in checkpoint.weights.values())
    return (
        f"batch {workload.batch}: {ours:.0f} tokens/s (weights read at {read / 1e9:.0f} GB/s), "
        f"transformers {theirs:.0f}: {ours / theirs:.1f}x"
    )


def _whole(checkpoint: Checkpoint) -> Architecture:
    return Architecture(layers=tuple(range(checkpoint.network.depth)), mlp_widths=checkpoint.network.mlp_widths)


def _generated(model: PreTrainedModel, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    given = torch.tensor(prompts, device=model.device)
    made: Any = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        max_new_tokens=tokens,
        min_new_tokens=tokens,
        eos_token_id=None,
        pad_token_id=0,
    )
    lines: list[list[int]] = made[:, given.shape[1] :].tolist()
    return lines
