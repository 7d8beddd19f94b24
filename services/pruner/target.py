"""How large a network may become: true sizes, in parameters or bytes."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.architecture import Quantization
from shared.messages import Dtype
from shared.network import sizes
from shared.network.shape import LayerShape, NetworkShape


class ParameterTarget(BaseModel):
    """At most so many parameters, tied embeddings counted once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: Literal["parameters"] = "parameters"
    at_most: Annotated[int, Field(ge=1)]

    def size(self, network: NetworkShape) -> int:
        """A network's parameters."""
        return sizes.parameters(network)

    def layer_size(self, family: str, layer: LayerShape) -> int:
        """A layer's parameters."""
        return sizes.layer_parameters(family, layer)


class ByteTarget(BaseModel):
    """At most so many bytes of weights, held in `dtype` and quantised or not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: Literal["bytes"] = "bytes"
    at_most: Annotated[int, Field(ge=1)]
    dtype: Dtype
    quantization: Quantization = "none"

    def size(self, network: NetworkShape) -> int:
        """The memory of a network's weights."""
        return sizes.weight_bytes(network, self.dtype, self.quantization)

    def layer_size(self, family: str, layer: LayerShape) -> int:
        """The memory of a layer's weights."""
        return sizes.layer_bytes(family, layer, self.dtype, self.quantization)


Target = Annotated[ParameterTarget | ByteTarget, Field(discriminator="measure")]


def fits(network: NetworkShape, target: Target) -> bool:
    """Whether a network doesn't exceed the target."""
    return target.size(network) <= target.at_most
