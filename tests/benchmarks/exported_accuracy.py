"""Is an export the network that was measured? lm-eval's own `hf` model, loaded from it, on the report items.

Run as `python -m tests.benchmarks.exported_accuracy [RUN] [NETWORK ...] [--items N] [--batches 1 16]`; by default the
example's run, the smallest network of its front that was measured on the report items, and all of these. In float32,
every answer must be that of our scorer; it exits with 1 where one isn't. In what the run computes in, lm-eval rounds
otherwise than our scorer: what flips against the report's answers stands beside what flips between lm-eval's own batch
sizes. So it does with INT8, whose outliers bitsandbytes chooses for a whole batch. Takes minutes for each network.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from lm_eval.models.huggingface import HFLM

from services.application.export.searched_run import SearchedRun
from services.application.export.supernet import supernet_of
from services.application.quiet_libraries import quiet_libraries
from services.coordinator.history import History
from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.tasks.index import include_tasks
from services.evaluator.tasks.loading import load_items
from services.exporter.formats import make_format
from services.exporter.network import ExportedNetwork
from services.reporting.report_data import NetworkRow
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.files import user_path
from shared.messages import Dtype, ItemScores, Measurement
from shared.supernet.checkpoint import Checkpoint
from tests.benchmarks.served import EXAMPLE
from tests.support.agreement import Answers, comparisons, form_of, lm_eval_answers


def main() -> None:
    """Compare each network, and exit with 1 if one isn't what was measured."""
    asked = _arguments()
    quiet_libraries()
    environment = Environment.read()
    torch.set_num_threads(environment.threads)
    try:
        run = SearchedRun.read(asked.run)
        rows = chosen(run, asked.networks)
        checkpoint = Checkpoint.open(supernet_of(run, None, environment, Events()).directory)
        if run.plan.settings.include_path is not None:
            include_tasks(user_path(run.plan.settings.include_path))
        for task in run.plan.settings.tasks:
            load_items(task.part("report"), environment.data)
    except UserError as error:
        print(f"skipped: {error}")
        return
    same = True
    for row in rows:
        with tempfile.TemporaryDirectory() as scratch:
            make_format("hf").write(ExportedNetwork(checkpoint, row.architecture), Path(scratch), lambda _: None)
            comparison = Comparison(run, checkpoint, row, Path(scratch), environment.data, asked.items)
            same &= comparison.show(asked.batches)
    sys.exit(not same)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", default=EXAMPLE)
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--items", type=int, default=None)
    parser.add_argument("--batches", type=int, nargs=2, default=(1, 16))
    return parser.parse_args()


def chosen(run: SearchedRun, names: Sequence[str]) -> list[NetworkRow]:
    """The networks that are named, or one of the front. Raises UserError for what wasn't measured on report items."""
    known = {row.name: row for row in run.networks if row.report_accuracy is not None}
    for name in names:
        if name not in known:
            raise UserError(
                f"{run.directory.path}: {name} has no report items; measured on them were {', '.join(known)}"
            )
    return [known[name] for name in names] or [run.report.reported[-1]]


class Comparison:
    """One network: as the run's report has it, and as lm-eval finds its export in a directory."""

    def __init__(
        self,
        run: SearchedRun,
        checkpoint: Checkpoint,
        row: NetworkRow,
        export: Path,
        data: Path | None,
        most: int | None,
    ) -> None:
        self.run, self.checkpoint, self.row, self.export, self.data, self.most = (
            run,
            checkpoint,
            row,
            export,
            data,
            most,
        )
        settings = run.plan.settings
        with closing(History.read(run.directory.history)) as history:
            outcome = history.outcome(run.plan.request(row.architecture, "report").identity)
        assert isinstance(outcome, Measurement)
        self.asked = [task.part("report") for task in settings.tasks]
        self.metrics = settings.metrics
        self.scores = outcome.scores

    def show(self, batches: Sequence[int]) -> bool:
        """Print what is found. False where answers differ that must not."""
        quantized = self.row.architecture.quantization == "int8"
        names = ", ".join(f"{len(scores.items[: self.most])} items of {scores.task}" for scores in self.scores)
        print(f"\n{self.row.name}: {names}", flush=True)
        if any(scores.clusters for scores in self.scores):
            print("  skipped: groups of tasks are several to lm-eval")
            return True
        same = True if quantized else self._float32()
        dtype = self.run.plan.dtype
        held = f"{dtype}, INT8" if quantized else dtype
        first, second = (self._lm_eval(dtype, batch) for batch in batches)
        report = f"the report's ({held}) and lm-eval's, batches of {batches[0]}"
        self._flips(report, [self._reported(scores) for scores in self.scores], self._answered(first))
        self._flips(
            f"lm-eval's own ({held}), batches of {batches[0]} and of {batches[1]}",
            *map(self._answered, (first, second)),
        )
        return same

    def _float32(self) -> bool:
        """Whether our scorer and lm-eval agree on every item."""
        asked = [
            items.model_copy(update={"stop": items.start + len(scores.items[: self.most])})
            for items, scores in zip(self.asked, self.scores, strict=True)
        ]
        reference, tokens = self._reference("float32", 1), MOST_TOKENS["cpu"]
        architecture, same = self.row.architecture, True
        for found in comparisons(self.checkpoint, architecture, reference, asked, self.data, tokens):
            differing = found.metric_differences()
            same &= not differing
            print(
                f"  our scorer and lm-eval in float32, {found.scores.task}: log-likelihoods differ by at most "
                f"{found.likelihood_difference():.1e} of themselves, {len(differing)} answers differ",
                flush=True,
            )
            for line in differing:
                print(f"    {line}")
        return same

    def _lm_eval(self, dtype: Dtype, batch: int) -> dict[str, Answers]:
        reference, found = self._reference(dtype, batch), dict[str, Answers]()
        for asked, scores in zip(self.asked, self.scores, strict=True):
            items = {asked.task: scores.items[: self.most]}
            found |= lm_eval_answers(reference, items, form_of(asked), self.data)
        return found

    def _reference(self, dtype: Dtype, batch: int) -> HFLM:
        return HFLM(pretrained=str(self.export), dtype=dtype, device="cpu", batch_size=batch, trust_remote_code=True)

    def _reported(self, scores: ItemScores) -> list[float]:
        metric = self.metrics[self.scores.index(scores)]
        return list(scores.metrics[metric][: self.most])

    def _answered(self, found: dict[str, Answers]) -> list[list[float]]:
        return [
            [float(found[scores.task].metrics[item][metric]) for item in scores.items[: self.most]]
            for scores, metric in zip(self.scores, self.metrics, strict=True)
        ]

    def _flips(self, what: str, one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> None:
        """How many answers differ, and by what margins the report has them: a tie flips for nothing."""
        margins, flipped = [], []
        for scores, mine, theirs in zip(self.scores, one, other, strict=True):
            margins += [abs(margin) for margin in scores.margins[: self.most]]
            flipped += list(np.not_equal(mine, theirs))
        mine, theirs = (np.mean([value for task in side for value in task]) for side in (one, other))
        line = f"  {what}: {100 * mine:.2f} and {100 * theirs:.2f} %, {sum(flipped)} of {len(flipped)} answers differ"
        if any(flipped):
            among = [margin for margin, flip in zip(margins, flipped, strict=True) if flip]
            line += f"; their margins: at most {max(among):.3f} nats (all items' median: {np.median(margins):.3f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
