"""INT8 as vLLM serves it (W8A8, in the layout of compressed-tensors) on the linear layers of a decoder's layers.

Another quantisation than LLM.int8(): each row of a weight has a scale, each token's inputs have one as they come, both
symmetric, and no column is spared. A network that is exported so is measured so, with the numbers that are written.

Inputs are rounded as vLLM rounds them, whose export this is: it divides a token's largest magnitude by 127, rounds ties
to even, and needs no -128. All of its kernels do (0.32: csrc/libtorch_stable/quantization/w8a8/int8/scaled_quant.cu on
GPUs, csrc/cpu/dnnl_kernels.cpp on CPUs, csrc/cpu/sgl-kernels/vec.h on those with AMX), and the second one's numbers are
compared with ours in tests/vllm. transformers, by compressed-tensors, divides by 127.5, half of the range from -128 to
127, so that an item may be answered otherwise there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.supernet.decoder import Decoder, Projection

LARGEST = 127
"""The scale is the largest magnitude divided by this."""


def quantized_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight (outputs, inputs) in INT8, and its rows' scales (outputs, 1) in the weight's own dtype: they are rounded
    to it before they are used, so that whoever reads them as what they are has the numbers that were meant."""
    single = weight.float()
    scales = (single.abs().amax(-1, keepdim=True) / LARGEST).to(weight.dtype)
    scales = torch.where(scales == 0, torch.ones_like(scales), scales)
    return (single / scales.float()).round_().clamp_(-LARGEST, LARGEST).to(torch.int8), scales


def rounded_inputs(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (T, inputs) as whole numbers from -127 to 127, and each token's scale (T, 1), both in float32."""
    single = inputs.float()
    scales = single.abs().amax(-1, keepdim=True) / LARGEST
    return (single / torch.where(scales == 0, torch.ones_like(scales), scales)).round_(), scales


@dataclass(frozen=True)
class W8A8Linear(Projection):
    """INT8 weight (outputs, inputs), its rows' scales (outputs, 1), and where the family has one, bias (outputs,)."""

    weight: Tensor
    scales: Tensor
    bias: Tensor | None = None

    @classmethod
    def quantized(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """Quantise a weight, which may be a view."""
        return cls(*quantized_rows(weight), bias)

    def __call__(self, inputs: Tensor) -> Tensor:
        rows, scales = rounded_inputs(inputs)
        outputs = F.linear(rows, self.weight.float()) * scales * self.scales.float().t()
        return (outputs if self.bias is None else outputs + self.bias.float()).to(inputs.dtype)

    def map(self, change: Callable[[Tensor], Tensor]) -> "W8A8Linear":
        """The same layer where the change takes it. Of its numbers only the bias is converted: weights and scales are
        those that are written."""
        bias = None if self.bias is None else change(self.bias)
        device = change(self.scales).device
        return replace(self, weight=self.weight.to(device), scales=self.scales.to(device), bias=bias)


def as_w8a8(network: Decoder) -> Decoder:
    """A network with its layers' linear layers in W8A8; all else is the given one's, not copied."""
    layers = (
        layer.projected(lambda linear: W8A8Linear.quantized(linear.weight, linear.bias)) for layer in network.layers
    )
    return replace(network, layers=tuple(layers))
