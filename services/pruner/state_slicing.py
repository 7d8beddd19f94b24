"""SliceGPT (Ashkboos et al. 2024, arXiv 2401.15024): a network whose states are sliced to their principal directions.

RMSNorm doesn't change when its input is rotated. So each block's input may be held in a basis of its own: the block's
weights are rotated, and a matrix on its shortcut leads from its input's basis to the next one's. Where the bases are
the principal directions of what the network computes on some text, the last directions hold little, and are cut off.

No recovery by fine-tuning: the network is as slicing leaves it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from services.pruner.principal_basis import Basis, principal_basis
from services.pruner.sliced_shape import sliced_shape
from shared.errors import UserError
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.decoder import Attention, Decoder, Layer, Linear, Mlp, Projection
from shared.supernet.device import compute_device
from shared.supernet.packing import Packed, pack
from shared.supernet.tree import Tree

ROW_TOKENS = 4096
"""Short sequences go through a layer together, up to so many tokens: what attention and MLP make of them is all that
takes memory besides a layer's weights and the states of all tokens."""

Block = TypeVar("Block", Attention, Mlp)


@torch.no_grad()
def slice_network(base: Checkpoint, calibration: Sequence[Sequence[int]], hidden: int) -> Decoder:
    """The network of which `hidden` numbers of each state are kept, in the checkpoint's dtype.

    `calibration`: sequences of tokens. Each basis is found with all blocks before it sliced already. Sequences go
    through the network together, block by block, in float32; bases are found and weights rotated in float64.

    Raises UserError, before anything is computed, for a network that can't be sliced and for a text that is too short
    or not of this network.
    """
    shape = sliced_shape(base.network, hidden)
    _check_calibration(calibration, base.network.vocab_size, hidden)
    network = base.cut()
    walk = _Walk(network, calibration, hidden)
    embeddings = walk.stored(walk.basis.held(network.embeddings))
    layers = []
    for index, layer in enumerate(network.layers):
        attention, mlp, shortcuts = layer.attention, layer.mlp, {}
        if attention is not None:
            attention, shortcuts["attention_shortcut"] = walk.sliced(index, attention)
        if mlp is not None:
            mlp, shortcuts["mlp_shortcut"] = walk.sliced(index, mlp)
        layers.append(Layer(attention, mlp, **shortcuts))
    return replace(
        network,
        shape=shape,
        embeddings=embeddings,
        layers=tuple(layers),
        norm=walk.ones(),
        head=walk.stored(walk.basis.reading(_folded(network.head, network.norm))),
    )


class _Walk:
    """Calibration text on its way through a network that is sliced behind it.

    `basis` is that of the states where the walk has come to, which are all that it holds of the text.
    """

    basis: Basis

    def __init__(self, network: Decoder, calibration: Sequence[Sequence[int]], hidden: int) -> None:
        self._network, self._hidden = network, hidden
        self._device = compute_device()
        self._rows = _rows(calibration, self._device)
        self._states = [
            F.embedding(row.tokens.cpu(), network.embeddings).to(row.tokens.device).float() for row in self._rows
        ]
        self._turn()

    def sliced(self, index: int, block: Block) -> tuple[Block, Tensor]:
        """A block of the layer `index` and the matrix of its shortcut, both sliced. The walk goes through the block."""
        before, reading = self.basis, self._reading(block)
        # Its outputs are not rotated yet: the next basis is found from them.
        if isinstance(reading, Attention):
            alone = Layer(reading, None, attention_shortcut=before.lifting)
        else:
            alone = Layer(None, reading, mlp_shortcut=before.lifting)
        alone = alone.map(lambda tensor: tensor.to(self._device, torch.float32))
        for number, row in enumerate(self._rows):
            self._states[number] = self._network.layer_outputs(index, alone, self._states[number], row)
        self._turn()
        return self._writing(reading), self.stored(self.basis.writing(before.lifting))

    def stored(self, tensor: Tensor) -> Tensor:
        """A weight as the network's checkpoint holds it."""
        return tensor.to("cpu", self._network.embeddings.dtype).contiguous()

    def ones(self) -> Tensor:
        """The weight of a norm that is folded into what follows."""
        return torch.ones(self._hidden, dtype=self._network.embeddings.dtype)

    def _turn(self) -> None:
        """Go on from whole states (N, hidden size of the network) in the basis that suits them."""
        self.basis = principal_basis(self._states, self._hidden)
        for number, state in enumerate(self._states):
            self._states[number] = self.basis.held(state).float()

    def _reading(self, block: Block) -> Block:
        """A block whose inputs are held in the basis."""

        def read(projection: Projection) -> Linear:
            return Linear(self.stored(self.basis.reading(_folded(projection.weight, block.norm))), projection.bias)

        if isinstance(block, Attention):
            query, key, value = read(block.query), read(block.key), read(block.value)
            return replace(block, norm=self.ones(), query=query, key=key, value=value)
        return replace(block, norm=self.ones(), gate=read(block.gate), up=read(block.up))

    def _writing(self, block: Block) -> Block:
        """A block whose outputs are held in the basis."""

        def write(projection: Projection) -> Linear:
            bias = None if projection.bias is None else self.stored(self.basis.writing(projection.bias))
            return Linear(self.stored(self.basis.writing(projection.weight)), bias)

        if isinstance(block, Attention):
            return replace(block, output=write(block.output))
        return replace(block, down=write(block.down))


def _folded(weight: Tensor, norm: Tensor) -> Tensor:
    """A weight (outputs, hidden) whose inputs' norm has the weight one instead of `norm` (hidden,), in float64."""
    return weight.double() * norm.double()


def _check_calibration(calibration: Sequence[Sequence[int]], vocabulary: int, hidden: int) -> None:
    tokens = sum(map(len, calibration))
    if tokens < hidden:
        raise UserError(
            f"slicegpt: {tokens} calibration tokens can't tell which {hidden} directions matter; give more text"
        )
    for sequence in calibration:
        for token in sequence:
            if not 0 <= token < vocabulary:
                raise UserError(
                    f"slicegpt: token {token} of the calibration text is none of the network's 0 to {vocabulary - 1}; "
                    "use the network's own tokenizer"
                )


def _rows(calibration: Sequence[Sequence[int]], device: torch.device) -> list[Packed]:
    rows: list[list[Tree]] = []
    room = 0
    for sequence in calibration:
        if len(sequence) == 0:
            continue
        if len(sequence) > room:
            rows.append([])
            room = ROW_TOKENS
        rows[-1].append(Tree.plain(sequence))
        room -= len(sequence)
    return [pack(row, device) for row in rows]
