import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest

from shared.broker import InProcessBroker
from shared.environment import Environment
from shared.telemetry.metrics import CoordinatorMetrics, EvaluatorMetrics
from shared.telemetry.server import TelemetryServer
from tests.support.prometheus import DEPLOYED, Prometheus, deployed_configuration, program, recorded_rabbitmq


def promtool(*arguments: object, given: bytes | None = None) -> None:
    command = [program("promtool"), *map(str, arguments)]
    done = subprocess.run(command, check=False, input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_deployed_configuration_and_its_rules_are_valid() -> None:
    promtool("check", "config", DEPLOYED / "prometheus.yml")
    promtool("check", "rules", DEPLOYED / "rules.yml")


def test_the_alerts_do_what_their_unit_tests_say() -> None:
    promtool("test", "rules", DEPLOYED / "rules_test.yml")


def test_every_alert_has_a_unit_test_and_says_what_to_do() -> None:
    rules = yaml.safe_load((DEPLOYED / "rules.yml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((DEPLOYED / "rules_test.yml").read_text())["tests"]
    fires = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    silent = {case["alertname"] for test in tests for case in test["alert_rule_test"] if not case.get("exp_alerts")}
    assert fires == silent == {rule["alert"] for rule in rules}
    assert all(rule["annotations"]["description"] and rule["labels"]["severity"] for rule in rules)


def test_the_port_that_is_scraped_is_the_one_that_services_serve_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NASFARM_TELEMETRY_PORT", raising=False)
    jobs = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())["scrape_configs"]
    ports = {place["port"] for job in jobs for place in job.get("dns_sd_configs", [])}
    assert ports == {Environment.read().telemetry_port}


@pytest.mark.parametrize("service", [EvaluatorMetrics, CoordinatorMetrics])
def test_promtool_finds_nothing_wrong_with_the_metrics(
    service: type[EvaluatorMetrics | CoordinatorMetrics],
) -> None:
    promtool("check", "metrics", given=generate_latest(service(InProcessBroker()).registry))


def test_an_alert_goes_from_pending_to_firing_and_back_where_no_evaluator_is_left(tmp_path: Path) -> None:
    broker = InProcessBroker()
    with ExitStack() as open_:
        evaluator, coordinator = (
            open_.enter_context(TelemetryServer(metrics(broker).registry, {}, {}, host="127.0.0.1", port=0))
            for metrics in (EvaluatorMetrics, CoordinatorMetrics)
        )
        rabbitmq = open_.enter_context(recorded_rabbitmq())
        ports = {"evaluator": evaluator.port, "coordinator": coordinator.port, "rabbitmq": rabbitmq.port}
        targets = {"trainer": list[str](), **{job: [f"127.0.0.1:{port}"] for job, port in ports.items()}}
        prometheus = open_.enter_context(Prometheus(tmp_path, deployed_configuration(tmp_path, targets)))
        prometheus.eventually(lambda: len(prometheus.query("up == 1")) == 3, "all to be scraped")
        prometheus.eventually(lambda: bool(prometheus.query("sum(rabbitmq_detailed_queue_consumers) == 2")), "queues")
        prometheus.eventually(lambda: prometheus.alerts() == {}, "the alerts of before the first scrape to end")

        rabbitmq.consumers = 0
        prometheus.eventually(lambda: prometheus.alerts() == {"NoEvaluator": "firing"}, "the alert")
        first = 'min_over_time(timestamp(ALERTS{alertname="NoEvaluator", alertstate="%s"})[5m:1s])'
        in_order = f"{first % 'pending'} < on (alertname) {first % 'firing'}"
        prometheus.eventually(lambda: bool(prometheus.query(in_order)), "the alert to have been pending first")

        rabbitmq.consumers = 1
        prometheus.eventually(lambda: prometheus.alerts() == {}, "the alert to end")
