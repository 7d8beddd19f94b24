"""llama.cpp in a process of its own, as a file that it can't bear ends the process: reads what to do as JSON from
standard input, and writes the greedy tokens after each prompt."""

import json
import os
import sys
import urllib.request
from importlib import import_module
from typing import Any

ANSWER = "TOKENS "
"""How the line with the answer begins: llama.cpp writes others."""


def main() -> None:
    """`file`, `prompts` (token ids), `length` (tokens after each) and `threads`: token ids for each prompt."""
    asked = json.load(sys.stdin)
    context = max(map(len, asked["prompts"])) + asked["length"] + 16
    server = serving(asked["file"], context, asked["threads"])
    end_with(ANSWER, [greedy(server, prompt, asked["length"]) for prompt in asked["prompts"]])


def serving(file: str, context: int, threads: int) -> Any:
    """A server with a GGUF file, on loopback only, in which nothing but the weights is rounded. It ends with its
    object."""
    xllamacpp: Any = import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx, parameters.n_parallel, parameters.n_gpu_layers = context, 1, 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.no_extra_bufts = True  # with them, quantised files can't be read on processors with AMX
    parameters.warmup, parameters.cache_prompt, parameters.fit_params, parameters.ui = False, False, False, False
    parameters.hostnames, parameters.port, parameters.verbosity = ["127.0.0.1"], 0, 2
    return xllamacpp.Server(parameters)


def greedy(server: Any, prompt: list[int], length: int) -> list[int]:
    """The likeliest tokens after a prompt; none ends it."""
    answer = post(
        server,
        "/completion",
        prompt=prompt,
        n_predict=length,
        temperature=0,
        top_k=1,
        samplers=["top_k"],
        ignore_eos=True,
        return_tokens=True,
        cache_prompt=False,
    )
    tokens: list[int] = answer["tokens"]
    return tokens


def post(server: Any, path: str, **content: Any) -> dict[str, Any]:
    """What the server answers."""
    request = urllib.request.Request(  # noqa: S310 (an address of this process)
        f"{server.listening_address}{path}", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def end_with(mark: str, answer: Any) -> None:
    """Write an answer, in a line that begins with a mark, and leave: the server's threads don't end."""
    sys.stdout.write(f"{mark}{json.dumps(answer)}\n")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
