"""The most accurate networks by a model that is additive over layers and neighbours: exact, by dynamic programming.

Costs depend on how many layers there are of each kind, and not on which these are (`CostModel.same_everywhere`). So it
is enough to know the most accurate network for each such count: all fronts are among them, whatever the objectives are.
"""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from services.coordinator.genomes import Encoding, FloatArray, IntArray

MAX_COUNTS = 40_000
"""Counts of layers of each kind that are looked at most: those of four kinds of 33 layers. More take too long."""

Predict = Callable[[IntArray], FloatArray]
"""Accuracies by several models, shape (models, networks), of genomes, shape (networks, genes)."""


def has_few_counts(encoding: Encoding) -> bool:
    """Whether layers can be counted by kind in few enough ways for `best_by_counts`."""
    return bool((encoding.space.network.depth + 1) ** (len(_kinds(encoding)) - 1) <= MAX_COUNTS)


def best_by_counts(encoding: Encoding, predict: Predict) -> IntArray:
    """The genome with the highest accuracy by each model for each choice of the whole network's genes and each count of
    layers of each kind, shape (models, networks, genes), canonical.

    For any choice of the whole network's genes, accuracy has to be a sum of what each layer adds, and each two layers
    that follow each other in the super-network.
    """
    space, kinds = encoding.space, _kinds(encoding)
    whole = [place for place, gene in enumerate(space.genes) if gene.layer is None]
    found = []
    for values in product(*(range(space.genes[place].choices) for place in whole)):
        base = np.zeros(encoding.genes, np.int64)
        base[whole] = values
        if (encoding.canonical(base[None]) != base).any():
            continue
        layers = np.flatnonzero(encoding.kept(base[None])[0]).tolist()
        of_layers = _best_sequences(*_gains(encoding, predict, base, layers))
        genomes = np.tile(base, (*of_layers.shape[:2], 1))
        for index, layer in enumerate(layers):
            genomes[:, :, _places(encoding, layer)] = kinds[of_layers[:, :, index]]
        found.append(genomes)
    return np.concatenate(found, axis=1)


def _places(encoding: Encoding, layer: int) -> list[int]:
    return [place for place, gene in enumerate(encoding.space.genes) if gene.layer == layer]


def _kinds(encoding: Encoding) -> IntArray:
    """What a layer may be: the values of its genes, shape (kinds, genes of a layer), the largest first."""
    choices = [encoding.space.genes[place].choices for place in _places(encoding, 0)]
    return np.array(list(product(*map(range, choices))), np.int64)


def _gains(
    encoding: Encoding, predict: Predict, base: IntArray, layers: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """What each kind of each layer adds to the accuracy of a network, shape (models, layers, kinds), and what it adds
    beside that after each kind of the layer before, shape (models, layers - 1, kinds before, kinds)."""
    kinds = _kinds(encoding)
    count = len(kinds)
    before, after = np.divmod(np.arange(count**2), count)
    singles = np.tile(base, (len(layers), count, 1))
    pairs = np.tile(base, (len(layers) - 1, count**2, 1))
    for index, layer in enumerate(layers):
        places = _places(encoding, layer)
        singles[index][:, places] = kinds
        if index:
            pairs[index - 1][:, places] = kinds[after]
        if index < len(layers) - 1:
            pairs[index][:, places] = kinds[before]
    start = predict(base[None])
    of_singles = (predict(singles.reshape(-1, len(base))) - start).reshape(len(start), len(layers), count)
    of_pairs = (predict(pairs.reshape(-1, len(base))) - start).reshape(len(start), len(layers) - 1, count, count)
    of_pairs -= of_singles[:, :-1, :, None] + of_singles[:, 1:, None, :]
    return of_singles, of_pairs


def _best_sequences(singles: FloatArray, pairs: FloatArray) -> IntArray:
    """For each model and each count of kinds the sequence of kinds, one for each layer, that adds most; shape (models,
    counts, layers).

    The state after a layer is its kind, and how many of the layers so far are of each kind but the first.
    """
    models, layers, kinds = singles.shape
    counts = (layers + 1,) * (kinds - 1)
    added = singles.reshape(*singles.shape, *(1,) * (kinds - 1))
    following = pairs.reshape(*pairs.shape, *(1,) * (kinds - 1))
    best = np.full((models, kinds, *counts), -np.inf)
    for kind in range(kinds):
        one: tuple[slice | int, ...] = (slice(None), *_one(kind, kinds))
        best[:, kind][one] = singles[:, 0, kind]
    came_from = []
    for layer in range(1, layers):
        before = np.zeros(best.shape, np.int8)
        highest = best[:, :1] + following[:, layer - 1, 0]
        for kind in range(1, kinds):
            other = best[:, kind, None] + following[:, layer - 1, kind]
            before[other > highest] = kind
            np.maximum(highest, other, out=highest)
        came_from.append(before)
        best = np.full_like(best, -np.inf)
        for kind in range(kinds):
            more, fewer = _shifted(kind, kinds)
            best[:, kind][more] = highest[:, kind][fewer] + added[:, layer, kind]
    last = best.argmax(axis=1).reshape(models, -1)
    left = np.indices(counts).reshape(kinds - 1, last.shape[1])
    reached = left.sum(axis=0) <= layers
    last, left = last[:, reached], left[:, None, reached].repeat(models, axis=1)
    steps = np.array([_one(kind, kinds) for kind in range(kinds)], np.int64).reshape(kinds, kinds - 1).T
    sequences = np.empty((*last.shape, layers), np.int64)
    numbers = np.arange(models)[:, None]
    for layer in reversed(range(layers)):
        sequences[:, :, layer] = last
        left = left - steps[:, last]
        if layer:
            last = came_from[layer - 1][(numbers, last, *left)].astype(np.int64)
    return sequences


def _one(kind: int, kinds: int) -> tuple[int, ...]:
    """The counts of a single layer of a kind."""
    return tuple(int(other == kind) for other in range(1, kinds))


def _shifted(kind: int, kinds: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """For arrays of shape (models, counts ...): the counts after a layer of a kind was added, and those before."""
    grows = [other == kind for other in range(1, kinds)]
    more = (slice(None), *(slice(1, None) if grown else slice(None) for grown in grows))
    fewer = (slice(None), *(slice(None, -1) if grown else slice(None) for grown in grows))
    return more, fewer
