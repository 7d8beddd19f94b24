"""A layer for many tokens on a CPU: its weights in oneDNN's own order, what follows a product done along with it.

oneDNN reorders a plain weight anew for each product. For thousands of tokens it pays to do that once (products are 15 %
faster), at the price of a copy of one layer's weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.network.shape import Activation
from shared.supernet.decoder import Layer, Linear, Projection

FUSED: Mapping[Activation, tuple[str, str]] = {"silu": ("swish", ""), "gelu_tanh": ("gelu", "tanh")}
"""What oneDNN calls the activations, and their variants."""


@dataclass(frozen=True)
class BlockedLinear(Projection):
    """Weight (outputs, inputs) in oneDNN's order and, where the family has one, bias (outputs,)."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, linear: Projection) -> "BlockedLinear":
        """Reorder a weight, which may be a view."""
        return cls(torch.ops.mkldnn._reorder_linear_weight(linear.weight.contiguous()), linear.bias)

    def __call__(self, inputs: Tensor) -> Tensor:
        return self._product(inputs, "none", "")

    def activated(self, inputs: Tensor, activation: Activation) -> Tensor:
        return self._product(inputs, *FUSED[activation])

    def plus(self, inputs: Tensor, other: Tensor) -> Tensor:
        return self._with(inputs, other, "add")

    def times(self, inputs: Tensor, other: Tensor) -> Tensor:
        return self._with(inputs, other, "mul")

    def map(self, change: Callable[[Tensor], Tensor]) -> "BlockedLinear":
        raise TypeError("weights in oneDNN's order stay as they are")

    def _product(self, inputs: Tensor, then: str, variant: str) -> Tensor:
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, then, [], variant)
        return outputs

    def _with(self, inputs: Tensor, other: Tensor, then: str) -> Tensor:
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs, other, self.weight, self.bias, then)
        return outputs


def blocked(layer: Layer) -> Layer:
    """The layer made ready for many tokens, where that is possible: with plain bfloat16 weights, not being trained, on
    a CPU that multiplies them natively. Otherwise the layer itself."""
    if not all(isinstance(one, Linear) and _multiplied_by_onednn(one.weight) for one in layer.projections):
        return layer
    return layer.projected(BlockedLinear.of)


def _multiplied_by_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and not weight.requires_grad  # oneDNN's operations know no gradients and lose them without a word
        and bool(torch._C._has_mkldnn)
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
