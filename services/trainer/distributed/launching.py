"""Starting several processes of a fine-tuning on this machine, as `torchrun` does."""

import logging
import os
import signal
import sys
import uuid
from collections.abc import Sequence

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from shared.environment import Environment, variable
from shared.errors import UserError
from shared.failure_policy import USER_ERROR_CODE

END_SECONDS = 10
"""What a process may take to end when another one has failed; then it is killed."""
MONITOR_SECONDS = 0.1
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run_together(command: Sequence[str], processes: int) -> None:
    """Run a command in several processes, until all of them have ended.

    Where one fails, the others are ended too, and so is this one, with the same code: 2 where something has to be
    changed, which was said, another one where the same command may do better. A signal to end is handed on to all.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise UserError(f"--processes: {processes} are more than this machine's GPUs, which are {gpus}; lower it")
    threads = str(max(1, Environment.read().threads // processes))
    os.environ |= {variable("threads"): threads, "OMP_NUM_THREADS": threads}
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it logs is said here, in one line
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=MONITOR_SECONDS,
        shutdown_timeout=END_SECONDS,
    )
    handlers = {number: signal.getsignal(number) for number in SIGNALS}  # the launch leaves its own
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        sys.exit(_said(error, processes))
    except SignalException as error:
        sys.stderr.write("\nnasfarm: interrupted; the same command resumes from what is stored\n")
        sys.exit(128 + error.sigval)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _said(error: ChildFailedError, processes: int) -> int:
    """The exit code of the process that failed first; where it can't have said why it ended, that is said here."""
    rank, failure = error.get_first_failure()
    # One that was killed is what others fail of, at about the same time; SIGTERM is how they are ended then.
    killed = [each for each in error.failures.items() if each[1].exitcode < 0 and each[1].exitcode != -signal.SIGTERM]
    if killed:
        rank, failure = min(killed, key=lambda each: each[1].timestamp)
    code = failure.exitcode
    if code == USER_ERROR_CODE:
        return code
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
    sys.stderr.write(
        f"nasfarm: process {rank} of {processes} {how}, so all have ended; the same command resumes what is stored\n"
    )
    return 128 - code if code < 0 else code
