"""Fine-tunings of a tiny network by several processes, as a program: torch is imported once, then groups of processes
are forked one after the other.

    python -m tests.support.tiny_training_together DIRECTORY '[{"size": 2, "runs": {"NAME": {"steps": 4}}}]'

It prints the exit codes of each group's processes, in the order in which these ended: 2 where a UserError was raised,
1 where another process was lost. What is unfinished is then `copied` to another name. What harms a group:

* `killed_at`: the last process kills itself after so many steps;
* `refused_at`: the first one raises a UserError after so many steps;
* `spoiled_at`: after so many steps the last one's loss is not finite; 3 is then the code where weights aren't either;
* `undivided`: nothing may be divided among the processes.
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

import torch
from torch.distributed.tensor import DTensor

from services.trainer import training_state
from services.trainer.distributed import process_group, sharded_network
from services.trainer.distributed.sharded_network import ShardedNetwork
from services.trainer.examples import Example
from services.trainer.fine_tuning import ArchitecturesOfStep, DivergedError, StepLoss
from services.trainer.make_supernet import make_supernet
from shared.errors import UserError
from tests.support.tiny_training import tiny_plan


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def harm(network: ShardedNetwork, last: bool, harms: Mapping[str, int], step: int) -> None:
    """What befalls a process before a step."""
    if last and step == harms.get("killed_at"):
        os.kill(os.getpid(), signal.SIGKILL)
    if network._processes.first and step == harms.get("refused_at"):
        raise UserError("the first process has found something wrong")
    if last and step == harms.get("spoiled_at"):
        loss = sharded_network.response_loss
        sharded_network.response_loss = lambda *arguments: loss(*arguments) * torch.nan


def train(directory: Path, runs: Mapping[str, Mapping[str, Any]], harms: Mapping[str, int], undivided: bool) -> None:
    """What each process of a group does."""
    training_state.WAITING_SHARE = 1.0  # a state after each step, though its steps are shorter than the writing
    process_group.SPEAKING_SECONDS = 1
    whole, trained = ShardedNetwork.gradients, list[ShardedNetwork]()

    def gradients(
        network: ShardedNetwork, of_step: ArchitecturesOfStep, step: int, batch: Sequence[Example]
    ) -> StepLoss:
        trained[:] = [network]
        harm(network, network._processes.rank == network._processes.size - 1, harms, step)
        return whole(network, of_step, step, batch)

    ShardedNetwork.gradients = gradients  # type: ignore[method-assign]
    if undivided:
        del ShardedNetwork.__init__
    with process_group.process_group() as processes:
        for name, training in runs.items():
            place = directory / name
            plan = tiny_plan(directory, **training)
            try:
                make_supernet(plan, place / "unfinished", place / "supernet", lambda _: None, processes)
            except DivergedError:
                held = [one.to_local() if isinstance(one, DTensor) else one for one in trained[0].weights.values()]
                if not all(rows.isfinite().all() for rows in held):
                    os._exit(3)
                raise


def together(
    size: int,
    directory: Path,
    runs: Mapping[str, Mapping[str, Any]],
    copied: Mapping[str, str] | None = None,
    undivided: bool = False,
    **harms: int,
) -> dict[int, int]:
    """The exit codes of so many processes that train together, by their numbers."""
    port, ranks = free_port(), dict[int, int]()
    for rank in range(size):
        child = os.fork()
        if child == 0:
            address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            os.environ |= {**address, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            try:
                train(directory, runs, harms, undivided)
            except BaseException as error:  # whatever it is, this process must not go on as if it were the program
                print(f"process {rank}: {error!r}", file=sys.stderr, flush=True)
                os._exit(2 if isinstance(error, UserError) else 1)
            os._exit(0)
        ranks[child] = rank
    codes = {}
    while len(codes) < size:
        child, status = os.wait()
        codes[ranks[child]] = os.waitstatus_to_exitcode(status)
    for name, other in (copied or {}).items():
        shutil.copytree(directory / name, directory / other)
    return codes


if __name__ == "__main__":
    print(
        json.dumps([list(together(directory=Path(sys.argv[1]), **group).items()) for group in json.loads(sys.argv[2])])
    )
