"""Exporting a LLaMA2-7B-shaped network for Hugging Face (13.5 GB in bfloat16): seconds and peak memory of its own.

Run as `python -m tests.benchmarks.export_memory`. Skipped, with a reason, where disk is short. Memory is what the
process alone has (anonymous); pages of mapped files are the system's to take back.
"""

import tempfile
import time
from pathlib import Path

from services.exporter.huggingface import HuggingFace
from services.exporter.network import ExportedNetwork
from shared.architecture import Architecture
from shared.supernet.checkpoint import Checkpoint
from tests.benchmarks.cutting import NEEDED, too_small, write_checkpoint
from tests.support.process_memory import own, peaks

LAYERS, WIDTHS = 32, (11008, 5504)
CUT = Architecture(layers=tuple(range(LAYERS)), mlp_widths=(*(WIDTHS[layer % 2] for layer in range(LAYERS)),))
SECONDS = 0.02


def main() -> None:
    """Make the checkpoint in a temporary directory, export a layered network of it, print what it took."""
    reason = too_small(disk=2 * NEEDED)
    if reason:
        print(f"skipped: {reason}")
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        print("writing a randomly initialised checkpoint of 13.5 GB ...", flush=True)
        (directory / "base").mkdir()
        write_checkpoint(directory / "base")
        measure(directory / "base", directory / "export")


def measure(source: Path, target: Path) -> None:
    """Export and print."""
    target.mkdir()
    network, form = ExportedNetwork(Checkpoint.open(source), CUT), HuggingFace()
    before, started = own()["own"], time.perf_counter()
    with peaks(own, SECONDS) as peak:
        form.write(network, target, lambda _: None)
    files = list(target.glob("*.safetensors"))
    print(
        f"{sum(file.stat().st_size for file in files) / 1e9:.2f} GB in {len(files)} files, "
        f"{time.perf_counter() - started:.0f} s, {peak['own'] / 1e9:.2f} GB of memory of its own at most, "
        f"{before / 1e9:.2f} GB before"
    )


if __name__ == "__main__":
    main()
