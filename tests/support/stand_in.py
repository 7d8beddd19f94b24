"""An evaluator for tests of the farm: the real service, whose evaluations measure nothing and need no torch.

    python -m tests.support.stand_in --broker amqp://127.0.0.1:5672/nasfarm --credentials FILE --supernet DIRECTORY

What it answers is `pretend`'s measurement: a function of the request and the shape of the whole network, the same in
every process; and that it took as long as any takes, so that networks are asked for together. They take as long as one
by one. How long it takes and what goes wrong is said by options, and depends on the architecture alone too:

    --seconds 0.5:2         an evaluation takes from 0.5 to 2 seconds
    --crash 0.05            one in twenty architectures kills the process, as SIGKILL does
    --hang 3f9a             the architecture whose digest begins so is never finished
    --fail out_of_memory=0.1
    --bug 0.1               one in ten raises an exception

Shares have a point and are of all architectures, the same ones in every process with the same share; a larger share
holds those of a smaller one. Limits, the port of metrics (0 takes any) and the log's format come from the environment,
as the real evaluator's do.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from services.evaluator.progress_callback import ProgressCallback
from services.evaluator.service import serve_supernet
from services.evaluator.worker import worker_name
from shared.architecture import Architecture
from shared.broker.address import BrokerAddress
from shared.environment import Environment
from shared.manifest import SupernetManifest, read_network
from shared.messages import EvaluationRequest, EvaluationResult, Failure, FailureKind, Measurement
from shared.network.shape import NetworkShape
from shared.telemetry.logs import configure_logs
from tests.support.forked import Forked
from tests.support.one_by_one import OneByOne
from tests.support.pretending import SHAPE, chance, pretend

STEP_SECONDS = 0.05
"""An evaluation says so often that it gets on."""
REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class StandIn(OneByOne):
    """Evaluations that take from `shortest` to `longest` seconds.

    `crash`, `hang`, `bug` and `fail` (by the kind of failure) say to which architectures that happens, as `concerns`
    reads it.
    """

    shape: NetworkShape = SHAPE
    shortest: float = 0.0
    longest: float = 0.0
    crash: str = "0.0"
    hang: str = "0.0"
    bug: str = "0.0"
    fail: Mapping[FailureKind, str] = field(default_factory=dict)

    def evaluate(self, request: EvaluationRequest, progressed: ProgressCallback) -> EvaluationResult:
        architecture = request.architecture
        if concerns(self.hang, architecture):
            while True:  # a signal that comes right before a sleep is handled after it
                time.sleep(STEP_SECONDS)
        if concerns(self.crash, architecture):
            os.kill(os.getpid(), signal.SIGKILL)
        self._take_time(architecture, progressed)
        if concerns(self.bug, architecture):
            raise ZeroDivisionError("the stand-in was told so")
        return EvaluationResult(identity=request.identity, search=request.search, outcome=self._outcome(request))

    def _take_time(self, architecture: Architecture, progressed: ProgressCallback) -> None:
        spread = (self.longest - self.shortest) * chance(f"seconds {architecture.digest}")
        end = time.monotonic() + self.shortest + spread
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, STEP_SECONDS))
            progressed()

    def _outcome(self, request: EvaluationRequest) -> Measurement | Failure:
        for kind, which in self.fail.items():
            if concerns(which, request.architecture):
                return Failure(kind=kind, reason="the stand-in was told so")
        taken = {"score": self.longest}
        return pretend(request, self.shape).model_copy(update={"worker": worker_name(), "seconds": taken})


def concerns(which: str, architecture: Architecture) -> bool:
    """Whether an architecture is among those that are meant: a share of all ("0.05"), or the beginning of a digest."""
    if "." in which:
        return chance(architecture.digest) < float(which)
    return architecture.digest.startswith(which)


def start_stand_in(
    *arguments: object, log: Path, changed: Sequence[str] = (), forked: bool = False, **environment: str
) -> subprocess.Popen[bytes] | Forked:
    """Start one as a process of its own, which writes to `log` ("evaluator ready" once it takes requests). `changed`:
    the module that runs it with changes, if there is one (`tests.support.changed`); `forked`: rather off a process that
    has loaded everything (`tests.support.forked`)."""
    variables = {**os.environ, "NASFARM_TELEMETRY_PORT": "0", **environment}
    if forked and not changed:
        return Forked(main, list(map(str, arguments)), variables=variables, output=log, directory=REPOSITORY)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *changed, "tests.support.stand_in", *map(str, arguments)],
            cwd=REPOSITORY,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until told to stop, as the arguments say: by default the command line's."""
    parser = argparse.ArgumentParser(prog="stand_in", description="An evaluator that only pretends to measure.")
    parser.add_argument("--broker", required=True, help="the broker's URL")
    parser.add_argument("--credentials", type=Path, help="file that holds user:password")
    parser.add_argument("--authority", type=Path, help="certificates of who may sign the broker's")
    served = parser.add_mutually_exclusive_group(required=True)
    served.add_argument("--supernet", type=Path, help="directory of the super-network that is served")
    served.add_argument(
        "--digest", help="its digest, where there is no directory; its shape is then the tests' small one"
    )
    parser.add_argument("--seconds", default="0", help="how long an evaluation takes: SECONDS, or SHORTEST:LONGEST")
    parser.add_argument("--crash", default="0.0", help="architectures that kill the process: a share or a digest")
    parser.add_argument("--hang", default="0.0", help="architectures that are never finished")
    parser.add_argument("--bug", default="0.0", help="architectures at which an exception is raised")
    parser.add_argument("--fail", action="append", default=[], metavar="KIND=WHICH", help="architectures that fail so")
    given = parser.parse_args(arguments)
    environment = Environment.read()
    configure_logs(environment.log_format)
    digest, shape = given.digest, SHAPE
    if given.supernet is not None:
        digest, shape = SupernetManifest.read(given.supernet).digest, read_network(given.supernet)
    shortest, _, longest = given.seconds.partition(":")
    fail = dict(each.split("=", 1) for each in given.fail)
    if not fail.keys() <= set(get_args(FailureKind)):
        parser.error(f"--fail: kinds are {', '.join(get_args(FailureKind))}")
    evaluator = StandIn(
        shape,
        float(shortest),
        float(longest or shortest),
        given.crash,
        given.hang,
        given.bug,
        fail,
    )
    address = BrokerAddress.parse(given.broker, given.credentials, given.authority)
    serve_supernet(address, digest, "stand-in", evaluator, environment)


if __name__ == "__main__":
    main()
