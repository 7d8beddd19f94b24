"""Our scorer against lm-eval's `hf` model: items a second on ARC-Easy, WinoGrande and MMLU 5-shot.

Run as `python -m tests.benchmarks.scoring [CHECKPOINT [NAME]]`, NAME being a part of a benchmark's. Both run in this
process on the same threads and in the same dtype, in turns; lm-eval at its best batch size. What is timed is a new
network on tasks that are there: ours is cut and scored on prepared items, lm-eval's is handed its requests. Preparing
the items, which ours does once for all networks and lm-eval for each, is printed beside it. Needs NASFARM_DATA.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.preparation import PreparedTask, prepare_task
from services.evaluator.scoring import score
from services.evaluator.tasks.loading import load_items
from shared.messages import TaskItems
from shared.network.sizes import outer_parameters, parameters
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype, torch_dtype
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from tests.support.benchmark import environment_with_data

SUBJECTS = (
    "anatomy",
    "astronomy",
    "college_computer_science",
    "global_facts",
    "high_school_european_history",
    "high_school_geography",
    "international_law",
    "machine_learning",
    "professional_law",
    "us_foreign_policy",
)
"""Ten subjects of MMLU, with examples from 336 to 2,600 tokens."""

BENCHMARKS = {
    "ARC-Easy": ([TaskItems(task="arc_easy", stop=400)], 100),
    "WinoGrande": ([TaskItems(task="winogrande", stop=400)], 100),
    "MMLU 5-shot": ([TaskItems(task=f"mmlu_{subject}", num_fewshot=5, stop=100) for subject in SUBJECTS], 3),
}
"""Tasks, and how many of each task's items lm-eval is timed on: it reads each by itself, so its rate doesn't depend on
their number, and the whole would take it minutes."""
BATCH_SIZES = (1, 4, 16, 64)
TRIAL = 48
"""Requests on which a batch size is tried."""
ROUNDS = 3


@dataclass(frozen=True)
class Subject:
    """One task, ready for both."""

    prepared: PreparedTask
    requests: list[Instance]


def main() -> None:
    """Compare on every benchmark and print a table."""
    environment = environment_with_data()
    if environment is None:
        return
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else fetch_model(EXAMPLE_MODEL)[0]
    dtype = preferred_dtype()
    checkpoint = Checkpoint.open(directory)
    weights = {name: tensor.to(torch_dtype(dtype)) for name, tensor in checkpoint.weights.items()}
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch_dtype(dtype))
    print(f"{directory.name}, {dtype}, {environment.threads} threads")
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    for name, (asked, few) in ((name, what) for name, what in BENCHMARKS.items() if wanted in name):
        started = time.perf_counter()
        loaded = [load_items(items, environment.data) for items in asked]
        read = time.perf_counter() - started
        started = time.perf_counter()
        subjects = [
            Subject(
                prepare_task(items.task, task, tokenizer, checkpoint.config, torch.device("cpu"), MOST_TOKENS["cpu"]),
                [request for document in task.documents[:few] for request in document.requests()],
            )
            for items, task in zip(asked, loaded, strict=True)
        ]
        print(f"\n{name}: items read in {read:.1f} s, prepared in {time.perf_counter() - started:.1f} s", flush=True)
        compare(checkpoint, weights, HFLM(pretrained=model, tokenizer=tokenizer, device="cpu"), subjects, few)


def compare(
    checkpoint: Checkpoint, weights: dict[str, torch.Tensor], theirs: HFLM, subjects: list[Subject], few: int
) -> None:
    """Time both in turns and print items a second, their ratio, and the share of the machine's own rate."""
    items = sum(len(subject.prepared.documents) for subject in subjects)
    best = best_batch_size(theirs, subjects)
    theirs.batch_size_per_gpu = best

    def ours() -> list[Any]:
        network = checkpoint.cut(weights=weights)
        return [score(network, subject.prepared) for subject in subjects]

    def lm_eval() -> list[Any]:
        return [theirs.loglikelihood(subject.requests, disable_tqdm=True) for subject in subjects]

    layers = parameters(checkpoint.network) - outer_parameters(checkpoint.network)
    seconds: dict[Callable[[], list[Any]], list[float]] = {ours: [], lm_eval: []}
    rates = []
    for _ in range(ROUNDS):
        for run, taken in seconds.items():
            started = time.perf_counter()
            run()
            taken.append(time.perf_counter() - started)
        rates.append(products_per_second(weights))
    mine, other = (statistics.median(taken) for taken in seconds.values())
    ratio = statistics.median(b / a for a, b in zip(*seconds.values(), strict=True)) * items / (few * len(subjects))
    tokens = sum(subject.prepared.tokens for subject in subjects)
    reached = layers * tokens / mine
    print(f"  lm-eval hf, batch size {best:3}: {few * len(subjects) / other:7.1f} items/s")
    print(f"  nasfarm:                    {items / mine:7.1f} items/s, {ratio:.1f}x  ({tokens / mine:.0f} tokens/s)")
    print(f"  of the machine's rate of matrix products: {100 * reached / statistics.median(rates):.0f} %", flush=True)


def best_batch_size(theirs: HFLM, subjects: list[Subject]) -> int:
    """The batch size at which lm-eval is fastest on some requests of every subject."""
    trial = [subject.requests[: max(4, TRIAL // len(subjects))] for subject in subjects]
    timed = {}
    for size in BATCH_SIZES:
        theirs.batch_size_per_gpu = size
        started = time.perf_counter()
        for part in trial:
            theirs.loglikelihood(part, disable_tqdm=True)
        timed[size] = time.perf_counter() - started
        if timed[size] > 1.5 * min(timed.values()):
            break
    return min(timed, key=lambda size: timed[size])


def products_per_second(weights: dict[str, torch.Tensor]) -> float:
    """Multiply-add pairs a second in a large product of the model's own shapes (the MLP's, 2,048 tokens)."""
    weight = weights["model.layers.0.mlp.gate_proj.weight"]
    states = torch.randn(2048, weight.shape[1], dtype=weight.dtype)
    taken = []
    for _ in range(15):
        started = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        taken.append(time.perf_counter() - started)
    return 2048 * weight.numel() / statistics.median(taken)


if __name__ == "__main__":
    main()
