"""An architecture: which layers of the super-network are kept, how wide each one's MLP is, and whether in INT8."""

from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.digest import digest_json

Quantization = Literal["none", "int8"]
"""How the weights of the decoder layers' linear layers are held: as they are, or as LLM.int8() (arXiv 2208.07339)."""

MOST = 2**31 - 1
"""Of an index or a width: far more than any network has."""


class Architecture(BaseModel):
    """A sub-network as data: canonical, hashable, the same JSON wherever it is written.

    `layers` holds the kept layers' indices in the super-network, ascending from 0; `mlp_widths` the number of MLP
    neurons of each kept layer, always the first ones in the super-network's order. Layers that are dropped leave no
    trace, so equal networks are equal objects with equal digests. `quantization` holds for all layers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layers: Annotated[tuple[Annotated[int, Field(ge=0, le=MOST)], ...], Field(min_length=1, strict=False)]
    mlp_widths: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST)], ...], Field(strict=False)]
    quantization: Quantization = "none"

    @model_validator(mode="after")
    def _canonical(self) -> Self:
        if any(below >= above for below, above in zip(self.layers, self.layers[1:], strict=False)):
            raise ValueError("layers must be strictly ascending")
        if len(self.layers) != len(self.mlp_widths):
            raise ValueError(f"{len(self.layers)} layers but {len(self.mlp_widths)} mlp_widths")
        return self

    @cached_property
    def digest(self) -> str:
        """Identity of the network: equal networks have equal digests."""
        return digest_json(self.model_dump(mode="json", exclude_defaults=True))

    @property
    def depth(self) -> int:
        """Number of kept layers."""
        return len(self.layers)

    def quantized(self, quantization: Quantization) -> "Architecture":
        """The same layers and widths, quantised or not."""
        return Architecture(layers=self.layers, mlp_widths=self.mlp_widths, quantization=quantization)
