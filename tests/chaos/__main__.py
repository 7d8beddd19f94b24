"""Faults at random times on a farm of real processes: `make chaos`, or

    python -m tests.chaos --faults 100 --seed 1

Searches are run one after the other while faults happen, and each is judged when it is done. Printed is what was done,
how long it took until results came again, and at last what was lost and doubled. Exit code 1 if anything was.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

from tests.chaos.arena import Arena, arena
from tests.chaos.faults import FAULTS
from tests.chaos.verdict import Verdict, judge
from tests.support.rabbitmq import running_node

EVALUATORS = 3
EVALUATION_SECONDS = 0.2
KILLERS = 0.005
"""Share of the networks that kill whoever evaluates them."""
EVALUATIONS, POPULATION = 300, 30
LONGEST_PAUSE = 3.0
"""Seconds of peace between faults, at most."""


def main() -> int:
    """Run, and judge. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Faults on a farm, at random times.")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    print(f"{given.faults} faults, seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
        (Path(directory) / "node").mkdir()
        with (
            running_node(Path(directory) / "node") as node,
            arena(node, Path(directory), EVALUATORS, EVALUATION_SECONDS, KILLERS) as farm,
        ):
            chaos = Chaos(farm, random.Random(given.seed))
            verdicts = chaos.run(given.faults)
    return _sum_up(farm, chaos, verdicts)


class Chaos:
    """Does harm, and watches the farm recover."""

    def __init__(self, farm: Arena, rng: random.Random) -> None:
        self._farm = farm
        self._rng = rng
        self.recovered: defaultdict[str, list[float]] = defaultdict(list)

    def run(self, faults: int) -> list[Verdict]:
        """So many faults, over as many searches as that takes; their verdicts."""
        verdicts: list[Verdict] = []
        done = 0
        while done < faults:
            number = len(verdicts)
            run = self._farm.begin(f"chaos-{number}", number, EVALUATIONS, POPULATION)
            self._farm.wait_for_results()
            while done < faults and not run.reported:
                self._one(done + 1)
                done += 1
            self._farm.finish()
            verdicts.append(judge(run, KILLERS, self._farm.directory / f"{run.name}-undisturbed"))
            print(f"     search {run.name}: {_in_words(verdicts[-1])}", flush=True)
        return verdicts

    def _one(self, number: int) -> None:
        name = self._rng.choices(list(FAULTS), [weight for _, weight in FAULTS.values()])[0]
        time.sleep(self._rng.uniform(0, LONGEST_PAUSE))
        began = time.monotonic()
        FAULTS[name][0](self._farm, self._rng)
        harmed = time.monotonic() - began
        seconds = self._farm.wait_for_results()
        self.recovered[name].append(seconds)
        print(f"{number:4} {name:30} {harmed:6.1f} s, results again after {seconds:6.1f} s", flush=True)


def _in_words(verdict: Verdict) -> str:
    failed = ", ".join(f"{count} {kind}" for kind, count in verdict.failed.items()) or "none"
    front = "the same" if verdict.same_front else "ANOTHER"
    return (
        f"{verdict.asked} networks, lost {verdict.lost}, doubled {verdict.doubled}, differing {verdict.differing}, "
        f"failed: {failed}; front: {front}"
    )


def _sum_up(farm: Arena, chaos: Chaos, verdicts: list[Verdict]) -> int:
    print(f"\n{'fault':30} {'times':>5}   recovered after, s (median, most)")
    for name, seconds in sorted(chaos.recovered.items()):
        print(f"{name:30} {len(seconds):5}   {median(seconds):6.1f} {max(seconds):6.1f}")
    counted = sum((life for run in farm.runs for life in run.counted), Counter[str]())
    print(
        f"\n{sum(map(len, chaos.recovered.values()))} faults, {len(verdicts)} searches, "
        f"{sum(verdict.asked for verdict in verdicts)} networks: "
        f"lost {sum(verdict.lost for verdict in verdicts)}, doubled {sum(verdict.doubled for verdict in verdicts)}; "
        f"at least {counted['duplicate_results']} duplicates ignored, "
        f"{counted['requests_resent']} requests sent again"
    )
    good = all(verdict.good for verdict in verdicts)
    print("nothing was harmed" if good else "SOMETHING WAS HARMED")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
