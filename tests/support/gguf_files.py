"""GGUF files that tests write, what our own engine generates, and texts on which tokenizers differ."""

from collections.abc import Sequence
from pathlib import Path

import torch

from services.evaluator.engines import make_engine
from services.exporter.gguf import Gguf
from services.exporter.names import GgufType
from services.exporter.network import ExportedNetwork

LENGTH = 32
"""Tokens that are generated."""

TEXTS = [
    "Hello, world!",
    " leading and  double   spaces ",
    "tabs\tand\n\nlines\r\n  \n",
    "12 345 6789 1234567 3.14 1,000,000",
    "It's, I'm, WE'RE, they'll, o'clock",
    "Ça coûte 3,50 € (naïve)",
    "Привет, мир! Ελληνικά",
    "東京は日本の首都です。한국어",
    "مرحبا بالعالم שלום",
    "emoji 🙂🚀 👩‍👩‍👧 ½ ² ①",
    "def f(x):\n    return x**2  # comment",
    "<html><b>bold</b></html> https://example.org/a?b=c&d",
    "camelCaseWords and SNAKE_CASE",
    "a\u0301 combining, \u00a0no-break, \u200bzero width, \ufeff",
    "हिन्दी ไทย கொ",
    "!!!???...---===",
    "x",
    "",
]


def written(network: ExportedNetwork, directory: Path, type: GgufType = "f32") -> Path:  # noqa: A002
    directory.mkdir()
    Gguf(type).write(network, directory, lambda _: None)
    (file,) = directory.iterdir()
    return file


def generated(network: ExportedNetwork, prompts: Sequence[list[int]]) -> list[list[int]]:
    engine = make_engine("torch", torch.device("cpu"))
    with engine.run(network.checkpoint, network.architecture, "float32") as running:
        return running.generate(prompts, LENGTH)
