"""Exports of tiny networks, each with the answers that are expected of it. Run as
`python -m tests.export.making DIRECTORY`, in nasfarm's own environment."""

import json
import sys
from pathlib import Path

import torch

from services.exporter.huggingface import HuggingFace
from tests.support.checkpoints import random_sequences
from tests.support.exports import network, own_logits, written

NETWORKS = (
    *("llama, layered", "llama-grouped-tied, layered", "llama-biases, layered", "llama3-rope, layered"),
    *("llama-yarn-rope, layered", "mistral-window, layered", "qwen2-window, layered", "qwen3-window, layered"),
    *("smollm3-window, layered", "gemma3, layered", "all-of-it", "slicegpt", "attention-free-first-layer"),
    *("llama, shallow", "llama-grouped-tied, shallow", "llama3-rope, shallow", "qwen2, shallow", "mistral, shallow"),
)
"""Plain ones of the families that the oldest release has."""
NEW_TOKENS = 8


def main(directory: Path) -> None:
    """Make an export a network, with `expected.json` beside it."""
    for number, name in enumerate(NETWORKS):
        place = directory / str(number)
        place.mkdir(parents=True)
        chosen = network(place / "base", name)
        form = HuggingFace(shard_bytes=40_000) if number % 2 else HuggingFace()
        written(chosen, form, place / "export")
        (prompt,) = random_sequences(9, seed=number)
        logits, tokens = own_logits(chosen, [prompt])[0], list(prompt)
        for _ in range(NEW_TOKENS):
            tokens.append(int(own_logits(chosen, [tokens])[0][-1].argmax()))
        expected = {"name": name, "prompt": prompt, "logits": logits.tolist(), "tokens": tokens}
        (place / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
    print(f"made {len(NETWORKS)} exports with torch {torch.__version__}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
