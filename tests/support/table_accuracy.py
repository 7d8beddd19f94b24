"""The measured networks of a table, as a search finds them: it reads half of the items, the other half says what is
true."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from services.coordinator.genomes import BoolArray, FloatArray, IntArray
from services.coordinator.pareto import non_dominated
from shared.errors import UserError
from shared.network.config import network_of
from shared.space import Gene, SearchSpace
from tests.support.known_accuracy import KnownAccuracy
from tests.support.network_table import NetworkTable
from tests.support.spaces import EXAMPLE

FEWEST = 64
"""Networks from which a table is one to search in."""
CORNER = 1.001
"""The largest limit to the parameters, in those of the largest network; as in `tests.support.synthetic`."""


@dataclass(frozen=True)
class _SpaceWithWholeLayers(SearchSpace):
    """A space in which the widths of some layers aren't chosen: these are whole."""

    whole: tuple[int, ...] = field(default=())

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Those of the whole layers have one choice."""
        return tuple(replace(gene, choices=1) if gene.layer in self.whole else gene for gene in super().genes)


class TableAccuracy(KnownAccuracy):
    """Accuracies by a table: a random half of its items may be read, or the first `items` of it, and what is true is
    the accuracy on the other half.

    The space has the layers that vary, which are shaped as the example's: those that every network has, each of two
    widths, and the one that half of them lack, always whole. Of a table that isn't measured to its end, it has the last
    layers of which all networks are measured, of the greater depth. What all networks have besides costs the same, and
    so is left out.
    """

    def __init__(self, table: NetworkTable, seed: int, items: int | None, slices: int = 1) -> None:
        measured, whole = len(table.correct), max(table.space.mlp_widths)
        elastic = table.space.elastic[-min(len(table.space.elastic), measured.bit_length() - 1) :]
        if measured < FEWEST:
            raise UserError(f"the table has only {measured} networks; `make bench-table` measures the others")
        left_out = table.space.drop_order[: int(measured >= table.space.size)]
        layers = sorted((*elastic, *left_out))
        dropped = tuple(layers.index(layer) for layer in left_out)
        network = network_of({**EXAMPLE, "num_hidden_layers": len(layers), "intermediate_size": whole})
        depths = tuple({len(layers), len(elastic)})
        super().__init__(
            _SpaceWithWholeLayers(network, depths, (whole, table.space.narrow), dropped, whole=dropped), items, slices
        )
        order = np.random.default_rng(seed).permutation(table.correct.shape[1])
        self._searched, self._true = np.split(order, [len(order) // 2])
        if items is not None and items > len(self._searched):
            raise UserError(f"{items} items: a search may read {len(self._searched)} of the table's {len(order)}")
        self._table = table
        widths = self.space.places("mlp_width")
        self._elastic = [widths[place] for place in range(len(layers)) if place not in dropped]

    @staticmethod
    def most_items(table: NetworkTable) -> int:
        """Those that a search may read."""
        return len(table.correct[0]) // 2

    def rows(self, genomes: IntArray) -> IntArray:
        """The networks' rows in the table, shape (networks,)."""
        place = genomes[:, self.space.place("depth")]
        bits = 1 << np.arange(len(self._elastic))[::-1]
        rows: IntArray = (place << len(bits)) + genomes[:, self._elastic] @ bits
        return rows

    def exact(self, genomes: IntArray) -> FloatArray:
        accuracies: FloatArray = self._table.correct[np.ix_(self.rows(genomes), self._true)].mean(axis=1)
        return accuracies

    def answers(self, genomes: IntArray) -> tuple[BoolArray, FloatArray]:
        read = np.ix_(self.rows(genomes), self._searched[: self.items])
        return self._table.correct[read], self._table.soft[read]

    def share(self, costs: FloatArray, chosen_by: FloatArray, exact: FloatArray) -> float:
        """Of what all networks give that are measured on all items that may be read: see `_taken`. More is possible,
        as these are chosen by what was measured, luck included."""
        return self._taken(costs, chosen_by, exact) / self._whole

    def _taken(self, costs: FloatArray, chosen_by: FloatArray, exact: FloatArray) -> float:
        """By how much what one would take within a limit to the parameters is better than the smallest network,
        averaged over limits, times their range. It is no hypervolume of what is true: that would gain by every network
        which is lucky on the items that say so."""
        chosen = non_dominated(costs, chosen_by)
        limits = np.append(costs[chosen, 0], self._dearest)
        return float(np.diff(limits) @ (exact[chosen] - self._floor))

    @cached_property
    def _dearest(self) -> float:
        return CORNER * max(self.costs.of(self.space.largest()))

    @cached_property
    def _floor(self) -> float:
        return float(self.exact(self._encoding.encode([self.space.smallest()]))[0])

    @cached_property
    def _whole(self) -> float:
        every = self._encoding.all_genomes()
        measured = self._table.correct[np.ix_(self.rows(every), self._searched)].mean(axis=1)
        return self._taken(self.costs.of_genomes(every), measured, self.exact(every))
