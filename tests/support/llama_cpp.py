"""The real llama.cpp, in a process of its own: a file that it can't bear ends that process alone.

`python -m tests.support.llama_cpp` reads what is asked from standard input and prints the answers, both as JSON.
"""

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
    server = _server(asked["file"])
    generated = [_generated(server, prompt, asked["length"]) for prompt in asked["prompts"]]
    tokens = [_post(server, "/tokenize", content=text, add_special=True)["tokens"] for text in asked["texts"]]
    texts = [_post(server, "/detokenize", tokens=each)["content"] for each in tokens]
    print(MARK + json.dumps(asdict(Answers(generated, tokens, texts))), flush=True)
    os._exit(0)  # rather than wait for the server's threads


def _server(file: str) -> Any:
    """A server with that file, on loopback only; it ends with its object."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = 256, 1, 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.no_extra_bufts = True  # with these, it can't read quantised files on processors with AMX
    parameters.warmup = parameters.fit_params = parameters.ui = False
    parameters.hostnames, parameters.port = ["127.0.0.1"], 0
    return xllamacpp.Server(parameters)


def _generated(server: Any, prompt: list[int], length: int) -> list[int]:
    answer = _post(
        server, "/completion", prompt=prompt, n_predict=length, samplers=["top_k"], top_k=1, ignore_eos=True,
        return_tokens=True, cache_prompt=False,
    )  # fmt: skip
    found: list[int] = answer["tokens"]
    return found


def _post(server: Any, path: str, **content: Any) -> dict[str, Any]:
    headers = {"Content-Type": "application/json"}
    address = f"{server.listening_address}{path}"
    request = urllib.request.Request(address, json.dumps(content).encode(), headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


if __name__ == "__main__":
    main()
