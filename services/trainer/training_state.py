"""The state of a fine-tuning on disk: killed at any moment, it resumes from the last one written.

A directory that `torch.distributed.checkpoint` (DCP) writes and reads, so that each of several processes holds and
writes only its part, and any other number of them reads it again:

    training/state.json       what there is besides tensors, and which directory holds those: replaced in one step
    training/tensors-a/       safetensors files, of each process its own; the next state's are in tensors-b

DCP's usual format keeps a pickle of what it holds, and reads plain objects by another one: whoever can write such a
file can run code in whoever reads it. So tensors go through DCP's storage for safetensors, which has neither, and
everything else into JSON.
"""

import json
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from services.trainer.distributed.processes import ALONE, Processes
from shared.drop_orders import DropOrders, from_json
from shared.errors import UserError
from shared.files import UnwritableError, write_atomically, writing
from shared.json_text import parse_json

STATE = "training"
"""The directory of the state in what is unfinished."""
FORMER_STATE = "training.pt"
"""The file of the state as earlier releases wrote it: one archive of torch's. It is still read."""
SUMMARY = "state.json"
TENSORS = ("tensors-a", "tensors-b")
VERSION = 1

STAGED_BYTES = 2**28
"""Tensors are copied into memory to be written, so many bytes at a time; a larger one by itself."""
WAITING_SHARE = 0.05
"""The part of the time that training may wait for states to be written."""


@dataclass
class TrainingState:
    """Everything a fine-tuning needs to be resumed: `plan` is the digest of its recipe, `step` the next step, `weights`
    what is trained; of a super-network also the order in which layers are dropped, or several, and by which influence.

    `optimizer` is what is kept of each weight that was updated: numbers, scalars, and tensors with a row for each of
    the weight's rows. Of several processes each has DTensors as weights, and its own rows of what is kept of them.
    """

    plan: str
    step: int
    drop_order: DropOrders
    influence: tuple[float, ...] | None
    losses: dict[str, float]
    weights: dict[str, Tensor]
    optimizer: dict[str, dict[str, Any]]

    @classmethod
    def of_single(cls, plan: str, weights: dict[str, Tensor]) -> "TrainingState":
        """The first state of a network that drops no layers."""
        return cls(plan, 0, drop_order=(), influence=None, losses={}, weights=weights, optimizer={})


PLAIN_FIELDS = tuple(field.name for field in fields(TrainingState) if field.name not in ("weights", "optimizer"))


class StateInterval:
    """Says when the next state is due: `seconds` after the last one, or so long after it that training waits no more
    than WAITING_SHARE of the time."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._since, self._pause = clock(), seconds

    @property
    def due(self) -> bool:
        """Whether to write one now."""
        return self._clock() - self._since > self._pause

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While one is written."""
        began = self._clock()
        yield
        self._since = self._clock()
        self._pause = max(self._seconds, (self._since - began) * (1 / WAITING_SHARE - 1))


def save_state(directory: Path, state: TrainingState, processes: Processes = ALONE) -> None:
    """Write the state; all processes do so together. Until the very end the former state is the one that counts.

    Raises UserError where there is no room; the former state is then still there, and nothing else.
    """
    described, tensors = _taken_apart(state, processes)
    with writing(directory):
        former = processes.agree(_current(directory))
        files = directory / next(name for name in TENSORS if name != former)
        if processes.first:
            shutil.rmtree(files, ignore_errors=True)  # of a state before, or of one that never was whole
            files.mkdir(parents=True)
            _require_space(files, sum(tensor.nbytes for tensor in tensors.values()))
        processes.wait()  # for the directory
        try:
            _write(files, tensors, processes)
        except UnwritableError:
            if processes.first:
                shutil.rmtree(files, ignore_errors=True)
            raise
        if processes.first:
            summary = {
                "version": VERSION,
                "tensors": files.name,
                "files": {file.name: file.stat().st_size for file in sorted(files.iterdir())},
                "weights": list(state.weights),
                "optimizer": described,
                **{name: getattr(state, name) for name in PLAIN_FIELDS},
            }
            _sync(files)
            write_atomically(directory / SUMMARY, json.dumps(summary))
            if former is not None:
                shutil.rmtree(directory / former, ignore_errors=True)
            directory.with_name(FORMER_STATE).unlink(missing_ok=True)


def load_state(
    directory: Path, plan: str, sharded: Mapping[str, Tensor] | None = None, processes: Processes = ALONE
) -> TrainingState | None:
    """The state to resume from, or None where there is none.

    `sharded` are the weights of one of several processes, DTensors, which are filled; all processes call this together.
    Raises UserError if the state belongs to a fine-tuning with other settings, model or data, or can't be read.
    """
    if not (directory / SUMMARY).exists():
        former = directory.with_name(FORMER_STATE)
        return _load_former(former, plan, sharded, processes) if former.exists() else None
    summary = _read_summary(directory, plan)
    with _reading(directory):
        files = directory / summary["tensors"]
        sizes = _sizes(files)
        weights = sharded or {name: torch.empty_like(sizes[_weight(name)], device="cpu") for name in summary["weights"]}
        tensors = {_weight(name): weight.detach() for name, weight in weights.items()}
        optimizer = _put_together(summary["optimizer"], weights, sizes, tensors, processes)
        _read(files, tensors, processes)
        plain = {name: summary[name] for name in PLAIN_FIELDS if name in summary}
        plain["drop_order"] = from_json(plain["drop_order"])
        plain["influence"] = None if plain["influence"] is None else tuple(plain["influence"])
        return TrainingState(**plain, weights=dict(weights), optimizer=optimizer)


def is_saved(directory: Path) -> bool:
    """Whether there is a state to resume from, of whatever fine-tuning."""
    return (directory / SUMMARY).exists() or directory.with_name(FORMER_STATE).exists()


def check_state(directory: Path, plan: str) -> None:
    """Raise UserError if there is a state that can't be read, or belongs to another fine-tuning. Reads no tensors."""
    if (directory / SUMMARY).exists():
        summary = _read_summary(directory, plan)
        with _reading(directory):
            _sizes(directory / summary["tensors"])
    elif directory.with_name(FORMER_STATE).exists():
        _load_former(directory.with_name(FORMER_STATE), plan, None, ALONE)


def _taken_apart(state: TrainingState, processes: Processes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The optimiser's state as JSON has it, with names in the place of tensors, and all tensors by their names."""
    tensors = {_weight(name): weight.detach() for name, weight in state.weights.items()}
    described: dict[str, dict[str, Any]] = {}
    for name, parts in state.optimizer.items():
        described[name] = dict(parts)
        for part, value in parts.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{part}/{name}"] = processes.together(value.detach(), state.weights[name])
                described[name][part] = {"tensor": f"optimizer/{part}/{name}"}
    return described, tensors


def _put_together(
    described: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    sizes: Mapping[str, Tensor],
    tensors: dict[str, Tensor],
    processes: Processes,
) -> dict[str, dict[str, Any]]:
    """The optimiser's state, with room for its tensors, which are yet to be read: they are added to `tensors`."""
    optimizer = {name: dict(parts) for name, parts in described.items()}
    for name, parts in optimizer.items():
        for part, value in parts.items():
            if isinstance(value, dict):
                parts[part] = rows = processes.rows(sizes[value["tensor"]], weights[name])
                tensors[value["tensor"]] = processes.together(rows, weights[name])
    return optimizer


def _weight(name: str) -> str:
    return f"weights/{name}"


def _read_summary(directory: Path, plan: str) -> dict[str, Any]:
    with _reading(directory):
        summary: dict[str, Any] = parse_json((directory / SUMMARY).read_bytes())
        if summary["version"] > VERSION:
            raise UserError(f"{directory}: written by a newer release of nasfarm; use that")
        if summary["tensors"] not in TENSORS:
            raise ValueError(summary["tensors"])
        for name, size in summary["files"].items():
            if (directory / summary["tensors"] / name).stat().st_size != size:
                raise ValueError(name)
    _require_plan(directory, summary["plan"], plan)
    return summary


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, TypeError, LookupError, EOFError, OSError, ValueError, UnpicklingError, SafetensorError) as e:
        raise UserError(f"{path}: not a readable training state; remove it to start the fine-tuning again") from e


def _require_plan(path: Path, found: str, plan: str) -> None:
    if found != plan:
        raise UserError(
            f"{path}: belongs to a fine-tuning with other settings, model or data; "
            "restore them, or remove it to start again, or change `name` in the search file"
        )


def _load_former(path: Path, plan: str, sharded: Mapping[str, Tensor] | None, processes: Processes) -> TrainingState:
    with _reading(path):
        state = TrainingState(**torch.load(path, weights_only=True, map_location="cpu", mmap=True))
        _require_plan(path, state.plan, plan)
        weights = sharded or state.weights
        kept: dict[Any, dict[str, Any]] = state.optimizer.get("state", {})  # by the weights' numbers
        if sharded is not None:
            for name, weight in sharded.items():
                processes.local(weight.detach()).copy_(processes.rows(state.weights[name], weight))
        state.optimizer = {
            name: {part: processes.rows(value, weights[name]) for part, value in kept[number].items()}
            for number, name in enumerate(state.weights)
            if number in kept
        }
        state.weights = dict(weights)
        return state


def _write(directory: Path, tensors: Mapping[str, Tensor], processes: Processes) -> None:
    """Raises UnwritableError on all processes where one of them can't write."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(directory), _files_of(tensors), save_distributed=True)
    with _without_warnings():
        try:
            save(dict(tensors), storage_writer=writer, no_dist=processes.size == 1)
        except CheckpointException as error:  # which is no Exception: it holds those of all processes
            failure = next(failure for failure, _ in error.failures.values())
            if not isinstance(failure, OSError):
                raise failure from None
            with writing(directory.parent):
                raise failure from None


def _read(directory: Path, tensors: dict[str, Tensor], processes: Processes) -> None:
    """Fill the tensors with what was written under their names, by any number of processes."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    with _without_warnings():
        try:
            load(tensors, storage_reader=HuggingFaceStorageReader(str(directory)), no_dist=processes.size == 1)
        except CheckpointException as error:
            raise ValueError(str(error)) from None


def _sizes(directory: Path) -> dict[str, Tensor]:
    """What was written, whole, on the device `meta`: with sizes and dtypes, and nothing in it."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    found = HuggingFaceStorageReader(str(directory)).read_metadata().state_dict_metadata
    return {
        name: torch.empty(one.size, dtype=one.properties.dtype, device="meta")
        for name, one in found.items()
        if isinstance(one, TensorStorageMetadata)
    }


def _files_of(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Which file of a process each tensor goes into, counted from 1."""
    numbers: dict[str, int] = {}
    number, filled = 1, 0
    for name, tensor in tensors.items():
        if filled and filled + tensor.nbytes > STAGED_BYTES:
            number, filled = number + 1, 0
        numbers[name] = number
        filled += tensor.nbytes
    return numbers


@contextmanager
def _without_warnings() -> Iterator[None]:
    """DCP warns that it runs in one process, and of how torch itself uses its own functions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _require_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise UnwritableError(
            f"{directory}: can't be written (the state of the fine-tuning takes {math.ceil(needed / 1e6):,} MB beside "
            f"the former one, {free // 10**6:,} MB are free)",
            "free some space; the former state is still there",
        )


def _current(directory: Path) -> str | None:
    """The directory of tensors that belongs to the state that is there."""
    try:
        return str(parse_json((directory / SUMMARY).read_bytes())["tensors"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _sync(directory: Path) -> None:
    """Have the names of a directory's files on disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
