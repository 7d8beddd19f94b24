"""An asynchronous search on a real broker, with evaluators of unequal speed, of which the coordinator is killed."""

from contextlib import closing
from pathlib import Path

import yaml

from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.results import evaluated_so_far
from shared.settings import read_search_file
from tests.integration.test_killed_search import stored
from tests.support.farm import PretendedFarm
from tests.support.rabbitmq import Node
from tests.support.replayed import asks, proposals


def test_a_killed_coordinator_continues_with_what_arrived_while_it_was_away(node: Node, tmp_path: Path) -> None:
    farm = PretendedFarm(node.farm(), tmp_path)
    try:
        file, run = tmp_path / "one.yaml", farm.runs / "one"
        values = yaml.safe_load(file.read_text())
        values["search"] |= {"population": 4, "asynchronous": True}
        file.write_text(yaml.safe_dump(values))
        farm.evaluator("--seconds", "0.02")
        farm.evaluator("--seconds", "0.1:0.3")
        search = farm.search("one")
        farm.wait(lambda: stored(run) >= 9, "one")
        search.kill()
        search.wait()
        assert farm.ended(farm.search("one"), "one") == 0, farm.log_of("one").read_text()
        with closing(History.read(run / "history.sqlite")) as history:
            plan = plan_of(history, read_search_file(file))
            assert asks(history) == proposals(plan, history)
            assert len(asks(history)) > 24 / 4 and len(evaluated_so_far(plan, history)) == history.asked() == 24
            assert [row.evaluations for row in history.generations()] == [4, 8, 12, 16, 20, 24]
            identities = [arrival.identity for arrival in history.arrivals(0)]
            assert len(identities) == len(set(identities))
            searched = {plan.request(one.architecture, "search").identity for one in history.candidates()}
            arrived = [identity for identity in identities if identity in searched]
            assert arrived != [one.identity for one in history.candidates()]  # no evaluator waited for the slower one
        assert "</html>" in (run / "report.html").read_text()
    finally:
        farm.end()
