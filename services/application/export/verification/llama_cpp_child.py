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
    """`file`, `prompts` (token ids), `length` (tokens after each) -> one list of token ids for each prompt."""
    asked = json.load(sys.stdin)
    xllamacpp: Any = import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = asked["file"]
    parameters.n_ctx = max(map(len, asked["prompts"])) + asked["length"] + 16
    parameters.n_parallel, parameters.n_gpu_layers = 1, 0
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = asked["threads"]
    # Nothing but the weights may be rounded.
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.no_extra_bufts = True  # with them, quantised files can't be read on processors with AMX
    parameters.warmup, parameters.cache_prompt, parameters.fit_params, parameters.ui = False, False, False, False
    parameters.port, parameters.verbosity = 0, 2
    server = xllamacpp.Server(parameters)
    tokens = [_greedy(server.listening_address, prompt, asked["length"]) for prompt in asked["prompts"]]
    sys.stdout.write(ANSWER + json.dumps(tokens) + "\n")
    sys.stdout.flush()
    os._exit(0)  # the server's threads don't end


def _greedy(address: str, prompt: list[int], length: int) -> list[int]:
    content = {
        "prompt": prompt,
        "n_predict": length,
        "temperature": 0,
        "top_k": 1,
        "samplers": ["top_k"],
        "ignore_eos": True,
        "return_tokens": True,
        "cache_prompt": False,
    }
    request = urllib.request.Request(  # noqa: S310 (an address of this process)
        f"{address}/completion", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        tokens: list[int] = json.load(answer)["tokens"]
    return tokens


if __name__ == "__main__":
    main()
