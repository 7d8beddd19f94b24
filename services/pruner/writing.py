"""A network that a baseline made, on disk: a checkpoint with its `recipe.json`, whole or not at all."""

from pathlib import Path

from services.pruner.calibration import Calibration
from services.pruner.protocol import PrunedNetwork
from services.pruner.recipe import PruningRecipe, PruningRecord
from shared.checkpoint_files import FileDigests
from shared.network.sizes import parameters
from shared.recipe_file import library_versions
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.device import preferred_dtype
from shared.supernet.saving import save_network


def write_pruned(
    made: PrunedNetwork,
    base: Checkpoint,
    recipe: PruningRecipe,
    calibration: Calibration | None,
    directory: Path,
    digests: FileDigests,
) -> PruningRecord:
    """Write the checkpoint `directory`. Raises UserError where something lies there already or it can't be written."""

    def record(files: dict[str, str]) -> PruningRecord:
        return PruningRecord(
            base=str(base.directory.absolute()),
            recipe=recipe,
            plan=recipe.digest,
            parameters=parameters(made.network.shape),
            bytes=made.network.bytes,
            dtype=preferred_dtype(),
            tokens=None if calibration is None else calibration.tokens,
            kept=made.kept,
            versions=library_versions(),
            files=files,
        )

    save_network(
        made.network, base, made.kept, directory, lambda written: record(digests.content(written)).write(written)
    )
    recorded = PruningRecord.read(directory)
    for name, digest in recorded.files.items():
        digests.remember(directory / name, digest)
    return recorded
