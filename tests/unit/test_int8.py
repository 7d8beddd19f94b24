"""INT8 layers compute what bitsandbytes' own module computes, and hold what they should."""

import pytest
import torch
from bitsandbytes.functional import int8_vectorwise_quant
from bitsandbytes.nn import Int8Params, Linear8bitLt
from torch import Tensor
from torch.nn.functional import linear

from shared.supernet.int8 import CPU_ROWS, OUTLIER, Int8Linear, outlier_columns, quantize_inputs

DTYPES = [torch.bfloat16, torch.float32]
ROUNDING = {torch.bfloat16: 2**-7, torch.float32: 1e-5}
INPUTS, OUTPUTS = 37, 23


def noise(*size: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def inputs_with_outliers(rows: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Three columns have outliers: at the first row, at the last, and exactly at the threshold."""
    inputs = noise(rows, INPUTS, seed=0, dtype=dtype)
    inputs[0, 3], inputs[-1, 8], inputs[rows // 2, 20] = 40.0, -17.5, OUTLIER
    return inputs


@torch.inference_mode()
def by_bitsandbytes(weight: Tensor, bias: Tensor | None, inputs: Tensor, threshold: float = OUTLIER) -> Tensor:
    """The answers of bitsandbytes' module, as transformers makes it of a checkpoint's layer."""
    outputs, columns = weight.shape
    module = Linear8bitLt(columns, outputs, bias=bias is not None, has_fp16_weights=False, threshold=threshold)
    module.weight = Int8Params(weight.clone(), requires_grad=False, has_fp16_weights=False)
    if bias is not None:
        module.bias = torch.nn.Parameter(bias.clone(), requires_grad=False)
    found: Tensor = module.eval().to("cpu")(inputs.clone())
    assert module.weight.dtype == torch.int8
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("rows", [1, 40, 2 * CPU_ROWS + 7])
def test_a_layer_has_the_answers_of_bitsandbytes_own_module(dtype: torch.dtype, biased: bool, rows: int) -> None:
    weight = noise(OUTPUTS, INPUTS, seed=1, dtype=dtype)
    bias = noise(OUTPUTS, seed=2, dtype=dtype) if biased else None
    inputs = inputs_with_outliers(rows, dtype)
    before = inputs.clone()
    ours = Int8Linear.quantized(weight, bias)(inputs)
    assert ours.dtype == dtype
    assert torch.equal(inputs, before)
    theirs = by_bitsandbytes(weight, bias, inputs)
    torch.testing.assert_close(ours, theirs, rtol=ROUNDING[dtype], atol=ROUNDING[dtype])
    assert (ours - by_bitsandbytes(weight, bias, inputs, threshold=0.0)).abs().max() > 0.02, "outliers made no odds"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_inputs_are_quantised_as_by_bitsandbytes(dtype: torch.dtype) -> None:
    inputs = inputs_with_outliers(40, dtype)
    rows, scales, outliers = int8_vectorwise_quant(inputs.to(torch.float16), threshold=OUTLIER)
    ours = quantize_inputs(inputs, outlier_columns(inputs))
    assert outliers is not None and outliers.tolist() == [3, 8, 20]
    assert outlier_columns(inputs).tolist() == [3, 8, 20]
    assert torch.equal(ours[0], rows)
    assert torch.equal(ours[1], scales)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_layer_is_close_to_the_one_that_was_quantised(dtype: torch.dtype) -> None:
    weight, bias = noise(OUTPUTS, INPUTS, seed=1, dtype=dtype), noise(OUTPUTS, seed=2, dtype=dtype)
    inputs = inputs_with_outliers(40, dtype)
    exact = linear(inputs.double(), weight.double(), bias.double())
    error = (Int8Linear.quantized(weight, bias)(inputs).double() - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.01


def test_a_view_is_quantised_by_what_it_shows() -> None:
    weight = noise(OUTPUTS, INPUTS, seed=1)
    weight[:, 11:] *= 100
    before = weight.clone()
    narrow, copied = Int8Linear.quantized(weight[:9, :11]), Int8Linear.quantized(weight[:9, :11].clone())
    assert torch.equal(narrow.weight, copied.weight)
    assert torch.equal(narrow.scales, copied.scales)
    assert torch.equal(narrow.scales, weight[:9, :11].to(torch.float16).float().abs().amax(1))
    assert torch.equal(weight, before)
    assert narrow.weight.untyped_storage().nbytes() == 9 * 11
    assert narrow.scales.untyped_storage().nbytes() == 9 * 4


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_a_single_column_is_multiplied_as_any_other(rows: int) -> None:
    weight, inputs = noise(OUTPUTS, 1, seed=1), noise(rows, 1, seed=2)
    torch.testing.assert_close(Int8Linear.quantized(weight)(inputs), linear(inputs, weight), rtol=1e-2, atol=1e-2)


def test_rows_of_nothing_but_zeros_give_zeros() -> None:
    weight, inputs = noise(OUTPUTS, INPUTS, seed=1), inputs_with_outliers(40)
    weight[5], inputs[7] = 0, 0
    outputs = Int8Linear.quantized(weight)(inputs)
    assert outputs.isfinite().all()
    assert not outputs[:, 5].any()
    assert not outputs[7].any()


def test_a_token_of_nothing_but_outliers_is_multiplied_as_it_is() -> None:
    weight, inputs = noise(OUTPUTS, INPUTS, seed=1), torch.full((2, INPUTS), 9.0)
    exact = linear(inputs, weight)
    torch.testing.assert_close(Int8Linear.quantized(weight)(inputs), exact, rtol=0.01, atol=0.01 * exact.abs().max())


def test_inputs_beyond_float16_are_outliers_like_others() -> None:
    weight, inputs = noise(OUTPUTS, INPUTS, seed=1), inputs_with_outliers(40)
    inputs[4, 3] = 3e5
    outputs, exact = Int8Linear.quantized(weight)(inputs), linear(inputs, weight)
    assert outputs.isfinite().all()
    torch.testing.assert_close(outputs[4], exact[4], rtol=0.01, atol=0.01 * exact[4].abs().max())


def test_a_layer_can_be_moved_but_not_converted() -> None:
    layer = Int8Linear.quantized(noise(OUTPUTS, INPUTS, seed=1), noise(OUTPUTS, seed=2))
    moved, inputs = layer.map(lambda tensor: tensor.clone()), inputs_with_outliers(40)
    assert torch.equal(moved(inputs), layer(inputs))
    with pytest.raises(TypeError, match="INT8 weights can be moved, not converted"):
        layer.map(lambda tensor: tensor.to(torch.bfloat16))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gpu_has_the_answers_of_the_cpu(dtype: torch.dtype) -> None:
    weight, inputs = noise(OUTPUTS, 64, seed=1, dtype=dtype), noise(600, 64, seed=2, dtype=dtype)
    inputs[5, 9] = 30.0
    on_cpu, on_gpu = Int8Linear.quantized(weight), Int8Linear.quantized(weight.cuda())
    assert (on_gpu.weight.cpu().int() - on_cpu.weight.int()).abs().max() <= 1
    torch.testing.assert_close(on_gpu(inputs.cuda()).cpu(), on_cpu(inputs), rtol=0.02, atol=0.05)
