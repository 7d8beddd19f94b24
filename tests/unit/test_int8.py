"""INT8 layers compute what bitsandbytes' own module computes of each segment by itself, and hold what they should."""

from dataclasses import replace

import pytest
import torch
from bitsandbytes.functional import int8_vectorwise_quant
from bitsandbytes.nn import Int8Params, Linear8bitLt
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear

from shared.supernet import int8
from shared.supernet.int8 import CPU_ROWS, OUTLIER, Int8Linear, outlier_columns, quantize_inputs
from shared.supernet.segments import Segments

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


def of_lengths(*lengths: int) -> Segments:
    return Segments(torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)), len(lengths))


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
    columns, found = outlier_columns(inputs, of_lengths(40))
    ours = quantize_inputs(inputs, columns, found.expand(40, -1))
    assert outliers is not None and outliers.tolist() == [3, 8, 20]
    assert columns.tolist() == [3, 8, 20] and found.tolist() == [[True] * 3]
    assert torch.equal(ours[0], rows)
    assert torch.equal(ours[1], scales)


def test_a_column_is_an_outlier_s_only_in_the_segments_that_have_one() -> None:
    inputs = inputs_with_outliers(40)
    columns, found = outlier_columns(inputs, of_lengths(1, 0, 20, 19))
    assert columns.tolist() == [3, 8, 20]
    assert found.int().tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]


@st.composite
def rows_of_segments(draw: st.DrawFn) -> tuple[list[Tensor], torch.dtype]:
    """The inputs of some segments, each with outliers in a few columns of its own or none; all but these are random."""
    dtype = draw(st.sampled_from(DTYPES))
    segments = []
    for seed in range(draw(st.integers(1, 6))):
        inputs = noise(draw(st.integers(1, 30)), INPUTS, seed=seed, dtype=dtype)
        for column in draw(st.lists(st.integers(0, INPUTS - 1), max_size=5)):
            inputs[draw(st.integers(0, len(inputs) - 1)), column] = draw(st.sampled_from([OUTLIER, -7.3, 250.0, 3e5]))
        segments.append(inputs)
    return segments, dtype


@settings(max_examples=60, deadline=None)
@given(rows_of_segments(), st.booleans(), st.sampled_from([1, 7, CPU_ROWS]))
def test_a_segment_has_to_the_last_bit_the_outputs_that_it_has_alone(
    row: tuple[list[Tensor], torch.dtype], biased: bool, rows_at_a_time: int
) -> None:
    segments, dtype = row
    bias = noise(OUTPUTS, seed=98, dtype=dtype) if biased else None
    layer = Int8Linear.quantized(noise(OUTPUTS, INPUTS, seed=99, dtype=dtype), bias)
    alone = [layer(inputs) for inputs in segments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8, "CPU_ROWS", rows_at_a_time)
        for order in (1, -1):
            reading = replace(layer, segments=of_lengths(*(len(inputs) for inputs in segments[::order])))
            assert torch.equal(reading(torch.cat(segments[::order])), torch.cat(alone[::order]))


@settings(max_examples=20, deadline=None)
@given(rows_of_segments())
def test_each_segment_has_the_answers_of_bitsandbytes_own_module(row: tuple[list[Tensor], torch.dtype]) -> None:
    segments, dtype = row
    weight = noise(OUTPUTS, INPUTS, seed=99, dtype=dtype)
    lengths = of_lengths(*(len(inputs) for inputs in segments))
    ours = replace(Int8Linear.quantized(weight), segments=lengths)(torch.cat(segments))
    for found, inputs in zip(ours.split([len(inputs) for inputs in segments]), segments, strict=True):
        theirs = by_bitsandbytes(weight, None, inputs)
        close = ROUNDING[dtype] * theirs.abs().amax(1, keepdim=True).clamp(min=1)
        assert bool(((found - theirs).abs() <= close).all())


def test_read_as_one_segment_a_token_would_depend_on_its_company() -> None:
    layer = Int8Linear.quantized(noise(OUTPUTS, INPUTS, seed=1))
    quiet, loud = noise(2, INPUTS, seed=2), noise(1, INPUTS, seed=3)
    loud[0, 5] = 20.0
    together = torch.cat([quiet, loud])
    assert not torch.equal(layer(together)[:2], layer(quiet))
    assert torch.equal(replace(layer, segments=of_lengths(2, 1))(together)[:2], layer(quiet))


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
    halves = of_lengths(300, 300)
    on_cpu, on_gpu = replace(on_cpu, segments=halves), replace(on_gpu, segments=Segments(halves.owners.cuda(), 2))
    torch.testing.assert_close(on_gpu(inputs.cuda()).cpu(), on_cpu(inputs), rtol=0.02, atol=0.05)
