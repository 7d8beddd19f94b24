"""The checkpoints that a study's baselines make, each once."""

from functools import partial

from services.application.enough_memory import enough_memory
from services.application.study.checkpoints import StudyCheckpoints
from services.application.study.preparation import PlannedBaseline
from services.coordinator.study.networks import StudyNetwork
from services.pruner.make_pruned import make_pruned
from shared.architecture import dense
from shared.events import Events
from shared.manifest import read_network
from shared.messages import CheckpointRef


def pruned_networks(
    baselines: tuple[PlannedBaseline, ...], checkpoints: StudyCheckpoints, events: Events
) -> list[StudyNetwork]:
    """A network of each baseline at each size, made where it isn't there yet."""
    missing = [each for each in baselines if not checkpoints.made(each.pruning.recipe.digest)]
    if missing:
        with events.step("Baselines", len(missing), _in_words(missing[0])) as shown:
            for number, baseline in enumerate(missing):
                shown.reach(number, _in_words(baseline))
                _make(baseline, checkpoints)
            shown.reach(len(missing))
    networks = []
    for baseline in baselines:
        reference = _make(baseline, checkpoints)
        architecture = dense(read_network(checkpoints.place(baseline.pruning.recipe.digest)))
        networks.append(
            StudyNetwork("baseline", reference, architecture, times_smaller=baseline.times_smaller, name=baseline.name)
        )
    return networks


def _make(baseline: PlannedBaseline, checkpoints: StudyCheckpoints) -> CheckpointRef:
    make = partial(make_pruned, baseline.pruning, digests=checkpoints.digests)
    with enough_memory(f"baselines: {_in_words(baseline)}", "lower calibration.tokens, or leave it out"):
        return checkpoints.get(baseline.pruning.recipe.digest, make)


def _in_words(baseline: PlannedBaseline) -> str:
    return f"{baseline.name}, {baseline.times_smaller:g} times smaller"
