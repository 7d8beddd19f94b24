"""Inputs of W8A8 are rounded as vLLM's own kernel rounds them."""

import pytest
import torch

from shared.supernet.device import compute_device
from shared.supernet.w8a8 import rounded_inputs

pytest.importorskip("vllm._C")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_are_rounded_to_the_numbers_of_vllm_s_kernel(dtype: torch.dtype) -> None:
    from vllm import _custom_ops

    inputs = (3 * torch.randn(50, 100, generator=torch.Generator().manual_seed(0))).to(compute_device(), dtype)
    theirs, their_scales, _ = _custom_ops.scaled_int8_quant(inputs)
    ours, scales = rounded_inputs(inputs)
    assert torch.equal(scales, their_scales)
    # vLLM multiplies by the reciprocal, which a tie may be decided by.
    assert (ours != theirs.float()).float().mean() < 1e-3
    assert (ours - theirs.float()).abs().max() <= 1
    assert ours.abs().amax(1).eq(127).all() and theirs.min() >= -127
