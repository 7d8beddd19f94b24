"""An architecture: which layers of the super-network are kept, and how wide each one's MLP is."""

from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.digest import digest_json


class Architecture(BaseModel):
    """A sub-network as data: canonical, hashable, the same JSON wherever it is written.

    `layers` holds the kept layers' indices in the super-network, ascending from 0; `mlp_widths` the number of MLP
    neurons of each kept layer, always the first ones in the super-network's order. Layers that are dropped leave no
    trace, so equal networks are equal objects with equal digests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1, strict=False)]
    mlp_widths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False)]

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
        return digest_json(self.model_dump(mode="json"))

    @property
    def depth(self) -> int:
        """Number of kept layers."""
        return len(self.layers)
