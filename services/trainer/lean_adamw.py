"""AdamW for weights in bfloat16, with 8-bit states and stochastic rounding: 4 bytes a weight, and no others.

States are held as in arXiv 2110.02861 (Dettmers et al.): block by block, each with its largest value in float32. How a
value lies within its block is told by roots instead of a table: the first moment by its signed square root in 255
steps, the root of the second one by its own square root in 256. So resolution follows the size of a value as the
table's does, and a CPU computes it in half the time that bitsandbytes takes with the table (a step of torchao's takes
still more, and it wants a C++ compiler). Blocks lie within rows: states can be split wherever weights are, by rows.

A weight's update is mostly smaller than the distance of two numbers in bfloat16, so rounding to the nearest would lose
it; it is rounded up or down at random, so that it is right on average. Which way depends on the seed, the step, the
weight's name and, of several processes, on which of them holds the rows.
"""

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.95)
EPSILON = 1e-8
BLOCK = 256
"""Numbers that share a scale at most."""
FEWEST = 32
"""In rows that can't be divided into blocks of so many and more, the row is the block."""
CHUNK = {"cpu": 2**18, "cuda": 2**24}
"""Numbers that are updated at a time, in float32: so many that a CPU's cache holds them."""
SMALLEST = 1e-38
"""Close to the smallest float32: keeps reciprocals finite."""
HIGHEST, LEVELS, MIDDLE = 127, 255, 128


class LeanAdamW:
    """The states of weights by their names, and how a weight is updated by its gradient.

    Vectors, which are few, keep their states in float32. A weight that gets no gradient in a step isn't touched.
    """

    def __init__(
        self, weight_decay: float, seed: int, state: Mapping[str, dict[str, Any]] | None = None, rank: int = 0
    ) -> None:
        """`state` is what `state_dict` gave; `rank` the number of the process, which holds some rows of each weight."""
        self._decay, self._seed, self._rank = weight_decay, seed, rank
        self._state: dict[str, dict[str, Any]] = {name: dict(each) for name, each in (state or {}).items()}
        self._scratch: Tensor | None = None

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """By the weights' names: `step`, the number of updates, and the moments `first` and `second`: in the weight's
        shape, int8 with `first_scale` and `second_scale` (rows, blocks) in float32, or float32 without."""
        return self._state

    @torch.no_grad()
    def update(self, name: str, weight: Tensor, gradient: Tensor, step: int, rate: float, scale: Tensor | None) -> None:
        """Update a weight in place, by its gradient times `scale` (default: 1), in a step of the fine-tuning."""
        state = self._state.get(name)
        if state is None:
            state = self._state[name] = _no_moments(weight)
        elif state["first"].device != weight.device:  # resumed
            state |= {part: value.to(weight.device) for part, value in state.items() if isinstance(value, Tensor)}
        state["step"] += 1
        noise = torch.Generator(weight.device)
        place = f"{step}/{name}/{self._rank}" if self._rank else f"{step}/{name}"
        noise.manual_seed(random.Random(f"{self._seed}/{place}").getrandbits(63))
        moments = _rows({part: state[part] for part in ("first", "second")})
        scales = {part: state[f"{part}_scale"] for part in moments if f"{part}_scale" in state}
        values = _rows({"weight": weight, "gradient": gradient})
        for rows in _chunks(values["weight"], CHUNK[weight.device.type]):
            self._update_rows(
                {part: tensor[rows] for part, tensor in {**values, **moments}.items()},
                {part: tensor[rows] for part, tensor in scales.items()},
                (state["step"], rate),
                scale,
                noise,
            )

    def _update_rows(
        self,
        tensors: dict[str, Tensor],
        scales: dict[str, Tensor],
        at: tuple[int, float],
        gradient_scale: Tensor | None,
        noise: torch.Generator,
    ) -> None:
        """`update` of some rows."""
        (updates, rate), (decay1, decay2) = at, BETAS
        rows, columns = tensors["weight"].shape
        blocks = (rows, scales["first"].shape[1] if scales else 1, -1)
        scratch = self._scratch_for(tensors["weight"])
        first, root, gradient, weight, spare = (part[: rows * columns].view(rows, columns) for part in scratch)
        first.copy_(tensors["first"])
        root.copy_(tensors["second"])
        if scales:
            _unpack_first(first.view(blocks), scales["first"], spare.view(blocks))
            _unpack_root(root.view(blocks), scales["second"])
        gradient.copy_(tensors["gradient"])
        if gradient_scale is not None:
            gradient.mul_(gradient_scale)
        weight.copy_(tensors["weight"])
        first.lerp_(gradient, 1 - decay1)
        root.square_().mul_(decay2).addcmul_(gradient, gradient, value=1 - decay2).sqrt_()
        if self._decay:
            weight.mul_(1 - rate * self._decay)
        torch.div(root, math.sqrt(1 - decay2**updates), out=spare).add_(EPSILON)
        weight.addcdiv_(first, spare, value=-rate / (1 - decay1**updates))
        if scales:
            _pack_first(first.view(blocks), scales["first"], spare.view(blocks))
            _pack_root(root.view(blocks), scales["second"])
        tensors["first"].copy_(first)
        tensors["second"].copy_(root)
        tensors["weight"].copy_(_stochastically_rounded(weight, noise))

    def _scratch_for(self, weight: Tensor) -> Tensor:
        """Room for the numbers of a chunk in float32, five times; the same one again and again, as memory that is new
        each time costs more than what is computed with it."""
        size = max(CHUNK[weight.device.type], weight.shape[1])
        if self._scratch is None or self._scratch.shape[1] < size or self._scratch.device != weight.device:
            self._scratch = torch.empty(5, size, dtype=torch.float32, device=weight.device)
        return self._scratch


def block_size(columns: int) -> int:
    """Numbers of a row that share a scale: as many as divide it evenly, at most BLOCK; few of them are none."""
    largest = next(size for size in range(min(BLOCK, columns), 0, -1) if columns % size == 0)
    return columns if largest < FEWEST else largest


def _no_moments(weight: Tensor) -> dict[str, Any]:
    if weight.dim() < 2:
        return {"step": 0} | {part: torch.zeros_like(weight, dtype=torch.float32) for part in ("first", "second")}
    rows, columns = weight.shape
    state: dict[str, Any] = {"step": 0}
    for part, none in (("first", 0), ("second", -MIDDLE)):
        state[part] = torch.full_like(weight, none, dtype=torch.int8, requires_grad=False)
        shape = (rows, columns // block_size(columns))
        state[f"{part}_scale"] = torch.zeros(shape, dtype=torch.float32, device=weight.device)
    return state


def _rows(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices; of a vector the one with a single row."""
    return {name: tensor if tensor.dim() > 1 else tensor.view(1, -1) for name, tensor in tensors.items()}


def _chunks(matrix: Tensor, numbers: int) -> Iterator[slice]:
    rows, columns = matrix.shape
    many = max(1, numbers // max(1, columns))
    return (slice(start, min(start + many, rows)) for start in range(0, rows, many))


def _unpack_first(codes: Tensor, scales: Tensor, spare: Tensor) -> None:
    """First moments (rows, blocks, numbers), in place, of their codes."""
    torch.abs(codes, out=spare)
    codes.mul_(spare).mul_((scales / HIGHEST**2)[..., None])


def _pack_first(moments: Tensor, scales: Tensor, spare: Tensor) -> None:
    """The codes of first moments, in place; their scales are written as well."""
    torch.abs(moments, out=spare)
    torch.amax(spare, -1, out=scales)
    spare.clamp_(min=SMALLEST).rsqrt_()
    factor = scales.clamp(min=SMALLEST).rsqrt_().mul_(HIGHEST)
    moments.mul_(spare).mul_(factor[..., None]).round_()


def _unpack_root(codes: Tensor, scales: Tensor) -> None:
    """Roots of second moments (rows, blocks, numbers), in place, of their codes."""
    codes.add_(MIDDLE).square_().mul_((scales / LEVELS**2)[..., None])


def _pack_root(roots: Tensor, scales: Tensor) -> None:
    """The codes of roots of second moments, in place; their scales are written as well. None of them becomes zero: by
    it the first moment would be divided."""
    torch.amax(roots, -1, out=scales)
    factor = scales.clamp(min=SMALLEST).rsqrt_().mul_(LEVELS)
    roots.sqrt_().mul_(factor[..., None]).round_().clamp_(min=1).sub_(MIDDLE)


def _stochastically_rounded(values: Tensor, noise: torch.Generator) -> Tensor:
    """Float32 values, in place, as numbers that bfloat16 has: each one of its two neighbours, the nearer the likelier.

    A bfloat16 is the upper half of a float32: a random number of 16 bits is added to the lower half, which is then cut
    off.
    """
    numbers, middle = values.numel(), 0x8000
    drawn = torch.empty(-(-numbers // 4), dtype=torch.int64, device=values.device)
    signed = drawn.random_(-(2**63), None, generator=noise).view(torch.int16)[:numbers]  # from -middle on
    values.view(torch.int32).add_(middle).add_(signed.view(values.shape)).bitwise_and_(-0x10000)
    return values
