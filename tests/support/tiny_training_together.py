"""Fine-tunings of a tiny network by several processes, as a program: torch is imported once, then groups of processes
are forked one after the other.

    python -m tests.support.tiny_training_together DIRECTORY '[{"size": 2, "runs": {"NAME": {"steps": 4}}}]'

It prints the exit codes of each group's processes. Of one with `killed_at`, the last process kills itself after so
many steps; what is unfinished is then `copied` to another name.
"""

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.trainer import training_state
from services.trainer.distributed.process_group import process_group
from services.trainer.distributed.sharded_network import ShardedNetwork
from services.trainer.examples import Example
from services.trainer.fine_tuning import ArchitecturesOfStep, StepLoss
from services.trainer.make_supernet import make_supernet
from tests.support.tiny_training import tiny_plan


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def train(directory: Path, runs: Mapping[str, Mapping[str, Any]], killed_at: int | None) -> None:
    """What each process of a group does."""
    training_state.WAITING_SHARE = 1.0  # a state after each step, though its steps are shorter than the writing
    with process_group() as processes:
        if killed_at is not None and processes.rank == processes.size - 1:
            whole = ShardedNetwork.gradients

            def dying(
                network: ShardedNetwork, of_step: ArchitecturesOfStep, step: int, batch: Sequence[Example]
            ) -> StepLoss:
                if step == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return whole(network, of_step, step, batch)

            ShardedNetwork.gradients = dying  # type: ignore[method-assign]
        for name, training in runs.items():
            place = directory / name
            plan = tiny_plan(directory, **training)
            make_supernet(plan, place / "unfinished", place / "supernet", lambda _: None, processes)


def together(
    size: int,
    directory: Path,
    runs: Mapping[str, Mapping[str, Any]],
    killed_at: int | None = None,
    copied: Mapping[str, str] | None = None,
) -> list[int]:
    """The exit codes of so many processes that train together."""
    port, children = free_port(), []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            os.environ |= {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            try:
                train(directory, runs, killed_at)
            except BaseException as error:  # whatever it is, this process must not go on as if it were the program
                print(f"process {rank}: {error!r}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    for name, other in (copied or {}).items():
        shutil.copytree(directory / name, directory / other)
    return codes


if __name__ == "__main__":
    print(json.dumps([together(directory=Path(sys.argv[1]), **group) for group in json.loads(sys.argv[2])]))
