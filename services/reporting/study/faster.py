"""Whether the smaller network is faster: the one claim that is about measured throughput, not about items."""

from collections.abc import Sequence

from services.reporting import wording
from services.reporting.report_data import SpeedRow
from services.reporting.study.compared import Beside
from services.reporting.study.marks import size_in_words
from services.reporting.study.study_data import FAILS, HOLDS, OPEN, Claim, FrontRow, StudyFront, Verdict

PHASES = ("prefill", "decode")
Tokens = tuple[float, float, float]
"""Tokens per second: median, least, most of the repeats."""


def faster(beside: Beside, front: StudyFront, sizes: Sequence[float]) -> Claim:
    """Judge a front whose throughput was measured, at each size by the network that was chosen there, or, if this was
    not timed, by the timed one that is nearest to it in parameters; with its true size.

    A phase is faster if all its repeats are faster than all of the dense network, not faster if none is faster than
    any. The claim holds if both phases are faster at every size; it does not hold if one is not faster; otherwise, or
    where something was not timed, it can't be told.
    """
    dense = next((row for row in front.controls if row.name == "dense"), None)
    verdicts, said, missing = list[Verdict](), list[str](), list[str]()
    for size in sizes:
        row = _timed(beside, front, size)
        if row is None or row.speed is None or dense is None or dense.speed is None:
            missing.append(f"a smaller network's or the dense one's throughput at {size:g}x")
            continue
        verdicts += [_verdict(mine, theirs) for mine, theirs in _phases(row.speed, dense.speed)]
        said.append(_said(row, row.speed, dense.speed, size))
    return Claim(
        key="faster",
        statement=f"On {front.chosen_on} the smaller network is faster than the dense one",
        supernet=front.supernet,
        verdict=_together(verdicts, bool(missing)),
        evidence=" ".join(
            [*([f"{'; '.join(said)}."] if said else []), *([f"Not measured: {', '.join(missing)}."] if missing else [])]
        ),
        comparisons=(),
        power="the repeats of both overlap" if OPEN in verdicts else "",
    )


def _timed(beside: Beside, front: StudyFront, size: float) -> FrontRow | None:
    """The network of a size; None if none that is smaller than the dense one was timed."""
    whole = beside.answers.base_parameters()
    rows = [row for row in front.rows if row.speed is not None and row.true_times_smaller > 1]
    chosen = beside.chosen(front.supernet, front.chosen_on, size)
    same = next((row for row in rows if chosen is not None and row.architecture == chosen.architecture), None)
    if same is not None or whole is None:
        return same
    target = (chosen and beside.answers.parameters(chosen)) or whole / size
    return min(rows, key=lambda row: abs(row.parameters - target), default=None)


def _phases(mine: SpeedRow, theirs: SpeedRow) -> list[tuple[Tokens, Tokens]]:
    return [(getattr(mine, phase), getattr(theirs, phase)) for phase in PHASES]


def _verdict(mine: Tokens, theirs: Tokens) -> Verdict:
    if mine[1] > theirs[2]:
        return HOLDS
    return FAILS if mine[2] <= theirs[1] else OPEN


def _together(verdicts: Sequence[Verdict], incomplete: bool) -> Verdict:
    if FAILS in verdicts:
        return FAILS
    return OPEN if incomplete or OPEN in verdicts or not verdicts else HOLDS


def _said(row: FrontRow, mine: SpeedRow, theirs: SpeedRow, size: float) -> str:
    phases = (
        f"{phase} {one[0] / other[0]:.2f} times the dense one's ({wording.rate(one)} against {wording.rate(other)} "
        "tokens/s)"
        for phase, (one, other) in zip(PHASES, _phases(mine, theirs), strict=True)
    )
    return f"At {size:g}x, {row.name} ({size_in_words(row.parameters, row.true_times_smaller)}): {', '.join(phases)}"
