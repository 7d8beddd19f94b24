"""What networks cost: the objectives that are traded against accuracy. All are computed, none is predicted."""

from collections.abc import Sequence

import numpy as np

from services.coordinator.genomes import Encoding, FloatArray, IntArray
from shared.architecture import Architecture, Quantization, dense, derive
from shared.messages import CostTable, Dtype
from shared.network.shape import NetworkShape
from shared.network.sizes import WEIGHT_BYTES, layer_bytes, layer_parameters, outer_parameters
from shared.settings import TIMES, Objective
from shared.space import QUANTIZATIONS, SearchSpace

Parts = tuple[float, list[float]]
"""What is outside the layers, and one layer of each width."""


class CostModel:
    """The costs of the networks of a space and of the dense one, in the order of `objectives`.

    Each cost is a sum over the network's parts: what is outside the layers, and each layer by its width; all depend on
    the quantization. Networks with as many layers of each width have exactly equal costs, whichever the layers are.
    Parameters and bytes are whole numbers. Seconds come from `tables`, a table for each quantization, which hold the
    widths of the space and the dense one; only what they hold can be asked.
    """

    def __init__(
        self, space: SearchSpace, objectives: Sequence[Objective], dtype: Dtype, tables: Sequence[CostTable] = ()
    ) -> None:
        self.space = space
        self._encoding = Encoding(space)
        measured = {table.quantization: table for table in tables}
        timed = any(objective in TIMES for objective in objectives)
        self._quantizations = [one for one in QUANTIZATIONS if one in measured or not timed]
        self._widths = list(dict.fromkeys((*space.mlp_widths, *space.network.mlp_widths)))
        parts = [
            [
                _seconds(measured[quantization], objective, self._widths)
                if objective in TIMES
                else _size(space.network, objective, dtype, quantization, self._widths)
                for objective in objectives
            ]
            for quantization in self._quantizations
        ]
        self._fixed = np.array([[fixed for fixed, _ in row] for row in parts], dtype=np.float64)
        self._layer = np.array([[layer for _, layer in row] for row in parts], dtype=np.float64)

    @property
    def dense(self) -> tuple[float, ...]:
        """The costs of the dense network, unquantised: the units in which costs are compared."""
        return self.of(dense(self.space.network))

    def of(self, architecture: Architecture) -> tuple[float, ...]:
        """The costs of one network. Raises ValueError for a width or quantization that the model doesn't know."""
        counts = np.zeros((1, len(self._widths)), dtype=np.int64)
        for width in architecture.mlp_widths:
            counts[0, self._widths.index(width)] += 1
        quantization = np.array([self._quantizations.index(architecture.quantization)])
        return tuple(self._sum(quantization, counts)[0].tolist())

    def of_genomes(self, genomes: IntArray) -> FloatArray:
        """The costs of each network, shape (networks, objectives); to the last bit those that `of` says."""
        counts = np.zeros((len(genomes), len(self._widths)), dtype=np.int64)
        counts[:, : len(self.space.mlp_widths)] = self._encoding.layers_of_width(genomes)
        choices = np.array([self._quantizations.index(one) for one in self.space.quantizations])
        return self._sum(choices[genomes[:, -1]], counts)

    def _sum(self, quantizations: IntArray, counts: IntArray) -> FloatArray:
        """Costs (networks, objectives) from a quantization each, shape (networks,), and the layers of each width."""
        total: FloatArray = self._fixed[quantizations]
        for index in range(len(self._widths)):  # not a matrix product, which may round otherwise for other batches
            total = total + counts[:, index, None] * self._layer[quantizations, :, index]
        return total


def _size(
    network: NetworkShape, objective: Objective, dtype: Dtype, quantization: Quantization, widths: Sequence[int]
) -> Parts:
    one = dense(network).model_copy(update={"layers": (0,)})
    layers = [derive(network, one.model_copy(update={"mlp_widths": (width,)})).layers[0] for width in widths]
    outside = outer_parameters(network)
    if objective == "parameters":
        return outside, [layer_parameters(network.family, layer) for layer in layers]
    return WEIGHT_BYTES[dtype] * outside, [layer_bytes(network.family, layer, dtype, quantization) for layer in layers]


def _seconds(table: CostTable, objective: Objective, widths: Sequence[int]) -> Parts:
    phase = table.prefill if objective == "prefill_seconds" else table.decode
    return phase.fixed, [phase.attention + phase.mlp[width] for width in widths]
