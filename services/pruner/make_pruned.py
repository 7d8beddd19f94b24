"""Make a smaller checkpoint of a base by a baseline."""

from dataclasses import dataclass
from pathlib import Path

from services.pruner.baselines import make_baseline
from services.pruner.calibration import Calibration
from services.pruner.protocol import Baseline, require_possible
from services.pruner.recipe import PruningRecipe, PruningRecord
from services.pruner.target import Target
from services.pruner.writing import write_pruned
from shared.checkpoint_files import FileDigests
from shared.errors import UserError
from shared.settings.baselines import BaselineOptions
from shared.supernet.checkpoint import Checkpoint


@dataclass(frozen=True)
class PruningPlan:
    """What a baseline is going to make of which base: known to be possible before anything is computed.

    `calibration` is None where the baseline reads no text.
    """

    baseline: Baseline
    base: Checkpoint
    calibration: Calibration | None
    recipe: PruningRecipe


def plan_pruning(
    base_directory: Path,
    base_digest: str,
    options: BaselineOptions,
    target: Target,
    calibration: Calibration | None = None,
    seed: int = 0,
) -> PruningPlan:
    """Look whether a baseline can do what is asked for. `base_digest` is that of the base's content.

    Raises UserError for a base that can't be opened, a target that can't be reached, and text that is missing, too
    short or not the model's.
    """
    base, baseline = Checkpoint.open(base_directory), make_baseline(options)
    require_possible(baseline, base.network, calibration, target)
    text = calibration if baseline.reads_text else None
    recipe = PruningRecipe(
        base=base_digest,
        options=options,
        target=target,
        calibration=None if text is None else text.digest,
        seed=seed if baseline.draws else None,
    )
    return PruningPlan(baseline, base, text, recipe)


def make_pruned(plan: PruningPlan, directory: Path, digests: FileDigests) -> PruningRecord:
    """Make the checkpoint `directory`, whole or not at all. Raises UserError where something lies there already, before
    anything is computed, and where it can't be written."""
    if directory.exists():
        raise UserError(f"{directory}: exists already; name another directory")
    made = plan.baseline.prune(plan.base, plan.calibration, plan.recipe.target, plan.recipe.seed or 0)
    return write_pruned(made, plan.base, plan.recipe, plan.calibration, directory, digests)
