"""Scoring by two revisions of this repository: is the one no slower than the other?

Run as `python -m tests.benchmarks.revisions [OLD [ROUNDS]]`, OLD being what git calls a revision (default: the last but
one), from a clone that has it; the other one is the working tree. Each has a process of its own that waits while the
other computes; in each round both score the same networks on the same items, the one that begins changing from round to
round. Printed are the median of the rounds' ratios, new to old, with its 95 % interval by the bootstrap, for a whole
network, a narrow one and one in INT8; and whether both said the same.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

ROOT = Path(__file__).parents[2]
ROUNDS = 20
BATCH_TOKENS = 4096
ITEMS = 64
CASES = ("whole", "narrow", "whole INT8")
RESAMPLES = 10_000


def main() -> None:
    """Compare both and print a table."""
    revision, rounds = [*sys.argv[1:], "HEAD~1"][0], int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _git("worktree", "add", "--detach", str(scratch / "old"), revision)
        stack.callback(_git, "worktree", "remove", "--force", str(scratch / "old"))
        sides = {name: stack.enter_context(_Side(where)) for name, where in (("old", scratch / "old"), ("new", ROOT))}
        seconds: dict[tuple[str, str], list[float]] = {(name, case): [] for name in sides for case in CASES}
        digests: dict[tuple[str, str], str] = {}
        for number in range(1 + rounds):  # the first one only warms up
            for name in sorted(sides, reverse=number % 2 == 0):
                for case in CASES:
                    took, digests[name, case] = sides[name].score(case)
                    if number:
                        seconds[name, case].append(took)
        print(f"{revision} and the working tree, {ITEMS} items, {rounds} rounds; new / old below 1: new is faster")
        for case in CASES:
            ratios = [new / old for new, old in zip(seconds["new", case], seconds["old", case], strict=True)]
            low, high = interval(ratios)
            same = "same scores" if digests["old", case] == digests["new", case] else "OTHER SCORES"
            print(f"{case:12} {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f}), {same}")


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """The median's 95 % interval, by the percentile bootstrap."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES)]


class _Side:
    """A process that scores with the code of one directory."""

    def __init__(self, where: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(where)}
        # -P: the directory of this file holds modules whose names others have, too.
        command = [sys.executable, "-P", __file__, "--side"]
        self._process = subprocess.Popen(
            command, cwd=where, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._asked: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._asked.close()
        self._process.wait()

    def score(self, case: str) -> tuple[float, str]:
        """Seconds, and a digest of the scores."""
        print(case, file=self._asked, flush=True)
        answer = self._answers.readline().split()
        if len(answer) != 2:
            raise SystemExit("a side has died")
        return float(answer[0]), answer[1]


def side() -> None:
    """Score whenever a case is asked for on the standard input. Uses only what both revisions have."""
    import torch

    from services.evaluator.preparation import prepare_task
    from services.evaluator.scoring import score
    from services.evaluator.tasks.loading import load_items
    from shared.architecture import Architecture
    from shared.digest import digest_json
    from shared.environment import Environment
    from shared.messages import TaskItems
    from shared.supernet.checkpoint import Checkpoint
    from shared.supernet.device import preferred_dtype, torch_dtype
    from shared.supernet.source import EXAMPLE_MODEL, fetch_model
    from shared.supernet.tokenizer import load_tokenizer

    answers, sys.stdout = sys.stdout, sys.stderr
    environment = Environment.read()
    torch.set_num_threads(environment.threads)
    directory, _ = fetch_model(EXAMPLE_MODEL)
    checkpoint = Checkpoint.open(directory)
    weights = {name: tensor.to(torch_dtype(preferred_dtype())) for name, tensor in checkpoint.weights.items()}
    task = "plain_facts" if environment.data is None else "arc_easy"
    loaded = load_items(TaskItems(task=task, stop=ITEMS), environment.data)
    tokenizer = load_tokenizer(directory)
    prepared = prepare_task(task, loaded, tokenizer, checkpoint.config, torch.device("cpu"), BATCH_TOKENS)
    layers, width = checkpoint.config.num_hidden_layers, checkpoint.config.intermediate_size
    whole = Architecture(layers=tuple(range(layers)), mlp_widths=(width,) * layers)
    narrow = Architecture(
        layers=tuple(range(layers - 2)), mlp_widths=tuple(width // (1 + layer % 2) for layer in range(layers - 2))
    )
    networks = dict(zip(CASES, (whole, narrow, whole.quantized("int8")), strict=True))
    for case in map(str.strip, sys.stdin):
        started = time.perf_counter()
        scores = score(checkpoint.cut(networks[case], weights), prepared)
        took = time.perf_counter() - started
        print(took, digest_json(scores.model_dump(mode="json")), file=answers, flush=True)


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    side() if sys.argv[1:] == ["--side"] else main()
