"""What KEDA asks of RabbitMQ before it decides how many evaluators there are, as it is deployed on Kubernetes."""

import time
from contextlib import closing
from urllib.parse import urlencode

from shared.broker.rabbitmq import RabbitBroker
from tests.support.kubernetes import one, overlay
from tests.support.rabbitmq import Node, RabbitFarm

PATIENCE_SECONDS = 60
"""RabbitMQ counts again every five seconds."""


def counted(farm: RabbitFarm) -> tuple[int, int]:
    """Requests, all and those in flight, by the question of KEDA's RabbitMQ scaler with `useRegex` and by the operation
    `sum`."""
    (trigger,) = one(overlay("cpu"), "ScaledObject")["spec"]["triggers"]
    asked = {"page": 1, "use_regex": "true", "pagination": "false", "page_size": 100}
    asked["name"] = trigger["metadata"]["queueName"]
    answer = farm.node.http("GET", f"/api/queues/{farm.vhost}?{urlencode(asked)}", user="monitoring")
    queues = answer["items"] if isinstance(answer, dict) else answer
    assert {queue["name"] for queue in queues} == {farm.requests}
    return sum(queue.get("messages", 0) for queue in queues), sum(
        queue.get("messages_unacknowledged", 0) for queue in queues
    )


def test_keda_counts_the_requests_that_wait_and_those_in_flight_with_the_rights_it_has(node: Node) -> None:
    farm = node.farm()
    coordinator, evaluator = (
        RabbitBroker(farm.address(user), f"autoscaling {user}") for user in ("coordinator", "evaluator")
    )
    with closing(coordinator), closing(evaluator):
        for body in (b"first", b"second", b"third"):
            coordinator.publish(farm.requests, body)
        delivery = evaluator.receive(farm.requests, PATIENCE_SECONDS)
        assert delivery is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := counted(farm)) != (3, 1):
            assert time.monotonic() < deadline, f"{found} were counted"
            time.sleep(0.5)
        delivery.ack()
