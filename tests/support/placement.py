"""A device that is not the CPU, on any machine: torch's `meta`, on which tensors have sizes but no numbers.

What would go wrong on a GPU goes wrong there too: an operation on tensors of both devices, a copy from one to the other
where none belongs, a number that the host asks for and waits for. FakeTensorMode can't stand in for a GPU: with a torch
that was built for CPUs alone it refuses to index a tensor "on cuda".
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from shared.supernet import flexible
from tests.support.data import ROOT

OWN = ("services", "shared", "tests")
DEVICE = torch.device("meta")
FOUND = 2
"""How many places a search by value finds: none knows what stands there."""

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
SEARCHES = {aten.nonzero.default}
INDEXED = {aten.index.Tensor, aten.index_put_.default}
NUMBERS = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
MADE_THERE = {torch.tensor, torch.as_tensor, torch.asarray}


class MisplacedError(AssertionError):
    """Something that a GPU would refuse, or wait for, where nobody said that it may."""


class _Placement(TorchDispatchMode):
    """Watches every operation. `met` are the steps by name that were let through."""

    def __init__(self, allowed: Mapping[str, str]) -> None:
        super().__init__()
        self._allowed = allowed
        self.met: set[str] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with self:  # where no gradients are asked for, operations come as they were called, in one
            parts = operation.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = any(tensor.device == DEVICE for tensor in given)
        wanted = kwargs.get("device")
        if operation in COPIES and (there or wanted == DEVICE):
            into = args[0].device if operation is aten.copy_.default else (wanted or args[0].device)
            source = args[1] if operation is aten.copy_.default else args[0]
            if torch.device(into) != source.device:
                self.note(f"a copy from {source.device} to {into}")
                if torch.device(into) != DEVICE:
                    return self._on_the_host(operation, source, args, kwargs)
        elif there and operation in NUMBERS:
            self.note("a number that the host waits for")
            return self._number(given[0])
        elif there and operation in SEARCHES:
            self.note("places that the host waits to know the number of")
            return torch.empty(FOUND, given[0].dim(), dtype=torch.long, device=DEVICE)
        elif there and operation in INDEXED and any(_is_mask(index) for index in args[1]):
            self.note("places that the host waits to know the number of")
            args = (args[0], [_places(index) if _is_mask(index) else index for index in args[1]], *args[2:])
        if there and any(_holds_numbers(tensor) for tensor in given):
            raise MisplacedError(f"{operation} of tensors on both devices at {_where()}")
        return operation(*args, **kwargs)

    def note(self, what: str) -> None:
        """Something happens that only some may do."""
        place = _where()
        if place not in self._allowed:
            raise MisplacedError(f"{what} at {place}")
        self.met.add(place)

    @staticmethod
    def _on_the_host(operation: Any, source: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """What arrives on the host: zeros."""
        if operation is aten.copy_.default:
            return args[0].zero_()
        return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)

    @staticmethod
    def _number(tensor: Tensor) -> Any:
        return True if tensor.dtype == torch.bool else torch.ones((), dtype=tensor.dtype).item()


class _Making(TorchFunctionMode):
    """Notes tensors that are made on the device of the host's numbers, which `meta` doesn't show as a copy."""

    def __init__(self, placement: _Placement) -> None:
        super().__init__()
        self._placement = placement

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in MADE_THERE and kwargs.get("device") is not None and torch.device(kwargs["device"]) == DEVICE:
            self._placement.note("a tensor made there of the host's numbers")
        return function(*args, **kwargs)


@contextmanager
def on_the_device(allowed: Mapping[str, str]) -> Iterator[set[str]]:
    """Everything inside is done as on a GPU. Raises MisplacedError for what crosses between the devices, or depends on
    numbers that are on the other one, in a function that is not `allowed`: names like `services/evaluator/scoring.py:
    _score`, each with the reason why it may. Gives the names that were met."""
    placement = _Placement(allowed)
    with _kernels(), placement, _Making(placement):
        yield placement.met


@contextmanager
def _kernels() -> Iterator[None]:
    """FlexAttention's compiled kernel is for GPUs alone: sizes and gradients of what it would find stand in for it."""
    real = flexible._compiled
    flexible._compiled = lambda: _attended  # type: ignore[assignment]
    try:
        yield
    finally:
        flexible._compiled = real


def _attended(
    queries: Tensor, keys: Tensor, values: Tensor, block_mask: Any, enable_gqa: bool, scale: float | None = None
) -> Tensor:
    masks: list[Tensor] = [part for part in block_mask.as_tuple() if isinstance(part, Tensor)]
    if any(part.device != queries.device for part in masks):
        raise MisplacedError("a mask of blocks lies on another device than what it is for")
    share = queries.shape[1] // keys.shape[1] if enable_gqa else 1
    keys, values = (tensor.repeat_interleave(share, dim=1) for tensor in (keys, values))
    return (queries @ keys.transpose(-1, -2)).softmax(-1) @ values


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype == torch.bool


def _places(mask: Tensor) -> Tensor:
    """Where a mask of one dimension is true."""
    return torch.zeros(FOUND, dtype=torch.long, device=mask.device)


def _holds_numbers(tensor: Tensor) -> bool:
    """Whether a tensor is one of the host's that a GPU can't take as an argument: one without dimensions it can."""
    return tensor.device.type == "cpu" and tensor.dim() > 0


def _where() -> str:
    """The function of nasfarm or of a test that is being run; the environment may lie in the repository."""
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if any(path.is_relative_to(ROOT / name) for name in OWN) and "support" not in path.parts:
            return f"{path.relative_to(ROOT)}:{frame.f_code.co_qualname.split('.<locals>')[0]}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"
