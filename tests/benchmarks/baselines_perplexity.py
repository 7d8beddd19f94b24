"""Perplexity of what the baselines make of the example model, at given true sizes, beside the base's own.

Run as `python -m tests.benchmarks.baselines_perplexity [BASELINE ...] [--shares SHARE ...]`, with NASFARM_DATA set for
WikiText-2: calibration on its validation split, perplexity on its test split, each its first 8,192 tokens in windows of
512. Where it is absent, both are of the built-in plain facts' instructions, of different rows; such perplexities can be
compared with one another only. `greedy` and `evopress` have to be named, as they take several times as long as all
others.
"""

import argparse
import math
import time

import torch
import torch.nn.functional as F

from services.pruner.baselines import BASELINES, make_baseline
from services.pruner.calibration import Calibration
from services.pruner.target import ParameterTarget
from shared import facts
from shared.environment import Environment
from shared.network.sizes import parameters
from shared.rows import find_rows_file, located_rows
from shared.settings.baselines import parse_options
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Decoder
from shared.supernet.device import compute_device
from shared.supernet.source import EXAMPLE_MODEL, fetch_model
from shared.supernet.tokenizer import load_tokenizer

SLOW = ("evopress", "greedy")
SHARES = (0.9, 0.77)
WINDOWS, LENGTH = 16, 512
CHARACTERS = 10  # of a token, at most, on average


def main() -> None:
    """Prune, measure and print, baseline by baseline."""
    parser = argparse.ArgumentParser(description="Perplexity of what baselines make of the example model.")
    parser.add_argument("baselines", nargs="*", metavar="BASELINE", help="all but the slow ones if none is named")
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES, help="of the base's parameters")
    asked = parser.parse_args()
    names = asked.baselines or [name for name in BASELINES if name not in SLOW]
    baselines = {name: make_baseline(parse_options({"baseline": name}, "baselines_perplexity")) for name in names}
    base = Checkpoint.open(fetch_model(EXAMPLE_MODEL)[0])
    source, calibration, text = texts(base, Environment.read())
    whole = parameters(base.network)
    print(f"{EXAMPLE_MODEL}, float32; {source}; {calibration.tokens} calibration tokens, {text.predictions} predicted")
    print(f"{'':12}{'parameters':>12}{'share':>8}{'perplexity':>12}{'seconds to prune':>18}")
    print(f"{'base':12}{whole:12,}{1:8.3f}{perplexity(base.cut(), text):12.2f}", flush=True)
    for share in asked.shares:
        for name, baseline in baselines.items():
            started = time.perf_counter()
            made = baseline.prune(base, calibration, ParameterTarget(at_most=int(share * whole)), 0).network
            seconds, size = time.perf_counter() - started, parameters(made.shape)
            line = f"{name:12}{size:12,}{size / whole:8.3f}{perplexity(made, text):12.2f}{seconds:18.1f}"
            print(line, flush=True)


def texts(base: Checkpoint, environment: Environment) -> tuple[str, Calibration, Calibration]:
    """What the texts are, that to calibrate on, and that whose perplexity is measured."""
    tokenizer = load_tokenizer(base.directory)

    def windows(text: str) -> Calibration:
        # Its beginning is all that is needed; a longer text would take long to cut into tokens.
        tokens: list[int] = tokenizer(text[: CHARACTERS * WINDOWS * LENGTH], add_special_tokens=False)["input_ids"]
        starts = range(0, min(len(tokens) - LENGTH + 1, WINDOWS * LENGTH), LENGTH)
        return Calibration(tuple(tuple(tokens[start : start + LENGTH]) for start in starts))

    folder = environment.data and environment.data / "wikitext2"
    files = [find_rows_file(folder, split) for split in ("validation", "test")] if folder else []
    if files and None not in files:
        source, both = "WikiText-2", ["".join(row["text"] for _, row in located_rows(file)) for file in files if file]
    else:
        rows = [f"{row['instruction']}\n{row['input']}\n{row['output']}" for row in facts.instructions()]
        source, both = "plain facts", ["\n\n".join(rows[first::2]) for first in range(2)]
    return source, windows(both[0]), windows(both[1])


@torch.inference_mode()
def perplexity(network: Decoder, text: Calibration) -> float:
    """Of the text's tokens but for the first of each sequence, in float32."""
    device, total = compute_device(), 0.0
    network = network.map(lambda tensor: tensor.to(device, torch.float32))
    for one in text.passes(device):
        logits = network.logits(network.hidden(one.packed)[one.places])
        total += float(F.cross_entropy(logits, one.targets, reduction="sum"))
    return math.exp(total / text.predictions)


if __name__ == "__main__":
    main()
