"""Memory of a fine-tuning by each recipe of `training.memory`: measured, estimated, and what LLaMA2-7B needs.

Run as `python -m tests.benchmarks.training_memory [--sizes 0.1 1.1 3] [--recipes full lean leanest] [--tokens 256]`.
Randomly initialised checkpoints in bfloat16 are fine-tuned for a few steps, the whole network and sub-networks in turn,
each in a process of its own: the most anonymous memory that it has, less what it had before anything was loaded. What
doesn't fit is skipped by name. Exits with 1 where the estimate is more than a tenth off.
"""

import argparse
import gc
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from services.trainer.examples import Example
from services.trainer.fine_tuning import elastic, fine_tune, gradients_of
from services.trainer.make_supernet import cut_out, cutting
from services.trainer.training_state import TrainingState
from services.trainer.weight_updates import computing_dtype, held_dtype
from shared.environment import Environment
from shared.machine_memory import host_memory
from shared.memory_needs import RECIPES, FineTuningNeeds, fine_tuning_needs
from shared.network.config import network_of
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters
from shared.network.tensors import tensors
from shared.settings import MemoryRecipe, TrainingSettings
from shared.space import SearchSpace
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype, torch_dtype
from shared.supernet.order import drop_order
from tests.support.process_memory import own, peaks

SHAPES: dict[str, dict[str, Any]] = {
    "0.1": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
    "1.1": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "3": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 26, "num_attention_heads": 24},
    "7": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
}
"""Of about so many billion parameters; the second is TinyLlama's, the last LLaMA2-7B's, which is only computed."""
SEQUENCE = 64
STEPS = 3
SECONDS = 0.002
WITHIN = 0.1


def main() -> None:
    """Measure every size by every recipe that fits, and print a table."""
    asked = _arguments()
    if asked.child is not None:
        print(json.dumps(measured(asked.child, asked.recipes[0], asked.tokens)))
        return
    training = settings(asked.tokens)
    print("billions  recipe    measured   of which   bytes a parameter   estimate   off")
    off, a_parameter = 0.0, dict[str, float]()
    for size in asked.sizes:
        network = shape(size)
        with tempfile.TemporaryDirectory() as scratch:
            written = False
            for recipe in asked.recipes:
                needs = estimated(network, training, recipe)
                reason = too_small(network, needs, Path(scratch))
                if reason is not None:
                    print(f"{size:8}  {recipe:8}  skipped: {reason}")
                    continue
                if not written:
                    write_checkpoint(size, Path(scratch))
                    written = True
                peak = in_a_process(Path(scratch), recipe, asked.tokens)
                numbers = parameters(network)
                a_parameter[recipe] = peak / numbers
                wrong = needs.device / peak - 1
                off = max(off, abs(wrong))
                print(
                    f"{size:8}  {recipe:8}  {peak / 1e9:5.2f} GB   {numbers / 1e9:.3f} B   {peak / numbers:17.2f}   "
                    f"{needs.device / 1e9:5.2f} GB   {wrong:+.1%}",
                    flush=True,
                )
    for recipe in asked.recipes:
        needs = estimated(shape("7"), training, recipe)
        largest = a_parameter.get(recipe)
        said = "" if largest is None else f"{largest * parameters(shape('7')) / 1e9:.0f} GB by the last measurement, "
        print(f"LLaMA2-7B by {recipe}: {said}{needs.device / 1e9:.0f} GB by the estimate, {asked.tokens} tokens a step")
    sys.exit(1 if off > WITHIN else 0)


def settings(tokens: int) -> TrainingSettings:
    """Of a short fine-tuning."""
    return TrainingSettings(steps=STEPS, tokens_per_step=tokens, warmup_steps=0, checkpoint_every_seconds=1e9)


def shape(size: str) -> NetworkShape:
    """The shape of a size."""
    return network_of(config(size).to_dict(), "config.json")


def config(size: str) -> LlamaConfig:
    """transformers' config of a size."""
    return LlamaConfig(vocab_size=32000, tie_word_embeddings=size == "0.1", **SHAPES[size])


def estimated(network: NetworkShape, training: TrainingSettings, recipe: MemoryRecipe) -> FineTuningNeeds:
    """What is said before a fine-tuning."""
    return fine_tuning_needs(network, training, recipe, preferred_dtype(), sequence_tokens=SEQUENCE)


def too_small(network: NetworkShape, needs: FineTuningNeeds, scratch: Path) -> str | None:
    """Why this machine can't run a fine-tuning, or None."""
    memory = host_memory()
    if memory is None or needs.device > 0.9 * memory.free:
        free = "unknown" if memory is None else f"{memory.free / 1e9:.1f} GB"
        return f"{needs.device / 1e9:.1f} GB of memory are needed, {free} are free"
    if shutil.disk_usage(scratch).free < 3 * parameters(network):
        return f"{scratch} has too little room for the checkpoint"
    return None


def write_checkpoint(size: str, directory: Path) -> None:
    """A random checkpoint in bfloat16, a layer a file, so that writing it takes little memory."""
    config(size).save_pretrained(directory)
    files: dict[str, dict[str, tuple[int, ...]]] = {}
    for spec in tensors(shape(size)):
        files.setdefault(f"model-{'rest' if spec.layer is None else spec.layer}.safetensors", {})[spec.name] = spec.size
    for file, group in files.items():
        save_file(
            {name: torch.randn(each, dtype=torch.bfloat16) * 0.02 for name, each in group.items()}, directory / file
        )
    index = {"weight_map": {name: file for file, group in files.items() for name in group}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def in_a_process(checkpoint: Path, recipe: MemoryRecipe, tokens: int) -> int:
    """Bytes at the peak, by `measured` in a process of its own."""
    program = [sys.executable, "-m", "tests.benchmarks.training_memory", "--child", str(checkpoint)]
    done = subprocess.run(
        [*program, "--recipes", recipe, "--tokens", str(tokens)], check=True, capture_output=True, text=True
    )
    return int(json.loads(done.stdout.splitlines()[-1]))


def measured(directory: Path, recipe: MemoryRecipe, tokens: int) -> int:
    """Fine-tune the checkpoint as `make_supernet` does: anonymous memory at the peak, less what there was before."""
    torch.set_num_threads(Environment.read().threads)
    rng = random.Random(0)
    examples = [Example(tuple(rng.randrange(32000) for _ in range(SEQUENCE)), SEQUENCE // 2) for _ in range(64)]
    gc.collect()
    before = own()["own"]
    with peaks(own, SECONDS) as peak:
        _fine_tune(directory, recipe, tokens, examples)
    return peak["own"] - before


def _fine_tune(directory: Path, recipe: MemoryRecipe, tokens: int, examples: Sequence[Example]) -> None:
    base, held = Checkpoint.open(directory), held_dtype(recipe)
    weights = {name: tensor.to("cpu", held, copy=True) for name, tensor in base.weights.items()}
    state = TrainingState.of_single("plan", weights)
    depth, width = base.network.depth, base.network.mlp_widths[0]
    space = SearchSpace(base.network, (depth, depth * 3 // 4), (width, width // 2), drop_order(depth, None))
    compute, training = computing_dtype(recipe, torch_dtype(preferred_dtype())), settings(tokens)
    networks = cut_out(cutting(base, weights, compute), elastic(base.network, space, training))
    gradients = gradients_of(networks, torch.device("cpu"), recipe)
    nowhere = Path(tempfile.gettempdir())
    with tempfile.NamedTemporaryFile() as log:
        file = Path(log.name)
        fine_tune(gradients, examples, training, state, nowhere, file, lambda _: None, memory=recipe)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["0.1", "1.1", "3"], choices=[*SHAPES][:-1])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
