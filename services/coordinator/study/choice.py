"""What is chosen of a search at a size, and what it is compared with: a random network as large."""

from collections.abc import Collection, Sequence

from services.coordinator.counterparts import counterpart
from services.coordinator.evaluated import Evaluated
from services.coordinator.study.networks import StudyNetwork, of_kind
from shared.architecture import Architecture
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters
from shared.settings.study_file import TOGETHER, StudySettings
from shared.space import SearchSpace

DRAWS = 20
"""Of counterparts that are a little too large."""
SAME_SIZE = 0.02
"""Sizes that differ by no more than this share of the parameters are equal."""


def most_parameters(base: NetworkShape, times_smaller: float) -> int:
    """Parameters that a network may have at a size."""
    return int(parameters(base) / times_smaller)


def is_of_size(size: int, at_most: int) -> bool:
    """Whether a network with so many parameters is as large as is asked for, and no larger."""
    return at_most * (1 - SAME_SIZE) <= size <= at_most


def chosen_network(evaluated: Sequence[Evaluated], space: SearchSpace, at_most: int) -> Architecture | None:
    """The most accurate of the measured networks that are of a size, of equally accurate ones the smallest, of these
    the first; where none is of the size, of all that are smaller; None if none is small enough. Those in INT8 don't
    count: the study measures what it chose in INT8 besides."""
    sizes = [
        (network, space.parameters(network.architecture))
        for network in evaluated
        if network.accuracy is not None and network.architecture.quantization == "none"
    ]
    fitting = [(network, size) for network, size in sizes if size <= at_most]
    of_size = [(network, size) for network, size in fitting if is_of_size(size, at_most)]
    best = max(of_size or fitting, key=lambda each: (each[0].accuracy or 0.0, -each[1]), default=None)
    return None if best is None else best[0].architecture


def random_counterpart(
    space: SearchSpace, network: Architecture, at_most: int, excluded: Collection[Architecture], seed: int
) -> Architecture | None:
    """A random network of the size of a chosen one, which has at most so many parameters too and is none of `excluded`;
    None if the space has none."""
    refused = set(excluded)
    for _ in range(DRAWS):
        drawn = counterpart(space, network, refused, seed)
        if drawn is None or space.parameters(drawn) <= at_most:
            return drawn
        refused.add(drawn)
    return None


def cut_alone(settings: StudySettings, networks: Sequence[StudyNetwork]) -> list[StudyNetwork]:
    """The chosen networks that are cut out of the untouched model too, as fine-tuning each takes long: those of the
    searches on all tasks together, else on the first task."""
    if not settings.fine_tuning.alone:
        return []
    chosen_on = TOGETHER if TOGETHER in settings.searched else settings.searched[0]
    return [network for network in of_kind(networks, "chosen") if network.chosen_on == chosen_on]
