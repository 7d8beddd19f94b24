"""A layer for many tokens on a CPU: its weights in oneDNN's own order, what follows a product done along with it.

oneDNN reorders a plain weight anew for each product. For thousands of tokens it pays to do that once (products are 15 %
faster), at the price of a copy of one layer's weights.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from shared.supernet.decoder import Layer, Linear


@dataclass(frozen=True)
class BlockedLinear:
    """Weight (outputs, inputs) in oneDNN's order and, where the family has one, bias (outputs,)."""

    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, linear: Linear) -> "BlockedLinear":
        """Reorder a weight, which may be a view."""
        return cls(torch.ops.mkldnn._reorder_linear_weight(linear.weight.contiguous()), linear.bias)

    def __call__(self, inputs: Tensor) -> Tensor:
        return self._product(inputs, "none")

    def silu(self, inputs: Tensor) -> Tensor:
        """SiLU of the outputs."""
        return self._product(inputs, "swish")

    def plus(self, inputs: Tensor, other: Tensor) -> Tensor:
        """The outputs plus another tensor of their shape."""
        return self._with(inputs, other, "add")

    def times(self, inputs: Tensor, other: Tensor) -> Tensor:
        """The outputs times another tensor of their shape."""
        return self._with(inputs, other, "mul")

    def map(self, change: Callable[[Tensor], Tensor]) -> "BlockedLinear":
        raise TypeError("weights in oneDNN's order stay as they are")

    def _product(self, inputs: Tensor, then: str) -> Tensor:
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, self.weight, self.bias, then, [], "")
        return outputs

    def _with(self, inputs: Tensor, other: Tensor, then: str) -> Tensor:
        outputs: Tensor = torch.ops.mkldnn._linear_pointwise.binary(inputs, other, self.weight, self.bias, then)
        return outputs


@dataclass(frozen=True)
class BlockedLayer(Layer):
    """A layer whose projections are all `BlockedLinear`."""

    query: BlockedLinear
    key: BlockedLinear
    value: BlockedLinear
    output: BlockedLinear
    gate: BlockedLinear
    up: BlockedLinear
    down: BlockedLinear

    def neurons(self, inputs: Tensor) -> Tensor:
        return self.up.times(inputs, self.gate.silu(inputs))

    def after_attention(self, state: Tensor, attended: Tensor) -> Tensor:
        return self.output.plus(attended, state)

    def after_mlp(self, state: Tensor, neurons: Tensor) -> Tensor:
        return self.down.plus(neurons, state)


def blocked(layer: Layer) -> Layer:
    """The layer made ready for many tokens, where that is possible: with plain bfloat16 weights, not being trained, on
    a CPU that multiplies them natively. Otherwise the layer itself."""
    values = {field.name: getattr(layer, field.name) for field in fields(Layer)}
    linears = {name: value for name, value in values.items() if isinstance(value, Linear)}
    if len(linears) < 7 or not all(_multiplied_by_onednn(linear.weight) for linear in linears.values()):
        return layer
    return BlockedLayer(**(values | {name: BlockedLinear.of(linear) for name, linear in linears.items()}))


def _multiplied_by_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.bfloat16
        and not weight.requires_grad  # oneDNN's operations know no gradients and lose them without a word
        and bool(torch._C._has_mkldnn)
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
