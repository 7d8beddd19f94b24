import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest

from shared.broker import InProcessBroker
from shared.environment import Environment
from shared.errors import UserError
from shared.telemetry.metrics import EvaluatorMetrics
from shared.telemetry.server import Check, Pulse, TelemetryServer


def get(port: int, path: str, accept: str = "") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers["Content-Type"]


def serving(
    live: dict[str, Check] | None = None, ready: dict[str, Check] | None = None, port: int = 0
) -> TelemetryServer:
    registry = EvaluatorMetrics(InProcessBroker()).registry
    return TelemetryServer(registry, live or {}, ready or {}, host="127.0.0.1", port=port)


def test_metrics_are_served_as_prometheus_wants_them() -> None:
    with serving() as server:
        plain = get(server.port, "/metrics?x=1")
        modern = get(server.port, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert plain[0] == 200 and plain[2].startswith("text/plain") and "nasfarm_evaluator_items_total 0.0" in plain[1]
    assert modern[2].startswith("application/openmetrics-text") and modern[1].endswith("# EOF\n")


def test_health_and_readiness_are_separate_and_say_what_is_wrong() -> None:
    wrong: list[str] = []

    def connected() -> str | None:
        return wrong[0] if wrong else None

    with serving(
        live={"loop": lambda: None}, ready={"broker": connected, "super-network": lambda: "not loaded"}
    ) as server:
        wrong.append("not connected")
        assert get(server.port, "/healthz")[:2] == (200, "ok\n")
        assert get(server.port, "/readyz")[:2] == (503, "broker: not connected\nsuper-network: not loaded\n")
        wrong.clear()
        assert get(server.port, "/readyz")[:2] == (503, "super-network: not loaded\n")


def test_a_check_that_fails_itself_is_not_well() -> None:
    def broken() -> str | None:
        raise RuntimeError("no idea\nat all")

    with serving(live={"loop": broken}) as server:
        assert get(server.port, "/healthz")[:2] == (503, "loop: the check failed: no idea\n")


def test_there_is_nothing_else() -> None:
    with serving() as server:
        assert get(server.port, "/")[0] == get(server.port, "/../etc/passwd")[0] == 404


def test_a_port_in_use_is_told_in_one_line() -> None:
    with (
        serving() as server,
        pytest.raises(UserError, match=r"^can't serve metrics at 127.0.0.1:\d+: .*in use") as caught,
    ):
        serving(port=server.port)
    assert "\n" not in str(caught.value)


def test_a_host_that_doesn_t_exist_is_told_in_one_line() -> None:
    registry = EvaluatorMetrics(InProcessBroker()).registry
    with pytest.raises(UserError, match="NASFARM_TELEMETRY_HOST"):
        TelemetryServer(registry, {}, {}, host="203.0.113.1", port=0)


def test_after_leaving_nothing_listens_and_no_thread_is_left() -> None:
    with serving() as server:
        port = server.port
        assert get(port, "/healthz")[0] == 200
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    assert "telemetry" not in {thread.name for thread in threading.enumerate()}


def test_a_client_that_says_nothing_keeps_nobody_waiting() -> None:
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=5):
        assert get(server.port, "/healthz")[0] == 200  # leaving, with the client still there, must end too


def test_scrapes_at_the_same_time_are_all_answered() -> None:
    answers: list[int] = []
    with serving() as server:
        threads = [
            threading.Thread(target=lambda: answers.append(get(server.port, "/metrics")[0]), daemon=True)
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert answers == [200] * 8


def ticking(times: list[float]) -> Callable[[], float]:
    return lambda: times[0]


def test_a_pulse_is_wrong_once_it_has_been_silent_for_too_long() -> None:
    now = [100.0]
    pulse = Pulse("I/O loop", limit_seconds=30, clock=ticking(now))
    now[0] = 1000
    assert pulse() is None  # it hasn't begun
    pulse.beat()
    now[0] += 30
    assert pulse() is None
    now[0] += 1
    assert pulse() == "I/O loop: nothing for 31 s, 30 s are allowed"
    pulse.beat()
    assert pulse() is None


def test_a_pulse_that_rests_is_never_late() -> None:
    now = [0.0]
    pulse = Pulse("evaluation", limit_seconds=1, clock=ticking(now))
    pulse.beat()
    pulse.rest()
    now[0] = 1e6
    assert pulse() is None


def test_a_pulse_beats_in_real_time_by_default() -> None:
    pulse = Pulse("evaluation", limit_seconds=-1)
    pulse.beat()
    time.sleep(0.001)
    assert pulse() is not None


def test_the_environment_says_where_to_serve_and_how_to_log(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TELEMETRY_HOST", "TELEMETRY_PORT", "LOG_FORMAT"):
        monkeypatch.delenv(f"NASFARM_{name}", raising=False)
    environment = Environment.read()
    assert (environment.telemetry_host, environment.telemetry_port, environment.log_format) == (
        "127.0.0.1",
        9464,
        "auto",
    )
    monkeypatch.setenv("NASFARM_TELEMETRY_HOST", "::")
    monkeypatch.setenv("NASFARM_TELEMETRY_PORT", "0")
    monkeypatch.setenv("NASFARM_LOG_FORMAT", "json")
    environment = Environment.read()
    assert (environment.telemetry_host, environment.telemetry_port, environment.log_format) == ("::", 0, "json")


@pytest.mark.parametrize(
    ("variable", "value"),
    [("NASFARM_TELEMETRY_PORT", "70000"), ("NASFARM_TELEMETRY_PORT", "http"), ("NASFARM_LOG_FORMAT", "xml")],
)
def test_a_variable_of_telemetry_that_makes_no_sense_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match=f"^{variable}: must be .*; correct the variable or unset it$"):
        Environment.read()
