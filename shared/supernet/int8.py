"""LLM.int8() on the linear layers of a decoder's layers (Dettmers et al. 2022, arXiv 2208.07339), by bitsandbytes.

The same arithmetic as bitsandbytes' `Linear8bitLt` at inference. A weight is held in INT8 with a scale for each of its
rows. Inputs are quantised as they come, with a scale for each token; columns of the inputs in which some token has an
outlier are multiplied in the inputs' own dtype instead. Which columns those are depends on all tokens that are read
together, so a token's outputs depend a little on its company.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from bitsandbytes.functional import int8_vectorwise_quant
from torch import Tensor

from shared.supernet.decoder import Layer, Projection

OUTLIER = 6.0
"""Inputs of at least this magnitude are not quantised: the paper's threshold."""

CPU_ROWS = 256
"""Rows that a CPU quantises and multiplies at a time. bitsandbytes makes several tensors in float32 on the way: of so
few rows they stay in the cache, and even a large layer's take no memory to speak of."""


@dataclass(frozen=True)
class Int8Linear:
    """INT8 weight (outputs, inputs), the largest magnitude of each of its rows in float32 (outputs,), and where the
    family has one, bias (outputs,) in the network's dtype."""

    weight: Tensor
    scales: Tensor
    bias: Tensor | None = None

    @classmethod
    def quantized(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """Quantise a weight, which may be a view, where it lies."""
        # bitsandbytes quantises float16, whatever the weight's dtype, and its kernel for GPUs knows no strides.
        rows = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
        scales = torch.empty(len(weight), dtype=torch.float32, device=weight.device)
        for part, its_rows, its_scales in zip(_parts(weight), _parts(rows), _parts(scales), strict=True):
            found, largest, _ = int8_vectorwise_quant(part.to(torch.float16).contiguous())
            its_rows.copy_(found)
            its_scales.copy_(largest)
        if rows.shape[1] == 1:
            # torch's INT8 product on a CPU reads past the end of a single column unless its stride says where it ends.
            rows = rows.as_strided(rows.shape, (1, len(rows)))
        return cls(rows, scales, bias)

    def __call__(self, inputs: Tensor) -> Tensor:
        outliers = outlier_columns(inputs)
        outputs = [self._outputs(part, outliers) for part in _parts(inputs)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _outputs(self, inputs: Tensor, outliers: Tensor) -> Tensor:
        rows, scales = quantize_inputs(inputs, outliers)
        outputs: Tensor
        outputs, _ = torch.ops.bitsandbytes.int8_mixed_scaled_mm(
            inputs, rows, self.weight, scales, self.scales, outliers, self.bias
        )
        return outputs

    def map(self, change: Callable[[Tensor], Tensor]) -> "Int8Linear":
        """The same layer with every tensor moved. Raises TypeError for a change of dtype: weights are converted before
        they are quantised."""
        moved = Int8Linear(change(self.weight), change(self.scales), None if self.bias is None else change(self.bias))
        if (moved.weight.dtype, moved.scales.dtype) != (torch.int8, torch.float32):
            raise TypeError("INT8 weights can be moved, not converted: convert the super-network's before they are cut")
        return moved


def outlier_columns(inputs: Tensor) -> Tensor:
    """The columns of inputs (T, inputs) in which some token has an outlier, (N,), ascending."""
    return (inputs.to(torch.float16).abs().amax(0) >= OUTLIER).nonzero().squeeze(1)


def quantize_inputs(inputs: Tensor, outliers: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (T, inputs) in INT8 with the outliers' columns set to 0, and each row's scale (T,): the largest magnitude
    that is no outlier.

    bitsandbytes can look after the outliers itself, but on a CPU that takes three times as long: it picks them out one
    by one, where here whole columns are taken.
    """
    halves = inputs.to(torch.float16, copy=True, memory_format=torch.contiguous_format)
    columns = halves[:, outliers]
    halves.index_copy_(1, outliers, columns.masked_fill_(columns.abs() >= OUTLIER, 0))
    rows, scales, _ = int8_vectorwise_quant(halves)
    return rows.index_fill_(1, outliers, 0), scales


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The rows that are dealt with at a time."""
    return torch.split(tensor, CPU_ROWS) if tensor.device.type == "cpu" else (tensor,)


def quantize_layer(layer: Layer) -> Layer:
    """A layer whose linear layers are in INT8; norms and biases are those of the given one, not copies."""

    def quantized(linear: Projection) -> Int8Linear:
        return Int8Linear.quantized(linear.weight, linear.bias)

    return replace(
        layer,
        query=quantized(layer.query),
        key=quantized(layer.key),
        value=quantized(layer.value),
        output=quantized(layer.output),
        gate=quantized(layer.gate),
        up=quantized(layer.up),
        down=quantized(layer.down),
    )
