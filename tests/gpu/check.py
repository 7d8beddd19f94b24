"""What a check is: it says what it found, in one line; or that it can't be done here, and why; or it fails."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Verdict = Literal["ok", "WRONG", "FAILED", "skipped"]


class SkippedError(Exception):
    """A check that can't be done on this machine; the reason is told."""


class WrongAnswerError(Exception):
    """Something else came out than is right."""


@dataclass(frozen=True)
class Machine:
    """What is checked on: a GPU with networks of their real sizes; or, so that the checks themselves are tested, a CPU
    with tiny ones."""

    device: torch.device
    tiny: bool

    def synchronize(self) -> None:
        """Wait until all that was asked for is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, run: Callable[[], object]) -> float:
        """How long something takes."""
        self.synchronize()
        began = time.perf_counter()
        run()
        self.synchronize()
        return time.perf_counter() - began

    def require_gpu(self, why: str) -> None:
        """Raise SkippedError where there is no GPU."""
        if self.device.type != "cuda":
            raise SkippedError(f"needs a GPU: {why}")

    def require_room(self, gigabytes: float) -> None:
        """Raise SkippedError where a GPU has less free memory."""
        if self.device.type == "cuda":
            self.empty()
            free = torch.cuda.mem_get_info(self.device)[0] / 1e9
            if free < gigabytes:
                raise SkippedError(f"needs {gigabytes:.0f} GB of free memory, there are {free:.0f}")

    def empty(self) -> None:
        """Give back what torch holds without using it, and count its peak anew."""
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def reserved_bytes(self) -> int:
        """The most memory that torch held since `empty`, used or not; 0 on a CPU."""
        return torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else 0

    def peak_bytes(self) -> int:
        """The most memory that tensors took since `empty`; 0 on a CPU, where it isn't counted."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0

    def products_per_second(self) -> float:
        """Floating-point operations a second of a large matrix product in bfloat16: the card's rate."""
        size = 64 if self.tiny else 8192
        one, other = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        torch.mm(one, other)
        rounds = 1 if self.tiny else 20
        return 2 * size**3 * rounds / self.seconds(lambda: [torch.mm(one, other) for _ in range(rounds)])


@dataclass(frozen=True)
class Check:
    """A check, and the seconds that it may take on a GPU."""

    name: str
    run: Callable[[Machine], str]
    seconds: int


@dataclass(frozen=True)
class Outcome:
    """What came of a check."""

    name: str
    verdict: Verdict
    seconds: float
    said: str


def require(right: bool, said: str) -> None:
    """Raise WrongAnswerError, with what was found, unless it is right."""
    if not right:
        raise WrongAnswerError(said)


def largest_share(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, in each pair of tensors as a share of the largest number that is expected."""
    return max(
        (
            largest_difference([one], [other]) / max(float(other.abs().max()), 1e-30)
            for one, other in zip(found, expected, strict=True)
        ),
        default=0.0,
    )


def largest_difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of numbers that should be the same; infinite where some are no numbers."""
    differences = [
        float((one.float().cpu() - other.float().cpu()).abs().max()) for one, other in zip(found, expected, strict=True)
    ]
    return max((float("inf") if math.isnan(value) else value for value in differences), default=0.0)
