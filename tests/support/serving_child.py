"""One network loaded and run once, in a process of its own, so that its load time and peak memory are its own.

Run as `python -m tests.support.serving_child ENGINE PATH PROMPT GENERATED`; prints JSON. The prompt is of so many
tokens, read at once; so many more are generated, greedily, one at a time.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.environment import Environment
from tests.support.process_memory import forget_peak, status

REPEATS = 3
"""Of the prompt and what follows, after a first run that is not timed."""
TOKEN = 100
"""Prompts repeat a few tokens from here on, which every tokenizer has."""

Pass = tuple[float, float]
"""Seconds that a prompt took, and what was generated after it."""


@dataclass(frozen=True)
class Served:
    """`load_seconds` from nothing to a network that answers, the library being imported already; tokens per second, as
    medians of the repeats; `peak_bytes` is the most memory that was held from the loading on, beyond what the library
    had taken before, pages of mapped files included."""

    load_seconds: float
    prefill: float
    decode: float
    peak_bytes: int


def main() -> None:
    """Print what was measured."""
    engine, path, prompt, generated = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(asdict(measure(LOADERS[engine](), path, prompt, generated))))


def measure(load: "Loader", path: Path, prompt: int, generated: int) -> Served:
    """Load and run."""
    forget_peak()
    before, started = status("VmRSS"), time.perf_counter()
    run = load(path, [TOKEN + index % 50 for index in range(prompt)], generated)
    load_seconds = time.perf_counter() - started
    run()
    passes = [run() for _ in range(REPEATS)]
    return Served(
        load_seconds,
        prompt / statistics.median(seconds for seconds, _ in passes),
        generated / statistics.median(seconds for _, seconds in passes),
        status("VmHWM") - before,
    )


Loader = Callable[[Path, list[int], int], Callable[[], Pass]]
"""Loads what lies at a path; what it returns runs a prompt and generates so many tokens after it."""


def transformers_loader() -> Loader:
    """As transformers' users run it: the checkpoint's own dtype, the modelling file that lies beside the weights."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads())

    def load(path: Path, tokens: list[int], generated: int) -> Callable[[], Pass]:
        model = AutoModelForCausalLM.from_pretrained(path, dtype="auto", trust_remote_code=True).eval()

        @torch.inference_mode()
        def run() -> Pass:
            started = time.perf_counter()
            found = model(torch.tensor([tokens]), use_cache=True, logits_to_keep=1)
            token = found.logits[:, -1:].argmax(-1)
            prefilled = time.perf_counter()
            for _ in range(generated):
                found = model(token, past_key_values=found.past_key_values, use_cache=True)
                token = found.logits[:, -1:].argmax(-1)
            return prefilled - started, time.perf_counter() - prefilled

        return run

    return load


def llama_cpp_loader() -> Loader:
    """As llama.cpp's server runs it, which says itself how long prompts and answers take."""
    import xllamacpp

    def load(path: Path, tokens: list[int], generated: int) -> Callable[[], Pass]:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = len(tokens) + generated + 64
        parameters.n_parallel = 1
        parameters.warmup = False
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads()
        # With AMX, llama.cpp crashes on quantised files that it has packed anew.
        parameters.no_extra_bufts = True
        server = xllamacpp.Server(parameters)

        def run() -> Pass:
            asked = {"prompt": tokens, "n_predict": generated + 1, "ignore_eos": True, "cache_prompt": False}
            timings = server.handle_completions({**asked, "temperature": 0})["timings"]
            # The first token comes of the prompt, and the clock of the others starts when it is there.
            assert (timings["prompt_n"], timings["predicted_n"]) == (len(tokens), generated + 1)
            return timings["prompt_ms"] / 1000, timings["predicted_ms"] / 1000

        return run

    return load


def threads() -> int:
    """How many threads both engines compute with."""
    return Environment.read().threads


LOADERS: dict[str, Callable[[], Loader]] = {"llama.cpp": llama_cpp_loader, "transformers": transformers_loader}

if __name__ == "__main__":
    main()
