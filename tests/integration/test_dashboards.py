import json
import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from deploy.grafana.generator import dashboards
from deploy.grafana.generator.parts import PROMETHEUS
from shared.broker import InProcessBroker
from shared.messages import Failure, ItemScores, Measurement
from shared.telemetry.metrics import STAGES, CoordinatorMetrics, EvaluatorMetrics, TrainerMetrics
from shared.telemetry.server import TelemetryServer
from tests.support.data import ROOT
from tests.support.prometheus import Prometheus, deployed_configuration, recorded_rabbitmq

GRAFANA = ROOT / "deploy" / "grafana"
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*"}


def panels() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, panel)
        for name, content in dashboards().items()
        for panel in json.loads(content)["panels"]
        if panel["type"] != "row"
    ]


def expressions() -> list[tuple[str, str]]:
    """Where it stands, and the expression with Grafana's variables filled in."""
    found = []
    for name, panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            found.append((f"{name}: {panel['title']}: {target['legendFormat']}", expression))
    return found


def work(
    evaluator: EvaluatorMetrics,
    coordinator: CoordinatorMetrics,
    trainer: TrainerMetrics,
    broker: InProcessBroker,
    step: int,
) -> None:
    """One evaluation as the services tell of it, some of them failures, and one step of a fine-tuning."""
    evaluator.is_in("computing")
    broker.publish("requests.x", b"{}")
    delivery = broker.receive("requests.x", 5)
    assert delivery is not None
    delivery.ack()
    evaluator.message_received(waited_seconds=12.0)
    scores = ItemScores(task="t", items=(0, 1), items_digest="d", metrics={}, values={}, margins=())
    measurement = Measurement(
        parameters=1,
        bytes=2,
        scores=(scores,),
        seconds=dict.fromkeys(STAGES, 1.5),
        tokens=500,
        worker="w",
        versions={},
    )
    failure = Failure(kind="out_of_memory", reason="too large")
    evaluator.answered(failure if step % 3 == 0 else measurement, seconds=8.0)
    coordinator.stored(seconds=0.003)
    coordinator.candidates(asked=2, measured=step, failed=step // 3)
    coordinator.in_flight.set(2)
    trainer.stepped(step, 10**6, {"full": 2.0, "subnet": 2.5}, tokens=1024, memory=3 * 10**9, seconds_left=3600)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrapes all services' telemetry and a recording of RabbitMQ, while evaluations go on."""
    directory = tmp_path_factory.mktemp("prometheus")
    broker = InProcessBroker()
    evaluator, coordinator, trainer = EvaluatorMetrics(broker), CoordinatorMetrics(broker), TrainerMetrics(2)
    coordinator.planned.set(1000)
    coordinator.generation.set(3)
    coordinator.hypervolume.set(0.61)
    coordinator.predicted(0.7, 0.01)
    done = threading.Event()

    def go_on() -> None:
        step = 1
        while not done.wait(0.2):
            work(evaluator, coordinator, trainer, broker, step)
            step += 1

    worker = threading.Thread(target=go_on)
    with (
        TelemetryServer(evaluator.registry, {}, {}, host="127.0.0.1", port=0) as of_evaluator,
        TelemetryServer(coordinator.registry, {}, {}, host="127.0.0.1", port=0) as of_coordinator,
        TelemetryServer(trainer.registry, {}, {}, host="127.0.0.1", port=0) as of_trainer,
        recorded_rabbitmq() as rabbitmq,
    ):
        ports = {
            "evaluator": of_evaluator.port,
            "coordinator": of_coordinator.port,
            "trainer": of_trainer.port,
            "rabbitmq": rabbitmq.port,
        }
        targets = {job: [f"127.0.0.1:{port}"] for job, port in ports.items()}
        with Prometheus(directory, deployed_configuration(directory, targets)) as running:
            worker.start()
            try:
                yield running
            finally:
                done.set()
                worker.join()


def test_the_committed_dashboards_are_those_that_the_code_writes() -> None:
    committed = {path.name: path.read_text() for path in (GRAFANA / "dashboards").iterdir()}
    assert committed == dashboards(), "make dashboards"


@pytest.mark.parametrize(("where", "expression"), expressions(), ids=[where for where, _ in expressions()])
def test_every_expression_is_valid_promql(where: str, expression: str) -> None:
    assert "$" not in expression, where
    promql_parser.parse(expression)


def test_every_expression_returns_data_from_a_real_prometheus(prometheus: Prometheus) -> None:
    missing = dict(expressions())

    def all_there() -> bool:
        for where, expression in list(missing.items()):
            if any(math.isfinite(float(series["value"][1])) for series in prometheus.query(expression)):
                del missing[where]
        return not missing

    deadline = time.monotonic() + 25
    while not all_there() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not missing


def test_the_legends_name_labels_that_the_series_have(prometheus: Prometheus) -> None:
    prometheus.eventually(lambda: bool(prometheus.query("rate(nasfarm_evaluator_items_total[10s])")), "rates")
    for name, panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "10s").replace("$instance", ".*")
            for series in prometheus.query(expression):
                labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
                assert labels <= set(series["metric"]), f"{name}: {panel['title']}"


def test_every_metric_that_is_asked_for_exists(prometheus: Prometheus) -> None:
    prometheus.eventually(lambda: len(prometheus.query("up == 1")) == 4, "all to be scraped")
    for _, expression in expressions():
        for metric in set(re.findall(r"\b(?:nasfarm|rabbitmq|process)_\w+", expression)):
            assert prometheus.query(metric), metric


def test_panels_explain_themselves_and_fit_on_the_page() -> None:
    for name, panel in panels():
        assert panel["description"].endswith("."), (name, panel["title"])
        assert panel["datasource"] == {"type": PROMETHEUS.type_val, "uid": PROMETHEUS.uid}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    identities = [(name, panel["id"]) for name, panel in panels()]
    assert len(set(identities)) == len(identities)


def test_what_is_provisioned_is_what_the_dashboards_ask_for() -> None:
    def read(path: Path) -> Any:
        return yaml.safe_load(path.read_text())

    (source,) = read(GRAFANA / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert (source["type"], source["uid"]) == (PROMETHEUS.type_val, PROMETHEUS.uid)
    scraped = read(ROOT / "deploy" / "prometheus" / "prometheus.yml")
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]
    (provider,) = read(GRAFANA / "provisioning" / "dashboards" / "nasfarm.yml")["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
