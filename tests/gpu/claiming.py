"""Evaluators of a host share its GPUs: by the real nvidia-smi."""

import os
import shutil
import subprocess
import sys
import tempfile

from services.evaluator.gpu import CHOSEN, PROGRAM
from tests.gpu.check import Machine, SkippedError, require
from tests.support.data import ROOT


def one_for_each(machine: Machine) -> str:
    """As many processes as there are GPUs get one each, and one more is refused."""
    machine.require_gpu("none can be claimed")
    if shutil.which(PROGRAM) is None:
        raise SkippedError(f"{PROGRAM} is not installed")
    listed = subprocess.run([PROGRAM, "--list-gpus"], capture_output=True, text=True, check=True)
    count = sum(line.startswith("GPU") for line in listed.stdout.splitlines())
    environment = {key: value for key, value in os.environ.items() if key != CHOSEN}
    processes = []
    with tempfile.TemporaryDirectory() as locks:
        try:
            lines = []
            for _ in range(count):
                processes.append(_claiming(locks, environment))
                assert processes[-1].stdout is not None
                lines.append(processes[-1].stdout.readline().split())
            claimed = {line[0] for line in lines if len(line) == 2 and line[0] == line[1]}
            require(len(claimed) == count, f"{count} GPUs are listed, processes have claimed {lines}")
            processes.append(_claiming(locks, environment))
            _, said = processes[-1].communicate(timeout=60)
            require(processes[-1].returncode == 1 and "no GPU is free" in said, f"one more was not refused: {said!r}")
        finally:
            for process in processes:
                process.kill()
                process.communicate()
    return f"{count} claimed by as many processes, one more was refused"


def _claiming(locks: str, environment: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.claiming", locks],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
