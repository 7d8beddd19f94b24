"""Several processes that train a network together, as `torchrun` starts them: on one machine or on many."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from services.trainer.distributed.environment import SPEAKING_SECONDS
from shared.parent import end_with

T = TypeVar("T")

LOST_CODE = 1
"""Exit code where another process is lost: none of the user's errors, so the same command may be tried again."""
PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one, which may have to fetch a model. One that ends is noticed at once."""


class ProcessGroup:
    """`Processes` by torch's own: tensors of a GPU go by NCCL, everything else by Gloo."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.first = self.rank == 0

    def wait(self) -> None:
        self.summed([0.0])

    def agree(self, value: T) -> T:
        values = [value]
        dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def summed(self, numbers: Sequence[float]) -> list[float]:
        tensor = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(tensor)
        found: list[float] = tensor.tolist()
        return found

    def local(self, weight: Tensor) -> Tensor:
        return cast(DTensor, weight.detach()).to_local()

    def joint_norm(self, norm: Tensor) -> Tensor:
        return torch.tensor(self.summed([norm.item() ** 2])[0] ** 0.5, dtype=norm.dtype, device=norm.device)

    def whole(self, weight: Tensor) -> Tensor:
        return cast(DTensor, weight.detach()).full_tensor()

    def together(self, rows: Tensor, weight: Tensor) -> Tensor:
        if not rows.dim():
            return rows
        sharded, shape = cast(DTensor, weight), torch.Size((len(weight), *rows.shape[1:]))
        strides = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(
            rows, sharded.device_mesh, sharded.placements, run_check=False, shape=shape, stride=strides
        )

    def rows(self, whole: Tensor, weight: Tensor) -> Tensor:
        if not whole.dim():
            return torch.empty_like(whole, device="cpu") if whole.is_meta else whole
        if len(whole) != len(weight):
            raise ValueError(f"{len(whole)} rows belong to no weight with {len(weight)}")
        local = self.local(weight)
        if whole.is_meta:
            return torch.empty((len(local), *whole.shape[1:]), dtype=whole.dtype, device=local.device)
        return whole[self._start(weight) :][: len(local)].to(local.device)

    def _start(self, weight: Tensor) -> int:
        """The first of a weight's rows that this process holds: as torch.chunk divides them."""
        return min(len(weight), self.rank * -(-len(weight) // self.size))


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Join the other processes, and leave them at the end. On a machine with GPUs each process takes its own; it ends
    with the process that has started it."""
    end_with(os.getppid())
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield ProcessGroup()
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        time.sleep(SPEAKING_SECONDS)  # for that one to say why it has ended
        sys.stderr.write(f"nasfarm: process {dist.get_rank()} ends, as it has lost another one\n")
        sys.stderr.flush()
        os._exit(LOST_CODE)  # to leave in order would be to wait for the other one
    finally:
        dist.destroy_process_group()
