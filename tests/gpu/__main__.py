"""Does this machine's GPU compute what it should, and how fast? `python -m tests.gpu [NAME ...]`, or `make test-gpu`.

One table, a line for each check as soon as it is done. Exits with 1 where an answer was wrong or a check failed, and
where there is no GPU if CI=true. NAMEs are parts of checks' names; `--tiny` does on a CPU, with tiny networks, what of
it can be done there: it says nothing about speed.
"""

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import torch
import transformers

from shared.supernet.device import device_name
from tests.gpu import attention, claiming, decoding, int8, memory, scores, subnets, training
from tests.gpu.check import Check, Machine, Outcome, SkippedError, Verdict, WrongAnswerError

SECONDS = 450
"""All checks together: what hasn't begun by then is skipped."""

CHECKS = (
    Check("GPUs are claimed", claiming.one_for_each, 40),
    Check("FlexAttention, compiled", attention.compiled_kernel, 150),
    Check("scores in float32", scores.in_float32, 150),
    Check("scores in bfloat16", scores.in_bfloat16, 60),
    Check("steps of fine-tuning", training.same_as_a_cpu, 40),
    Check("AdamW in 8 bits", training.states_of_8_bits, 20),
    Check("tokens of decoding", decoding.greedy_tokens, 40),
    Check("LLM.int8()", int8.sizes_and_logits, 30),
    Check("memory runs out", memory.runs_out, 40),
    Check("7B: 20 networks scored", subnets.twenty_of_7b, 120),
    Check("7B: decoding", decoding.speed_of_7b, 60),
    Check("7B: fine-tuned, leanest", training.leanest_7b, 60),
    Check("1B: fine-tuned, full", training.full_1b, 40),
    Check("1B: fine-tuned, lean", training.lean_1b, 40),
    Check("7B: fine-tuned, lean", training.lean_7b, 60),
)


class OvertimeError(Exception):
    """A check that takes longer than it may."""


def main(arguments: Sequence[str]) -> int:
    """Do the checks that are asked for, print their table, and say with what to exit."""
    tiny = "--tiny" in arguments
    names = [argument for argument in arguments if argument != "--tiny"]
    if not tiny and not torch.cuda.is_available():
        print("test-gpu: skipped, torch sees no GPU here")
        return int(os.environ.get("CI") == "true")
    _settle()
    machine = Machine(torch.device("cpu" if tiny else "cuda"), tiny)
    print(f"{device_name(machine.device)}; torch {torch.__version__}, transformers {transformers.__version__}")
    print("nasfarm as its sources are here, with the packages that are here, whatever it pins\n")
    print(f"{'check':26}{'':9}{'seconds':>7}  what was found", flush=True)
    asked = [check for check in CHECKS if not names or any(name in check.name for name in names)]
    outcomes = list(outcomes_of(asked, machine))
    bad = [outcome.name for outcome in outcomes if outcome.verdict in ("WRONG", "FAILED")]
    skipped = sum(outcome.verdict == "skipped" for outcome in outcomes)
    print(f"\n{len(outcomes) - len(bad) - skipped} right, {len(bad)} not, {skipped} skipped")
    return int(bool(bad) or not outcomes)


def outcomes_of(checks: Sequence[Check], machine: Machine, seconds: float = SECONDS) -> Iterator[Outcome]:
    """Do the checks one after the other, and print a line for each."""
    ends = time.monotonic() + seconds
    for check in checks:
        outcome = outcome_of(check, machine, ends - time.monotonic())
        print(f"{outcome.name:26}{outcome.verdict:9}{outcome.seconds:7.1f}  {outcome.said}", flush=True)
        yield outcome
        with suppress(RuntimeError):  # of a GPU that has failed for good, as each further check then says
            machine.empty()


def outcome_of(check: Check, machine: Machine, left: float) -> Outcome:
    """Do a check, in the time that it may take and that is left."""
    began = time.monotonic()
    if left < check.seconds / 4:
        return Outcome(check.name, "skipped", 0.0, f"{max(left, 0):.0f} s are left, it may take {check.seconds} s")
    verdict: Verdict
    try:
        with _at_most(min(left, check.seconds)):
            verdict, said = "ok", check.run(machine)
    except SkippedError as error:
        verdict, said = "skipped", str(error)
    except WrongAnswerError as error:
        verdict, said = "WRONG", str(error)
    except OvertimeError:
        verdict, said = "FAILED", f"not done in {min(left, check.seconds):.0f} s"
    except Exception as error:  # whatever it is, the other checks are still worth doing
        verdict, said = "FAILED", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return Outcome(check.name, verdict, time.monotonic() - began, said)


def _settle() -> None:
    """Nothing is printed but the table."""
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise OvertimeError within, as soon as Python gets to it."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise OvertimeError

    former = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
