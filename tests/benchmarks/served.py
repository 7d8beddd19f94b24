"""How fast networks of a front are where users serve them: llama.cpp (by the package xllamacpp) and transformers.

Run as `python -m tests.benchmarks.served [RUN] [NETWORK ...] [--type f16] [--rounds 5]`; by default the example's run,
and three networks of its front: the largest, one between, the smallest. Dense and each network are exported to GGUF and
as a Hugging Face checkpoint, and loaded and run in turn, each time by a process of its own, all of them once before
anything counts. Ratios to the dense network are taken within a round; shown are medians over the rounds. A file is read
from the system's cache: what loading takes is not the disk.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from services.application.export.searched_run import SearchedRun
from services.application.export.supernet import supernet_of
from services.exporter.formats import make_format
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork
from services.reporting.report_data import NetworkRow
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.supernet.checkpoint import Checkpoint
from tests.support.data import ROOT
from tests.support.serving_child import Served, threads

EXAMPLE = ROOT / "runs" / "smollm2-arc-easy"
PROMPT, GENERATED, ROUNDS = 128, 32, 5
NETWORKS = 3


@dataclass(frozen=True)
class Exported:
    """A network on disk, as one of the engines takes it; `bytes` of its weights there."""

    row: NetworkRow
    engine: str
    path: Path
    bytes: int


def main() -> None:
    """Export, run in turn, and print a table for each engine."""
    asked = _arguments()
    try:
        run = SearchedRun.read(asked.run)
        rows = chosen(run, asked.networks)
        environment = Environment.read()
        supernet = supernet_of(run, None, environment, Events())
    except UserError as error:
        print(f"skipped: {error}")
        return
    engines = ["transformers"]
    if importlib.util.find_spec("xllamacpp") is None:
        print("llama.cpp: skipped, needs `pip install xllamacpp`")
    else:
        engines.insert(0, "llama.cpp")
    checkpoint = Checkpoint.open(supernet.directory)
    with tempfile.TemporaryDirectory() as scratch:
        for engine in engines:
            try:
                networks = [exported(checkpoint, row, engine, asked.type, Path(scratch)) for row in rows]
            except UserError as error:
                print(f"{engine}: skipped, {error}")
                continue
            held = asked.type if engine == "llama.cpp" else str(next(iter(checkpoint.weights.values())).dtype)
            print(
                f"\n{engine}, {held.removeprefix('torch.')}, {threads()} threads: a prompt of {asked.prompt} tokens, "
                f"{asked.generated} generated; medians of {asked.rounds} rounds, ratios to dense in brackets",
                flush=True,
            )
            show(networks, in_turns(networks, asked.rounds, asked.prompt, asked.generated))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=EXAMPLE)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--type", default="f16", choices=get_args(GgufType))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--prompt", type=int, default=PROMPT)
    parser.add_argument("--generated", type=int, default=GENERATED)
    return parser.parse_args()


def chosen(run: SearchedRun, names: Sequence[str]) -> list[NetworkRow]:
    """The dense network, then those that are named, or some of the front. Raises UserError for unknown names."""
    front = run.report.front
    if names:
        known = {row.name: row for row in front}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UserError(f"{run.directory.path}: has no network {unknown[0]}, but {', '.join(known)}")
        return [run.report.dense, *(known[name] for name in names)]
    last = len(front) - 1
    places = dict.fromkeys(round(last * step / (NETWORKS - 1)) for step in range(NETWORKS))
    return [run.report.dense, *(front[place] for place in places)]


def exported(checkpoint: Checkpoint, row: NetworkRow, engine: str, held: GgufType, scratch: Path) -> Exported:
    """Write a network for an engine, without INT8."""
    network = ExportedNetwork(checkpoint, row.architecture.quantized("none"))
    writer = make_format("gguf", held) if engine == "llama.cpp" else make_format("hf")
    directory = scratch / engine / row.name
    directory.mkdir(parents=True)
    writer.write(network, directory, lambda _: None)
    files = sorted(file for file in directory.iterdir() if file.suffix in (".gguf", ".safetensors"))
    path = files[0] if engine == "llama.cpp" else directory
    return Exported(row, engine, path, sum(file.stat().st_size for file in files))


def in_turns(networks: Sequence[Exported], rounds: int, prompt: int, generated: int) -> list[list[Served]]:
    """Each network's rounds. Every other round goes through them backwards, so that none always follows the same."""
    found: list[list[Served]] = [[] for _ in networks]
    for round_ in range(-1, rounds):
        order = range(len(networks)) if round_ % 2 == 0 else reversed(range(len(networks)))
        for index in order:
            served = run_once(networks[index], prompt, generated)
            if round_ >= 0:
                found[index].append(served)
    return found


def run_once(network: Exported, prompt: int, generated: int) -> Served:
    """Load and run a network in a process of its own."""
    command = [sys.executable, "-m", "tests.support.serving_child", network.engine, str(network.path)]
    ran = subprocess.run([*command, str(prompt), str(generated)], capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode:
        raise RuntimeError(
            f"{network.engine} with {network.row.name}: ended with {ran.returncode}\n{ran.stderr[-2000:]}"
        )
    return Served(**json.loads(ran.stdout.splitlines()[-1]))


def show(networks: Sequence[Exported], found: Sequence[Sequence[Served]]) -> None:
    """A line for each network. Ratios above 1 are better: fewer parameters, a smaller file, less memory, faster."""
    columns = ("network", "parameters", "file, MB", "load, s", "prefill, tokens/s", "decode, tokens/s", "peak, MB")
    print("".join(f"{column:>22}" for column in columns))
    dense = networks[0]
    for network, served in zip(networks, found, strict=True):

        def cell(value: Callable[[Served], float], faster: bool, shown: str, own: Sequence[Served] = served) -> str:
            median, ratio = statistics.median(map(value, own)), ratio_to(own, found[0], value, faster)
            return f"{format(median, shown)} ({ratio:.2f})"

        cells = (
            network.row.name,
            f"{network.row.parameters / 1e6:.1f} M ({dense.row.parameters / network.row.parameters:.2f})",
            f"{network.bytes / 1e6:.1f} ({dense.bytes / network.bytes:.2f})",
            cell(lambda each: each.load_seconds, False, ".3f"),
            cell(lambda each: each.prefill, True, ".1f"),
            cell(lambda each: each.decode, True, ".1f"),
            cell(lambda each: each.peak_bytes / 1e6, False, ".1f"),
        )
        print("".join(f"{each:>22}" for each in cells), flush=True)


def ratio_to(
    served: Sequence[Served], dense: Sequence[Served], value: Callable[[Served], float], more_is_better: bool
) -> float:
    """By how much a network is better than the dense one: the median of the rounds' ratios."""
    ratios = [value(mine) / value(other) for mine, other in zip(served, dense, strict=True)]
    return statistics.median(ratio if more_is_better else 1 / ratio for ratio in ratios)


if __name__ == "__main__":
    main()
