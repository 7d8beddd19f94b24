"""A dress rehearsal of the paper's model: a random checkpoint of LLaMA2-7B's shape (13.5 GB in bfloat16) goes through
`nasfarm search` without fine-tuning, to the report with INT8, and `nasfarm export` of one network, within 24 GB.

Run as `python -m tests.benchmarks.rehearsal_7b`; `rehearsal_7b 1b` and `rehearsal_7b 0.3b` rehearse in small. Skipped,
with a reason, where memory or disk is short. Prints what each command took: memory of its own (anonymous), which must
not exceed the limit; pages of mapped files besides, which the system takes back where it needs room; and disk.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml
from transformers import LlamaConfig

from tests.benchmarks.cutting import LLAMA2_7B, too_small, write_checkpoint
from tests.support.checkpoints import tiny_tokenizer
from tests.support.command import NASFARM
from tests.support.process_memory import peaks

LIMIT = 24 * 10**9
"""Bytes of memory that a command may take for itself."""
SECONDS = 0.05
EVALUATIONS, ITEMS = 4, 4


@dataclass(frozen=True)
class Scale:
    """A network's shape, and the bytes of memory and disk that its rehearsal needs."""

    config: LlamaConfig
    memory: int
    disk: int


SCALES = {
    "7b": Scale(LLAMA2_7B, memory=12 * 10**9, disk=29 * 10**9),
    "1b": Scale(
        LlamaConfig(
            vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32
        ),
        memory=4 * 10**9,
        disk=6 * 10**9,
    ),
    "0.3b": Scale(
        LlamaConfig(
            vocab_size=32000, hidden_size=1024, intermediate_size=2816, num_hidden_layers=24, num_attention_heads=16
        ),
        memory=3 * 10**9,
        disk=2 * 10**9,
    ),
}


def main() -> None:
    """Make the checkpoint in a temporary directory, search, report and export."""
    name = sys.argv[1] if len(sys.argv) > 1 else "7b"
    if name not in SCALES:
        sys.exit(f"rehearsal_7b: {name!r} is none of {', '.join(SCALES)}")
    scale = SCALES[name]
    reason = too_small(disk=scale.disk, memory=scale.memory)
    if reason:
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        print(f"writing a randomly initialised checkpoint of {name} ...", flush=True)
        (directory / "base").mkdir()
        write_checkpoint(directory / "base", scale.config)
        tiny_tokenizer().save_pretrained(directory / "base")
        rehearse(directory, scale.config)


def rehearse(directory: Path, config: LlamaConfig) -> None:
    """Run the commands one after the other; the base's weights are gone before the export, to spare disk."""
    runs, supernets = directory / "runs", directory / "supernets"
    search = directory / "search.yaml"
    search.write_text(yaml.safe_dump(search_file(directory / "base", config)), encoding="utf-8")
    run("search", [search, "--runs", runs, "--supernets", supernets], directory)
    for file in (directory / "base").glob("*.safetensors"):
        file.unlink()
    front = {path.stem for path in (runs / "rehearsal" / "front").glob("N*.json") if "int8" not in path.stem}
    smallest = max(front, key=lambda name: int(name.removeprefix("N")))
    # Verifying computes in float32, here and in transformers: of the 7B shape that takes 28 GB at least.
    run("export", [runs / "rehearsal", smallest, "--no-verify", "--output", directory / "exported"], directory)


def search_file(base: Path, config: LlamaConfig) -> dict[str, object]:
    """The paper's space and rules, on a handful of items."""
    layers, width = config.num_hidden_layers, config.intermediate_size
    return {
        "name": "rehearsal",
        "model": str(base),
        "space": {
            "depths": [layers, layers - layers // 8, layers - layers // 4],
            "mlp_widths": [width, width // 2],
            "depth_rule": "first",
        },
        "training": {"data": "plain_facts", "steps": 0, "neuron_order": "none"},
        "tasks": [{"name": "plain_facts", "search": {"items": ITEMS}, "report": {"items": ITEMS}}],
        "search": {"strategy": "linas", "evaluations": EVALUATIONS, "population": EVALUATIONS},
        "reporting": {"networks": 2},
        "remeasure_int8": True,
        "dtype": "bfloat16",
    }


def run(command: str, arguments: list[object], directory: Path) -> None:
    """Run a command of nasfarm and print what it took; ends the rehearsal where it fails or takes too much."""
    words = [str(NASFARM), command, *map(str, arguments)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "NASFARM_CACHE": str(directory / "cache")}
    started = time.perf_counter()
    with subprocess.Popen(words, env=environment) as process, peaks(partial(memory, process.pid), SECONDS) as peak:
        code = process.wait()
    own, mapped, minutes = peak["own"], peak["mapped"], (time.perf_counter() - started) / 60
    on_disk = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file() and not file.is_symlink())
    print(
        f"== {command}: {minutes:.1f} min, {own / 1e9:.2f} GB of memory of its own at most, "
        f"{mapped / 1e9:.2f} GB of mapped files in memory at most, {on_disk / 1e9:.1f} GB on disk afterwards",
        flush=True,
    )
    if code:
        sys.exit(f"rehearsal_7b: nasfarm {command} ended with exit code {code}")
    if own > LIMIT:
        sys.exit(f"rehearsal_7b: nasfarm {command} took {own / 1e9:.1f} GB, more than {LIMIT / 1e9:.0f} GB")


def memory(process: int) -> Counter[str]:
    """Bytes that a process and its descendants hold: their own (swapped out or not), and pages of mapped files."""
    held = Counter[str]()
    for each in descendants(process):
        try:
            status = Path(f"/proc/{each}/status").read_text(encoding="ascii")
        except OSError:  # it has ended
            continue
        lines = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        for kind, names in {"own": ("RssAnon", "RssShmem", "VmSwap"), "mapped": ("RssFile",)}.items():
            held[kind] += sum(int(lines[name].split()[0]) * 1024 for name in names if name in lines)
    return held


def descendants(process: int) -> Iterator[int]:
    """A process and all that it has started, as far as they run."""
    yield process
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = listed.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in children:
            yield from descendants(int(child))


if __name__ == "__main__":
    main()
