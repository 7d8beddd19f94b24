"""An architecture: which layers of the super-network are kept, how wide each one's MLP is, which of them lack their
attention, and whether in INT8."""

from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.digest import digest_json
from shared.errors import UserError
from shared.network.shape import LayerShape, NetworkShape
from shared.text import shown

Quantization = Literal["none", "int8"]
"""How the weights of the decoder layers' linear layers are held: as they are, or as LLM.int8() (arXiv 2208.07339)."""

AttentionChoice = Literal["keep", "skip"]
"""Of a layer: whether it has its attention, or is its MLP alone, with its norm and its residual."""

MOST = 2**31 - 1
"""Of an index or a width: far more than any network has."""


class Architecture(BaseModel):
    """A sub-network as data: canonical, hashable, the same JSON wherever it is written.

    `layers` holds the kept layers' indices in the super-network, ascending from 0; `mlp_widths` the number of MLP
    neurons of each kept layer, always the first ones in the super-network's order; 0 for a layer without an MLP. Layers
    that are dropped leave no trace, so equal networks are equal objects with equal digests. `quantization` holds for
    all layers. `without_attention` holds the indices in the super-network of those kept layers that are their MLP
    alone; it isn't written where there is none, as earlier releases don't know it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layers: Annotated[tuple[Annotated[int, Field(ge=0, le=MOST)], ...], Field(min_length=1, strict=False)]
    mlp_widths: Annotated[tuple[Annotated[int, Field(ge=0, le=MOST)], ...], Field(strict=False)]
    quantization: Quantization = "none"
    without_attention: Annotated[
        tuple[Annotated[int, Field(ge=0, le=MOST)], ...],
        Field(strict=False, exclude_if=lambda layers: not layers),
    ] = ()

    @model_validator(mode="after")
    def _canonical(self) -> Self:
        for name, layers in (("layers", self.layers), ("without_attention", self.without_attention)):
            if any(below >= above for below, above in pairwise(layers)):
                raise ValueError(f"{name} must be strictly ascending")
        if len(self.layers) != len(self.mlp_widths):
            raise ValueError(f"{len(self.layers)} layers but {len(self.mlp_widths)} mlp_widths")
        for layer, width, attention in self.layer_choices:
            if not width and not attention:
                raise ValueError(f"layer {layer} has neither attention nor MLP; leave it out of layers")
        for layer in self.without_attention:
            if layer not in self.layers:
                raise ValueError(f"without_attention names layer {layer}, which is none of layers")
        return self

    @cached_property
    def digest(self) -> str:
        """Identity of the network: equal networks have equal digests."""
        return digest_json(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def depth(self) -> int:
        """Number of kept layers."""
        return len(self.layers)

    @property
    def layer_choices(self) -> tuple[tuple[int, int, bool], ...]:
        """Each kept layer's index, with all that is chosen of the layer: where networks of one quantization agree in
        these, they have the same layers."""
        return tuple(zip(self.layers, self.mlp_widths, self.attentions, strict=True))

    @property
    def attentions(self) -> tuple[bool, ...]:
        """Whether each kept layer has its attention."""
        return tuple(layer not in self.without_attention for layer in self.layers)

    def quantized(self, quantization: Quantization) -> Self:
        """The same layers, quantised or not."""
        return self.model_validate({**self.model_dump(), "quantization": quantization})


def dense(network: NetworkShape) -> Architecture:
    """The whole network: every layer, every neuron."""
    return Architecture(layers=tuple(range(network.depth)), mlp_widths=network.mlp_widths)


def derive(network: NetworkShape, architecture: Architecture) -> NetworkShape:
    """The network that an architecture makes of another one. What an architecture doesn't speak of stays as it is.

    Raises UserError if it can't be cut out of it.
    """
    if architecture.layers[-1] >= network.depth:
        raise UserError(
            f"layers: {shown(architecture.layers[-1])} is asked for, but the model has layers 0 to {network.depth - 1}"
        )
    for index in set(range(network.depth)).difference(architecture.layers):
        if not network.layers[index].keeps_state:
            raise UserError(f"layers: {index} can't be left out, as it changes the basis of what it hands on")
    layers = tuple(_derived(network.layers[layer[0]], *layer) for layer in architecture.layer_choices)
    return replace(network, layers=layers)


def _derived(whole: LayerShape, index: int, width: int, attention: bool) -> LayerShape:
    layer = _narrowed(whole, width)
    if attention:
        return layer
    if layer.attention is None:
        raise UserError(f"without_attention: layer {index} of the model has no attention; leave it out")
    if layer.attention_shortcut is not None:
        raise UserError(f"without_attention: layer {index} needs its attention, which changes the basis of its state")
    return replace(layer, attention=None)


def _narrowed(layer: LayerShape, width: int) -> LayerShape:
    if width > layer.mlp_width:
        raise UserError(f"mlp_widths: {shown(width)} is above the model's {layer.mlp_width} neurons")
    if width == layer.mlp_width or layer.mlp is None:
        return layer
    return replace(layer, mlp=replace(layer.mlp, width=width) if width else None)
