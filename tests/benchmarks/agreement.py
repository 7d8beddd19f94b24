"""Our scorer against lm-eval's `hf` model in float32: how far apart their answers are on the five benchmarks and texts.

Run as `python -m tests.benchmarks.agreement [CHECKPOINT]`. The same items are scored by both, on the whole network and
on a sub-network, which lm-eval is given as a network of its own; lm-eval reads one request at a time, so that nothing
of its own comes between. Exits with 1 where a log-likelihood is further off than the aim or a metric is not the same.
Takes some minutes; needs NASFARM_DATA.
"""

import sys
from pathlib import Path

import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM

from services.evaluator.batch_size import MOST_TOKENS
from shared.architecture import Architecture, dense
from shared.messages import TaskItems
from shared.network.shape import NetworkShape
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tokenizer import load_tokenizer
from tests.benchmarks.scoring import SUBJECTS
from tests.support.agreement import TOLERANCE, Comparison, comparisons
from tests.support.benchmark import environment_with_data
from tests.support.checkpoints import copied_subnet

TASKS = (
    TaskItems(task="arc_easy", stop=20),
    TaskItems(task="arc_challenge", stop=20),
    TaskItems(task="winogrande", stop=20),
    TaskItems(task="truthfulqa_mc1", stop=20),
    TaskItems(task="truthfulqa_mc2", stop=20),
    TaskItems(task="wikitext", stop=2),
    *(TaskItems(task=f"mmlu_{subject}", num_fewshot=5, stop=4) for subject in SUBJECTS),
)


def main() -> None:
    """Compare on both networks, print a table for each, and exit with 1 if they don't agree."""
    environment = environment_with_data()
    if environment is None:
        return
    checkpoint = Checkpoint.open(Path(sys.argv[1]) if len(sys.argv) > 1 else fetch_model(EXAMPLE_MODEL)[0])
    model = AutoModelForCausalLM.from_pretrained(checkpoint.directory, dtype=torch.float32)
    whole, narrow = dense(checkpoint.network), thinned(checkpoint.network)
    agreed = True
    for architecture, network in ((whole, model), (narrow, copied_subnet(model, narrow))):
        mean_width = sum(architecture.mlp_widths) / architecture.depth
        print(f"\n{checkpoint.directory.name}, float32: {architecture.depth} layers, mean width {mean_width:.0f}")
        print(f"{'':34}{'':>7}{'log-':>12}  largest relative{'metrics':>10}")
        print(f"{'task':34}{'items':>7}{'likelihoods':>12}{'difference':>18}{'differ':>10}", flush=True)
        reference = HFLM(pretrained=network, tokenizer=load_tokenizer(checkpoint.directory), device="cpu", batch_size=1)
        compared = comparisons(checkpoint, architecture, reference, TASKS, environment.data, MOST_TOKENS["cpu"])
        for comparison in compared:
            agreed &= shown(comparison)
    print(f"\nlargest difference {'within' if agreed else 'ABOVE'} the aim: {TOLERANCE:.0e}, and every metric the same")
    sys.exit(not agreed)


def thinned(shape: NetworkShape) -> Architecture:
    """Without every fifth layer, the others' MLPs in turn whole, three quarters and half as wide."""
    layers = tuple(layer for layer in range(shape.depth) if layer % 5 != 3)
    widths = (shape.mlp_widths[0], shape.mlp_widths[0] * 3 // 4, shape.mlp_widths[0] // 2)
    return Architecture(layers=layers, mlp_widths=tuple(widths[at % 3] for at in range(len(layers))))


def shown(comparison: Comparison) -> bool:
    """Print a task's line, with the metrics that differ below it, and say whether both agree."""
    difference, differing = comparison.likelihood_difference(), comparison.metric_differences()
    print(
        f"{comparison.scores.task:34}{len(comparison.scores.items):7}{comparison.requests:12}"
        f"{difference:18.1e}{len(differing):10}",
        flush=True,
    )
    for line in differing:
        print(f"  {line}", flush=True)
    return difference <= TOLERANCE and not differing


if __name__ == "__main__":
    main()
