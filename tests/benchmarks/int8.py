"""INT8 on the example model: what quantising takes and saves, what a forward pass costs, and which answers change.

Run as `python -m tests.benchmarks.int8 [DIRECTORY]`; takes some minutes. The passes alternate in one process;
bitsandbytes' own module is the yardstick for ours, which must give the same answers faster. Then items of ARC-Easy
(built-in ones without NASFARM_DATA) are scored with and without INT8, in rows of several lengths and each alone, on the
CPU and, where there is one, on a GPU. What they would depend on if outliers were chosen over whole rows is there too.
"""

import json
import logging
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.placement import to_device
from services.evaluator.preparation import prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.loading import LoadedTask, load_items
from services.reporting.statistics.paired_comparison import PairedTable
from shared.architecture import Quantization, dense
from shared.environment import Environment
from shared.messages import ItemScores, TaskItems
from shared.network.sizes import weight_bytes
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder, Layer, Projection
from shared.supernet.device import device_name
from shared.supernet.int8 import Int8Linear
from shared.supernet.packing import pack
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tokenizer import load_tokenizer
from shared.supernet.tree import Tree

SEQUENCES, LENGTH, REPEATS = 32, 64, 5
ITEMS = 300
PROJECTIONS = ("query", "key", "value", "output", "gate", "up", "down")
TEXT = Path(__file__).resolve().parents[2] / "README.md"


@dataclass(frozen=True)
class Module:
    """A layer that asks bitsandbytes' own module."""

    weight: Tensor
    bias: Tensor | None
    module: torch.nn.Module

    @classmethod
    def of(cls, linear: Projection) -> "Module":
        """Quantise as transformers does."""
        from bitsandbytes.nn import Int8Params, Linear8bitLt

        outputs, inputs = linear.weight.shape
        biased = linear.bias is not None
        module = Linear8bitLt(inputs, outputs, bias=biased, has_fp16_weights=False, threshold=6.0)
        module.weight = Int8Params(linear.weight.contiguous(), requires_grad=False, has_fp16_weights=False)
        if linear.bias is not None:
            module.bias = torch.nn.Parameter(linear.bias, requires_grad=False)
        return cls(linear.weight, linear.bias, module.to("cpu").eval())

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.module(inputs)
        return outputs

    def map(self, change: Callable[[Tensor], Tensor]) -> "Module":
        raise TypeError("a yardstick stays where it is")


def main() -> None:
    """Print sizes, times of quantising, speeds and answers."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    environment = Environment.read()
    torch.set_num_threads(environment.threads)
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else fetch_model(EXAMPLE_MODEL)[0]
    checkpoint = Checkpoint.open(directory)
    whole = dense(checkpoint.network)
    plain, quantized = checkpoint.cut(whole), checkpoint.cut(whole.quantized("int8"))
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        checkpoint.cut(whole.quantized("int8"))
        seconds.append(time.perf_counter() - started)
    sizes = [weight_bytes(checkpoint.network, "bfloat16", how) for how in ("none", "int8")]
    print(f"{sizes[0] / 1e6:.1f} MB in bfloat16, {sizes[1] / 1e6:.1f} MB in INT8: {sizes[0] / sizes[1]:.3f} times less")
    print(f"quantised in {statistics.median(seconds):.2f} s")
    print_memory(directory, sizes[1] - (sizes[0] - 2 * sum(weight.numel() for weight in projections(plain))))
    print_speeds(directory, {"bfloat16": plain, "INT8": quantized, "INT8, bitsandbytes' module": in_modules(plain)})
    if environment.data is None:
        loaded = load_items(TaskItems(task="plain_facts", stop=ITEMS), None)
    else:
        loaded = load_items(TaskItems(task="arc_easy", stop=ITEMS), environment.data)
    print_answers(checkpoint, loaded)


def projections(network: Decoder) -> list[Tensor]:
    """The weights that INT8 is for."""
    return [getattr(layer, name).weight for layer in network.layers for name in PROJECTIONS]


def in_modules(network: Decoder) -> Decoder:
    """The network with bitsandbytes' modules for its linear layers."""

    def changed(layer: Layer) -> Layer:
        return replace(layer, **{name: Module.of(getattr(layer, name)) for name in PROJECTIONS})

    return replace(network, layers=tuple(changed(layer) for layer in network.layers))


def print_memory(directory: Path, computed: int) -> None:
    """Memory that a fresh process takes to quantise the network, against what is computed."""
    if not Path("/proc/self/clear_refs").exists():
        print("memory: skipped, needs Linux's account of it")
        return
    exact = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "tests.support.int8_memory", str(directory)]
    ran = subprocess.run(command, env=os.environ | exact, check=True, capture_output=True)
    found = json.loads(ran.stdout)
    print(
        f"INT8 weights and scales: {computed / 1e6:.1f} MB computed, {found['held'] / 1e6:.1f} MB held, "
        f"{found['peak'] / 1e6:.1f} MB while they are made"
    )


@torch.inference_mode()
def print_speeds(directory: Path, networks: dict[str, Decoder]) -> None:
    """Tokens a second of each network, in turns, and how close their states are to the first one's."""
    tokens = load_tokenizer(directory)(TEXT.read_text(encoding="utf-8"))["input_ids"]
    packed = pack([Tree.plain(tokens[start : start + LENGTH]) for start in range(0, SEQUENCES * LENGTH, LENGTH)])
    states = {name: network.hidden(packed) for name, network in networks.items()}
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(REPEATS):
        for name, network in networks.items():
            started = time.perf_counter()
            network.hidden(packed)
            seconds[name].append(time.perf_counter() - started)
    reference = next(iter(states.values())).float()
    for name, taken in seconds.items():
        close = torch.cosine_similarity(states[name].float(), reference, dim=-1).mean()
        speed = len(packed.tokens) / statistics.median(taken)
        print(f"{name:28} {speed:8.0f} tokens/s, states' cosine with bfloat16's {close:.4f}")


def print_answers(checkpoint: Checkpoint, loaded: LoadedTask) -> None:
    """How far margins are apart, and how many answers flip: by INT8, by an item's company, and by the device."""
    cpu, longest = torch.device("cpu"), MOST_TOKENS["cpu"]

    def scored(quantization: Quantization, tokens: int, device: torch.device = cpu) -> ItemScores:
        task = prepare_task(
            loaded.documents[0].task.task_name,
            loaded,
            load_tokenizer(checkpoint.directory),
            checkpoint.config,
            device,
            tokens,
        )
        there = to_device(checkpoint, device, torch.bfloat16)
        return score(there.cut(dense(checkpoint.network).quantized(quantization)), task)

    plain, quantized = scored("none", longest), scored("int8", longest)
    before, after = plain.metrics["acc"], quantized.metrics["acc"]
    print(f"\n{len(plain.items)} items of {plain.task}, bfloat16 on {device_name(cpu)}; margins in nats")
    print(f"{'':52}{'mean':>8}{'largest':>9}{'same to':>11}{'answers':>9}")
    print(f"{'':52}{'change':>8}{'change':>9}{'last bit':>11}{'flipped':>9}", flush=True)
    print_change("by INT8", plain, quantized)
    print_change(f"INT8, rows of {longest // 2} and of {longest} tokens", scored("int8", longest // 2), quantized)
    print_change(f"INT8, each item alone and in rows of {longest}", scored("int8", 1), quantized)
    if torch.cuda.is_available():
        gpu = torch.device("cuda")
        print_change(f"INT8, on {device_name(gpu)}", scored("int8", MOST_TOKENS["cuda"], gpu), quantized)
    bound = Int8Linear.for_segments
    Int8Linear.for_segments = lambda linear, segments: linear  # type: ignore[method-assign]  # the rule that is not ours
    shorter, longer = scored("int8", longest // 2), scored("int8", longest)
    Int8Linear.for_segments = bound  # type: ignore[method-assign]
    print_change(f"outliers of whole rows, {longest // 2} and {longest} tokens", shorter, longer)
    p_value = PairedTable.of(before, after).p_value
    print(f"accuracy {np.mean(before):.1%} before, {np.mean(after):.1%} in INT8: p = {p_value:.2f} (McNemar)")


def print_change(name: str, one: ItemScores, other: ItemScores) -> None:
    """A line of the table: how far two measurements of the same items are apart."""
    change = np.abs(np.subtract(one.margins, other.margins))
    flipped = np.not_equal(one.metrics["acc"], other.metrics["acc"]).sum()
    print(f"{name:52}{change.mean():8.3f}{change.max():9.3f}{(change == 0).sum():11}{flipped:9}", flush=True)


if __name__ == "__main__":
    main()
