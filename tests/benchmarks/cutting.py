"""Cutting sub-networks out of a LLaMA2-7B-shaped checkpoint in bfloat16 (13.5 GB): seconds and resident memory of each.

Run as `python -m tests.benchmarks.cutting`. Skipped, with a reason, where memory or disk is short.
"""

import gc
import json
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from shared.network.config import network_of
from shared.network.tensors import tensors
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.order import drop_order

NETWORKS = 20
NEEDED = 15 * 10**9
LAYERS_A_FILE = 4


def main() -> None:
    """Make the checkpoint in a temporary directory, cut networks out of it, print a table."""
    reason = too_small()
    if reason:
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        print("writing a randomly initialised checkpoint of 13.5 GB ...", flush=True)
        write_checkpoint(directory)
        measure(directory)


def too_small(disk: int = NEEDED, memory: int = NEEDED) -> str | None:
    """Why this machine can't run the benchmark, or None."""
    available = {
        line.split()[0]: int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines()
    }
    if available["MemAvailable:"] < memory:
        return f"{available['MemAvailable:'] / 1e9:.1f} GB of memory are free, {memory / 1e9:.0f} are needed"
    if shutil.disk_usage(tempfile.gettempdir()).free < disk:
        return f"{tempfile.gettempdir()} has less than {disk / 1e9:.0f} GB left"
    return None


LLAMA2_7B = LlamaConfig(
    vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)


def write_checkpoint(directory: Path, config: LlamaConfig = LLAMA2_7B) -> None:
    """A sharded checkpoint of random weights, a few layers a file so that writing it needs little memory."""
    config.save_pretrained(directory)
    shape = network_of(config.to_dict())
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for spec in tensors(shape):
        part = "rest" if spec.layer is None else spec.layer // LAYERS_A_FILE
        groups.setdefault(f"model-{part}.safetensors", {})[spec.name] = spec.size
    for file, group in groups.items():
        save_file({name: random_weight(size) for name, size in group.items()}, directory / file)
    index = {"weight_map": {name: file for file, group in groups.items() for name in group}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def random_weight(size: tuple[int, ...]) -> torch.Tensor:
    """As a network that is not trained yet has it: 1 in norms."""
    if len(size) == 1:
        return torch.ones(size, dtype=torch.bfloat16)
    return torch.randn(size, dtype=torch.bfloat16).mul_(0.02)


def measure(directory: Path) -> None:
    """Cut random networks of the paper's space one after another and print what each took."""
    started, before = time.perf_counter(), resident()
    checkpoint = Checkpoint.open(directory)
    print(f"opened in {time.perf_counter() - started:.2f} s, {(resident() - before) / 1e6:.1f} MB")
    space = SearchSpace(checkpoint.network, (32, 28, 24), (11008, 5504), drop_order(32, None))
    rng = random.Random(0)
    milliseconds, megabytes = [], []
    for number in range(1, NETWORKS + 1):
        architecture = space.sample(rng)
        gc.collect()
        before, started = resident(), time.perf_counter()
        network = checkpoint.cut(architecture)
        milliseconds.append(1000 * (time.perf_counter() - started))
        megabytes.append((resident() - before) / 1e6)
        print(
            f"network {number:2}: {len(network.layers)} layers, "
            f"{space.parameters(architecture) / 1e9:.3f} B parameters, "
            f"{milliseconds[-1]:6.2f} ms, {megabytes[-1]:6.2f} MB"
        )
    print(f"median {statistics.median(milliseconds):.2f} ms, most {max(megabytes):.2f} MB of memory")


def resident() -> int:
    """Resident memory of this process in bytes, pages of mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if __name__ == "__main__":
    main()
