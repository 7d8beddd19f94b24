"""What networks cost: the objectives that are traded against accuracy. All are computed, none is predicted."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from services.coordinator.genomes import Encoding, FloatArray, IntArray
from shared.architecture import Architecture, Quantization, dense
from shared.messages import CostTable, Dtype, Workload
from shared.network.shape import LayerShape, NetworkShape
from shared.network.sizes import WEIGHT_BYTES, layer_bytes, layer_cache_bytes, layer_parameters, outer_parameters
from shared.settings import TIMES, Objective
from shared.space import QUANTIZATIONS, SearchSpace

PartCosts = tuple[float, list[float]]
"""The cost of what is outside the layers, and of one layer of each kind."""


class LayerKind(NamedTuple):
    """All that a layer's costs depend on: the neurons of its MLP, whether it has attention, and the bytes of its KV
    cache for the served batch; 0 where these are no objective."""

    mlp_width: int
    attention: bool = True
    cache_bytes: int = 0


class CostModel:
    """The costs of the networks of a space and of the dense one, in the order of `objectives`.

    Each cost is a sum over the network's parts: what is outside the layers, and each layer by its kind; all depend on
    the quantization. Networks with as many layers of each kind have exactly equal costs, whichever the layers are.
    Parameters and bytes are whole numbers. The KV cache is that of the batch of the `load` at its longest. Seconds come
    from `tables`, a table for each quantization, which hold the widths of the space and the dense one; the costs of
    other layers can't be asked for.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        dtype: Dtype,
        tables: Sequence[CostTable] = (),
        load: Workload | None = None,
    ) -> None:
        self.space = space
        if "kv_cache_bytes" in objectives and load is None:
            raise ValueError("how large a KV cache is depends on the load")
        cached = load if "kv_cache_bytes" in objectives else None
        self._cache_bytes = [_cache_bytes(layer, dtype, cached) for layer in space.network.layers]
        self._encoding = Encoding(space)
        measured = {table.quantization: table for table in tables}
        timed = any(objective in TIMES for objective in objectives)
        self._quantizations = [one for one in QUANTIZATIONS if one in measured or not timed]
        chosen = [
            self._kind(layer, width, choice == "keep")
            for layer in range(space.network.depth)
            for choice in space.attentions
            for width in space.mlp_widths
        ]
        self.kinds = list(dict.fromkeys((*chosen, *self._layers(dense(space.network)))))
        """The space's kinds of layers in the order of its choices, then the dense network's."""
        of_layers = [self.kinds.index(kind) for kind in chosen]
        self._kinds = np.array(of_layers).reshape(-1, len(space.attentions), len(space.mlp_widths))
        parts = [
            [
                _seconds(measured[quantization], objective, self.kinds)
                if objective in TIMES
                else _size(space.network, objective, dtype, quantization, self.kinds)
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

    @property
    def same_everywhere(self) -> bool:
        """Whether a layer's costs depend on its genes alone, wherever it is."""
        return len(set(self._cache_bytes)) == 1

    def of(self, architecture: Architecture) -> tuple[float, ...]:
        """The costs of one network. Raises ValueError for a layer or quantization that the model doesn't know."""
        counts = np.zeros((1, len(self.kinds)), dtype=np.int64)
        for layer in self._layers(architecture):
            counts[0, self.kinds.index(layer)] += 1
        quantization = np.array([self._quantizations.index(architecture.quantization)])
        return tuple(self._sum(quantization, counts)[0].tolist())

    def of_genomes(self, genomes: IntArray) -> FloatArray:
        """The costs of each network, shape (networks, objectives); to the last bit those that `of` says."""
        choices = np.array([self._quantizations.index(one) for one in self.space.quantizations])
        quantizations = choices[genomes[:, self.space.place("quantization")]]
        return self._sum(quantizations, self.layers_of_kind(genomes))

    def layers_of_kind(self, genomes: IntArray) -> IntArray:
        """How many layers of each network are of each of `kinds`, shape (networks, kinds)."""
        places, skips = self.space.places("mlp_width"), self.space.places("attention")
        kept = self._encoding.kept(genomes)
        attentions = genomes[:, skips] if skips else np.zeros_like(kept, np.int64)
        kinds = self._kinds[np.arange(len(places)), attentions, genomes[:, places]]
        counts = [(kept & (kinds == kind)).sum(axis=1) for kind in range(len(self.kinds))]
        return np.stack(counts, axis=1)

    def _layers(self, architecture: Architecture) -> list[LayerKind]:
        return [self._kind(*layer) for layer in architecture.layer_choices]

    def _kind(self, layer: int, mlp_width: int, attention: bool) -> LayerKind:
        return LayerKind(mlp_width, attention, self._cache_bytes[layer] if attention else 0)

    def _sum(self, quantizations: IntArray, counts: IntArray) -> FloatArray:
        """Costs (networks, objectives) from a quantization each, shape (networks,), and the layers of each kind."""
        total: FloatArray = self._fixed[quantizations]
        for index in range(len(self.kinds)):  # not a matrix product, which may round differently in other batches
            total = total + counts[:, index, None] * self._layer[quantizations, :, index]
        return total


def _cache_bytes(layer: LayerShape, dtype: Dtype, load: Workload | None) -> int:
    """Of the batch of a load, if there is one, at its longest."""
    return 0 if load is None else load.batch * layer_cache_bytes(layer, dtype, load.longest)


def _size(
    network: NetworkShape, objective: Objective, dtype: Dtype, quantization: Quantization, kinds: Sequence[LayerKind]
) -> PartCosts:
    if objective == "kv_cache_bytes":
        return 0, [kind.cache_bytes for kind in kinds]
    layers = [_layer(network.layers[0], kind) for kind in kinds]
    outside = outer_parameters(network)
    if objective == "parameters":
        return outside, [layer_parameters(network.family, layer) for layer in layers]
    return WEIGHT_BYTES[dtype] * outside, [layer_bytes(network.family, layer, dtype, quantization) for layer in layers]


def _layer(like: LayerShape, kind: LayerKind) -> LayerShape:
    """A layer of a kind; all of the space's are like one another in the rest."""
    mlp = replace(like.mlp, width=kind.mlp_width) if like.mlp and kind.mlp_width else None
    return replace(like, attention=like.attention if kind.attention else None, mlp=mlp)


def _seconds(table: CostTable, objective: Objective, kinds: Sequence[LayerKind]) -> PartCosts:
    phase = table.prefill if objective == "prefill_seconds" else table.decode
    return phase.fixed, [kind.attention * phase.attention + phase.mlp[kind.mlp_width] for kind in kinds]
