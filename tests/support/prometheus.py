"""A real Prometheus for tests, and a RabbitMQ to be scraped that only remembers what one said."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from tests.support.data import ROOT

DEPLOYED = ROOT / "deploy" / "prometheus"
PATIENCE_SECONDS = 30


def program(name: str) -> str:
    """Where a program of Prometheus lies; skips the test where it is missing, fails it under CI."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is missing: `make test` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def deployed_configuration(directory: Path, targets: Mapping[str, list[str]]) -> Path:
    """What is deployed, hurried: every second instead of every ten, alerts pending for two seconds instead of minutes.

    `targets` are the addresses of each job, in place of names that only the deployment knows.
    """
    rules = yaml.safe_load((DEPLOYED / "rules.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        if "for" in rule:
            rule["for"] = "2s"
    (directory / "rules.yml").write_text(yaml.safe_dump(rules))
    configuration = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    for job in configuration["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


class Prometheus:
    """A process of its own on loopback, with a configuration, until the context is left."""

    def __init__(self, directory: Path, configuration: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self._log = directory / "prometheus.log"
        self._command = [
            program("prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        try:
            self.eventually(self._ready, "Prometheus to be ready")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query: `metric` (its labels) and `value` (time, number as text) each."""
        found: list[dict[str, Any]] = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))[
            "result"
        ]
        return found

    def alerts(self) -> dict[str, str]:
        """State of each alert that is pending or firing."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self._get("/api/v1/alerts")["alerts"]}

    def eventually(self, happens: Callable[[], bool], what: str) -> None:
        """Wait until something happens. Fails the test, with Prometheus's log, if it doesn't."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not happens():
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail(f"waited in vain for {what}\n{self._log.read_text()[-3000:]}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self._url + path, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                pytest.fail(f"{urllib.parse.unquote_plus(path)}: {error.read().decode()}")


@dataclass
class RecordedRabbitMQ:
    """What RabbitMQ 3.10.8 answered at /metrics/detailed, recorded with three quorum queues; its numbers may be set."""

    port: int = 0
    ready: int = 3
    unacknowledged: int = 2
    consumers: int = 2

    def exposition(self) -> str:
        """The families queue_coarse_metrics and queue_consumer_count."""
        requests = f"requests.{'3f9c0a51' * 8}"
        lines = []
        for name, help_text, number, others in (
            ("queue_messages_ready", "Messages ready to be delivered to consumers", self.ready, 1),
            (
                "queue_messages_unacked",
                "Messages delivered to consumers but not yet acknowledged",
                self.unacknowledged,
                0,
            ),
            ("queue_consumers", "Consumers on a queue", self.consumers, 0),
        ):
            lines += [f"# TYPE rabbitmq_detailed_{name} gauge", f"# HELP rabbitmq_detailed_{name} {help_text}"]
            for queue, value in ((requests, number), ("dead-letters", others), ("results.smollm2", others)):
                lines.append(f'rabbitmq_detailed_{name}{{vhost="/",queue="{queue}"}} {value}')
        return "\n".join(lines) + "\n"


@contextmanager
def recorded_rabbitmq() -> Iterator[RecordedRabbitMQ]:
    """Serves the recording on loopback, to whoever asks for just the families that were recorded."""
    recorded = RecordedRabbitMQ()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            families = set(parse_qs(asked.query).get("family", []))
            known = asked.path == "/metrics/detailed" and families == {"queue_coarse_metrics", "queue_consumer_count"}
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(recorded.exposition().encode() if known else b"")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        recorded.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield recorded
        server.shutdown()
        thread.join()
