"""Who measures what of a study on a farm."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import EmbeddedEvaluator
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.study.measurement import all_requests, measure_networks, missing_requests, owners
from services.coordinator.study.networks import Study
from shared.broker import InProcessBroker, requests_queue, results_queue
from shared.events import Events
from shared.messages import EvaluationRequest, EvaluationResult
from tests.support.scripted import CoordinatorConnection, request_in
from tests.support.studies import answered, close_study, make_study


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """One of which nothing is measured on its own; its super-networks have the digests `paper` and `ours`."""
    made = make_study(tmp_path, answer=lambda request: None if request.search == "smollm2-study" else answered(request))
    yield made
    close_study(made)


def test_sub_networks_are_measured_by_the_evaluators_of_their_own_super_network_all_else_by_the_first_ones(
    study: Study,
) -> None:
    broker, taken = InProcessBroker(), dict[str, list[EvaluationRequest]]()

    def turn() -> None:
        """An evaluator of each super-network answers one request."""
        for supernet in ("paper", "ours"):
            delivery = broker.receive(requests_queue(supernet), 0)
            if delivery is not None:
                request = request_in(delivery)
                taken.setdefault(supernet, []).append(request)
                result = EvaluationResult(identity=request.identity, search=request.search, outcome=answered(request))
                broker.publish(results_queue(study.settings.name), result.model_dump_json().encode())
                delivery.ack()

    events, owned = Events(HistoryRecorder(study.history)), owners(study)
    connection, evaluators = CoordinatorConnection(broker, turn), EmbeddedEvaluator(lambda: None)
    dispatcher = Dispatcher(study.settings.name, "paper", connection, study.history, events, evaluators, owners=owned)
    asked = missing_requests(study)
    measure_networks(study, dispatcher, events, owned)
    assert missing_requests(study) == []
    assert sum(map(len, taken.values())) == len(asked) == len(all_requests(study))
    assert {request.checkpoint.digest for request in taken["ours"]} == {"ours"}
    assert {"paper", "base"} < {request.checkpoint.digest for request in taken["paper"]}
    # Evaluators of both are busy from the beginning, and those of one change checkpoints as seldom as can be.
    order = [request.checkpoint.digest for request in taken["paper"]]
    changes = sum(one != other for one, other in pairwise(order))
    assert changes < 4 * len(set(order))
