"""`nasfarm train` is a service as long as it trains: metrics, health, structured logs."""

import json
import re
import socket
from pathlib import Path
from urllib.request import urlopen

import pytest

from services.trainer.fine_tuning import StepReport
from services.trainer.status import TrainerStatus
from tests.support.command import Run, search_file
from tests.support.instructions import few_instructions


def test_metrics_and_health_are_served_and_events_logged(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("NASFARM_TELEMETRY_PORT", str(port))
    monkeypatch.setenv("NASFARM_LOG_FORMAT", "json")
    answers: list[tuple[str, str]] = []
    whole = TrainerStatus.stepped

    def asked(status: TrainerStatus, report: StepReport) -> None:
        whole(status, report)
        answers.append(tuple(urlopen(f"http://127.0.0.1:{port}/{at}").read().decode() for at in ("metrics", "healthz")))

    monkeypatch.setattr(TrainerStatus, "stepped", asked)
    training = {"data": few_instructions(tmp_path), "steps": 2, "tokens_per_step": 256, "calibration_tokens": 256}
    ended = run("train", search_file(tmp_path, training=training), "--runs", tmp_path / "runs")
    assert ended.code == 0, ended
    (_, _), (metrics, health) = answers
    assert health == "ok\n"
    found = dict(re.findall(r"^nasfarm_trainer_(\S+) (\S+)$", metrics, re.MULTILINE))
    assert (found["step"], found["steps_planned"], found["processes"]) == ("2.0", "2.0", "1.0")
    assert float(found['loss{network="full"}']) > 0 and float(found['loss{network="subnet"}']) > 0
    assert 0 < float(found["tokens_total"]) <= 512 and float(found["memory_bytes"]) > 2**20
    events = [json.loads(line) for line in ended.error.splitlines() if line.startswith("{")]
    assert [event["event"] for event in events] == ["fine-tuning begins", "fine-tuning advanced", "super-network made"]
    assert events[0]["telemetry_port"] == port and {event["search"] for event in events} == {"tiny"}
