"""The real llama.cpp, in a process of its own: a file that it can't bear ends that process alone.

`python -m tests.support.llama_cpp` reads what is asked from standard input and prints the answers, both as JSON.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from services.application.export.verification.llama_cpp_child import end_with, greedy, post, serving
from tests.support.data import ROOT

SECONDS = 300
MARK = "ANSWERS "
"""Begins the line of the answers, among whatever llama.cpp prints."""


@dataclass(frozen=True)
class Answers:
    """`generated`: the greedy tokens after each prompt; `tokens`: those of each text; `texts`: those of these again."""

    generated: list[list[int]]
    tokens: list[list[int]]
    texts: list[str]


def ask_llama_cpp(
    file: Path, prompts: Sequence[Sequence[int]] = (), length: int = 32, texts: Sequence[str] = ()
) -> Answers:
    """What llama.cpp answers with a GGUF file: with float32 keys and values and without flash attention."""
    asked = {"file": str(file), "prompts": prompts, "length": length, "texts": texts}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.llama_cpp"],
        check=False,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SECONDS,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    assert found, f"llama.cpp left with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-3000:]}"
    return Answers(**json.loads(found[-1].removeprefix(MARK)))


def main() -> None:
    """Answer."""
    asked = json.loads(sys.stdin.read())
    server = serving(asked["file"], 256, 1)
    generated = [greedy(server, prompt, asked["length"]) for prompt in asked["prompts"]]
    tokens = [post(server, "/tokenize", content=text, add_special=True)["tokens"] for text in asked["texts"]]
    texts = [post(server, "/detokenize", tokens=each)["content"] for each in tokens]
    end_with(MARK, asdict(Answers(generated, tokens, texts)))


if __name__ == "__main__":
    main()
