"""LLM.int8() on the linear layers of a decoder's layers (Dettmers et al. 2022, arXiv 2208.07339), by bitsandbytes.

The same arithmetic as bitsandbytes' `Linear8bitLt` at inference. A weight is held in INT8 with a scale for each of its
rows. Inputs are quantised as they come, with a scale for each token; columns of the inputs in which some token has an
outlier are multiplied in the inputs' own dtype instead. bitsandbytes asks all tokens that are read together; here only
those of the same segment (an item, or what many items begin with) are asked, so that each has the outputs that it has
alone. All else is done token by token.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from bitsandbytes.functional import int8_vectorwise_dequant, int8_vectorwise_quant
from torch import Tensor

from shared.supernet.decoder import Layer, Projection
from shared.supernet.segments import Segments

OUTLIER = 6.0
"""Inputs of at least this magnitude are not quantised: the paper's threshold."""

CPU_ROWS = 256
"""Rows that a CPU quantises and multiplies at a time. bitsandbytes makes several tensors in float32 on the way: of so
few rows they stay in the cache, and even a large layer's take no memory to speak of."""


@dataclass(frozen=True)
class Int8Linear(Projection):
    """INT8 weight (outputs, inputs), the largest magnitude of each of its rows in float32 (outputs,), and where the
    family has one, bias (outputs,) in the network's dtype. `segments` are those of the inputs; None: they are one.

    A last bit may make an outlier of an input, and that changes all outputs of its item: hence
    `needs_batch_invariance`.
    """

    needs_batch_invariance: ClassVar[bool] = True

    weight: Tensor
    scales: Tensor
    bias: Tensor | None = None
    segments: Segments | None = None

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
        segments = self.segments or Segments(torch.zeros(len(inputs), dtype=torch.long, device=inputs.device), 1)
        columns, found = outlier_columns(inputs, segments)
        parts = _parts(inputs)
        if len(parts) == 1:
            return self._outputs(inputs, columns, found[segments.owners])
        outputs = []
        for part, owners in zip(parts, _parts(segments.owners), strict=True):
            outlying = found[owners]
            here = outlying.any(0).nonzero().squeeze(1)
            outputs.append(self._outputs(part, columns[here], outlying[:, here]))
        return torch.cat(outputs)

    def _outputs(self, inputs: Tensor, columns: Tensor, outlying: Tensor) -> Tensor:
        """Outputs of inputs (T, inputs), of which those `outlying` (T, N) in some `columns` (N,) are not quantised."""
        rows, scales = quantize_inputs(inputs, columns, outlying)
        outputs: Tensor = torch.ops.bitsandbytes.int8_scaled_mm(
            rows, self.weight, scales, self.scales, bias=self.bias, dtype=inputs.dtype
        )
        if len(columns) == 0:
            return outputs
        weights = int8_vectorwise_dequant(self.weight[:, columns], self.scales).to(inputs.dtype)
        return _plus_products(outputs, inputs[:, columns].masked_fill_(~outlying, 0), weights)

    def for_segments(self, segments: Segments) -> "Int8Linear":
        return replace(self, segments=segments)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Int8Linear":
        """The same layer with every tensor moved. Raises TypeError for a change of dtype: weights are converted before
        they are quantised."""
        bias = None if self.bias is None else change(self.bias)
        moved = replace(self, weight=change(self.weight), scales=change(self.scales), bias=bias)
        if (moved.weight.dtype, moved.scales.dtype) != (torch.int8, torch.float32):
            raise TypeError("INT8 weights can be moved, not converted: convert the super-network's before they are cut")
        return moved


def outlier_columns(inputs: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """The columns of inputs (T, inputs) in which some token has an outlier, (N,), ascending; and in which of them each
    segment has one, (segments, N)."""
    columns = _outlying(inputs.abs().amax(0)).nonzero().squeeze(1)
    if len(columns) == 0 or segments.count == 1:
        return columns, torch.ones(segments.count, len(columns), dtype=torch.bool, device=inputs.device)
    largest = inputs.new_zeros(segments.count, len(columns))
    owners = segments.owners[:, None].expand(-1, len(columns))
    return columns, _outlying(largest.scatter_reduce_(0, owners, inputs[:, columns].abs(), "amax"))


def _outlying(magnitudes: Tensor) -> Tensor:
    return magnitudes.to(torch.float16) >= OUTLIER


def quantize_inputs(inputs: Tensor, columns: Tensor, outlying: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs (T, inputs) in INT8, and each row's scale (T,): the largest magnitude that is no outlier. Where `outlying`
    (T, N) says so of some `columns` (N,), which have all outliers, they are 0.

    bitsandbytes can look after the outliers itself, but on a CPU that takes three times as long: it picks them out one
    by one, where here whole columns are taken.
    """
    halves = inputs.to(torch.float16, copy=True, memory_format=torch.contiguous_format)
    if len(columns) == 0:
        rows, scales, _ = int8_vectorwise_quant(halves)
        return rows, scales
    taken = halves[:, columns]
    halves.index_copy_(1, columns, taken.masked_fill_(_outlying(taken.abs()), 0))
    rows, scales, _ = int8_vectorwise_quant(halves)
    return rows.index_copy_(1, columns, rows[:, columns].masked_fill_(outlying, 0)), scales


def _plus_products(outputs: Tensor, inputs: Tensor, weights: Tensor) -> Tensor:
    """Outputs (T, outputs) plus inputs (T, N) times weights (outputs, N), rounded once.

    How many columns there are, and so in which order they are summed, depends on a token's company. A CPU sums in
    float64, where that doesn't show.
    """
    if outputs.device.type != "cpu":
        return outputs.addmm_(inputs, weights.t())
    return outputs.double().addmm_(inputs.double(), weights.double().t()).to(outputs.dtype)


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """The rows that are dealt with at a time."""
    return torch.split(tensor, CPU_ROWS) if tensor.device.type == "cpu" else (tensor,)


def quantize_layer(layer: Layer) -> Layer:
    """A layer whose linear layers are in INT8; norms, biases and shortcuts are those of the given one, not copies."""
    return layer.projected(lambda linear: Int8Linear.quantized(linear.weight, linear.bias))
