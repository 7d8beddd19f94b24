"""Networks that agree in their first layers, as a tree: each layer is computed once for all that agree up to it.

A layer that networks share is the same object in all of them (`Checkpoint.cut_together`). It is run on the same tensors
as in each network alone, so that states are the same to the last bit. A network's last layer is computed only at places
where states are wanted: where others go on after it, it is another layer for these.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from shared.supernet.decoder import Decoder, Layer, Rotations, Sequences


@dataclass(frozen=True)
class LayerTree:
    """What follows the embeddings, or some layer, in networks that are the same so far.

    Attributes:
        ends: the networks, by number, that end here.
        branches: each layer that follows in some of the others, with what follows it there, which may be nothing: then
            it is their last.
        layers: how many layers are computed.
        held: states that are kept at most at places where networks part, while what follows there is computed. That
            which keeps most itself comes last and need not be kept for, as registers are allocated by Ershov's numbers:
            hence at most the binary logarithm of the number of networks.
    """

    ends: tuple[int, ...]
    branches: tuple[tuple[Layer, "LayerTree"], ...]
    layers: int
    held: int

    @classmethod
    def of(cls, networks: Sequence[Decoder]) -> "LayerTree":
        """The tree of some networks, numbered in their order."""
        return cls._of({number: network.layers for number, network in enumerate(networks)}, 0)

    @classmethod
    def _of(cls, networks: Mapping[int, Sequence[Layer]], depth: int) -> "LayerTree":
        ends = tuple(number for number, layers in networks.items() if len(layers) == depth)
        following: dict[tuple[int, bool], dict[int, Sequence[Layer]]] = {}
        for number, layers in networks.items():
            if len(layers) > depth:
                following.setdefault((id(layers[depth]), len(layers) == depth + 1), {})[number] = layers
        branches = sorted(
            ((next(iter(some.values()))[depth], cls._of(some, depth + 1)) for some in following.values()),
            key=lambda branch: branch[1].held,
        )
        return cls(
            ends=ends,
            branches=tuple(branches),
            layers=sum(1 + below.layers for _, below in branches),
            held=max(
                (below.held + (number < len(branches)) for number, (_, below) in enumerate(branches, start=1)),
                default=0,
            ),
        )


def hidden_in_each(
    networks: Sequence[Decoder], batches: Iterable[tuple[Sequences, Tensor]], prepare: Callable[[Layer], Layer]
) -> Iterator[tuple[int, int, Tensor]]:
    """`Decoder.hidden` of each network for each of some batches, at those places of the batch (P,) that stand beside
    it: the number of the network, that of the batch, and its states (P, hidden). Of a network all batches come one
    after another; the order of the networks is that in which they are done.

    The batches go through together, layer by layer: each layer is prepared once for all of them, and the keys and
    values of a prefix are there for the batches after it. Raises ValueError for networks that don't share what is
    outside their layers.
    """
    first = networks[0]
    for other in networks[1:]:
        if any(getattr(first, part) is not getattr(other, part) for part in ("embeddings", "norm", "head")):
            raise ValueError("networks share layers only if they are cut from one checkpoint: embeddings differ")
    # Which rotary embeddings a network has depends on its layers.
    common = replace(first, rotaries={key: rotary for one in networks for key, rotary in one.rotaries.items()})
    return _Pass(common, list(batches), prepare).states_in(LayerTree.of(networks))


class _Pass:
    """Batches that go through the networks of a tree, of which `network` has what isn't layers."""

    def __init__(
        self, network: Decoder, batches: Sequence[tuple[Sequences, Tensor]], prepare: Callable[[Layer], Layer]
    ) -> None:
        self._network, self._batches, self._prepare = network, batches, prepare
        dtype = network.embeddings.dtype
        self._rotations: list[Rotations] = [network.rotations(batch.positions, dtype) for batch, _ in batches]

    def states_in(self, tree: LayerTree) -> Iterator[tuple[int, int, Tensor]]:
        return self._after(tree, 0, [self._network.embedded(batch.tokens) for batch, _ in self._batches])

    def _after(self, tree: LayerTree, depth: int, states: list[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
        """What the networks of a part of the tree make of the states before it, which are used up."""
        while True:
            for network in tree.ends:
                for number, (_, places) in enumerate(self._batches):
                    # Some layer has been the last one, unless there was none.
                    state = states[number] if depth else states[number][places]
                    yield network, number, self._network.outputs(state)
            if not tree.branches:
                return
            *kept_for, (last, following) = tree.branches
            for layer, below in kept_for:
                yield from self._after(below, depth + 1, self._through(layer, depth, below, states, list(states)))
            self._through(last, depth, following, states, states)
            tree, depth = following, depth + 1

    def _through(
        self, layer: Layer, depth: int, below: LayerTree, states: Sequence[Tensor], after: list[Tensor]
    ) -> list[Tensor]:
        """The states after a layer, `below` which is what follows; they are put into `after`, which may be those before
        it: then these are let go one by one."""
        prepared = self._prepare(layer)
        for number, (batch, places) in enumerate(self._batches):
            state, rotations = states[number], self._rotations[number]
            wanted = None if below.branches else places
            after[number], _ = self._network.through(depth, prepared, state, rotations, batch, wanted)
        return after
