"""What the best networks of a search have in common, and the network that a rule made of it would build: section 4.4
and figures 6 to 9 of LLaMA-NAS (arXiv 2405.18377)."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from services.coordinator.evaluated import Evaluated
from shared.architecture import Architecture
from shared.space import SearchSpace

SHARE = 0.25
"""Of the measured networks, the best of which count."""


def best_share(evaluated: Sequence[Evaluated], share: float = SHARE) -> list[Evaluated]:
    """The most accurate share of the networks that were measured, at least one where there is one; of equally accurate
    ones those that were measured first."""
    measured = [network for network in evaluated if network.accuracy is not None]
    measured.sort(key=_accuracy, reverse=True)
    return measured[: max(1, round(share * len(measured)))]


def narrow_probabilities(
    evaluated: Sequence[Evaluated], space: SearchSpace, share: float = SHARE
) -> tuple[float | None, ...]:
    """For each layer of the super-network, in which share of the best networks that have it its MLP is the narrowest
    that may be chosen; None for a layer that none of them has."""
    narrow, kept = Counter[int](), Counter[int]()
    for network in best_share(evaluated, share):
        kept.update(network.architecture.layers)
        narrow.update(narrow_layers(network.architecture, space))
    layers = range(space.network.depth)
    return tuple(narrow[layer] / kept[layer] if kept[layer] else None for layer in layers)


def narrow_layers(architecture: Architecture, space: SearchSpace) -> tuple[int, ...]:
    """The layers of a network, by their indices in the super-network, with the narrowest MLPs of the space; none where
    there is no choice."""
    if len(space.mlp_widths) == 1:
        return ()
    layers = zip(architecture.layers, architecture.mlp_widths, strict=True)
    return tuple(layer for layer, width in layers if width == space.mlp_widths[-1])


def depth_probabilities(evaluated: Sequence[Evaluated], bins: int = 4) -> list[dict[int, float]]:
    """The share of each depth among the measured networks, by percentile of their accuracy: `bins` groups of equal
    size, from the least accurate to the most. A group without networks has no depths."""
    measured = sorted((network for network in evaluated if network.accuracy is not None), key=_accuracy)
    edges = [round(len(measured) * number / bins) for number in range(bins + 1)]
    groups = [measured[low:high] for low, high in pairwise(edges)]
    return [
        {depth: count / len(group) for depth, count in sorted(Counter(n.architecture.depth for n in group).items())}
        for group in groups
    ]


def heuristic_network(evaluated: Sequence[Evaluated], space: SearchSpace, share: float = SHARE) -> Architecture | None:
    """The network that the best ones suggest: of the layers, and so of the depth, that are most frequent among them (of
    equally frequent ones the greatest depth), narrow in as many layers as they are on average, namely in those that are
    narrow most often (of equal ones the last, which the paper finds to matter least), and wide in all others. None
    where nothing was measured."""
    best = best_share(evaluated, share)
    if not best:
        return None
    counts = Counter(network.architecture.layers for network in best)
    kept = max(counts, key=lambda layers: (counts[layers], len(layers)))
    number = round(sum(len(narrow_layers(network.architecture, space)) for network in best) / len(best))
    probabilities = narrow_probabilities(evaluated, space, share)
    ranked = sorted(kept, key=lambda layer: (probabilities[layer] or 0.0, layer), reverse=True)
    return network_with_narrow(space, kept, ranked[:number])


def network_with_narrow(space: SearchSpace, kept: Sequence[int], layers: Sequence[int]) -> Architecture:
    """The network of the layers that are kept, with the narrowest MLPs in some of them and the widest in all others;
    layers that it lacks have no effect."""
    widest, narrowest = space.mlp_widths[0], space.mlp_widths[-1]
    widths = tuple(narrowest if layer in layers else widest for layer in kept)
    return Architecture(layers=tuple(kept), mlp_widths=widths)


def _accuracy(network: Evaluated) -> float:
    return network.accuracy or 0.0
