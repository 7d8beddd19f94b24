"""Metrics and health of a service over HTTP, for Prometheus and for whoever starts and stops containers."""

import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from socketserver import TCPServer
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from shared.environment import Environment
from shared.errors import UserError, first_line

Check = Callable[[], str | None]
"""Says what is wrong, or None while all is well."""

TIMEOUT_SECONDS = 10
"""How long a client may keep a connection without asking for anything."""


class Pulse:
    """A check that something happens again and again: wrong once `limit_seconds` have passed since the last `beat`.

    While it rests (as it does until the first beat) nothing is expected of it.
    """

    def __init__(self, what: str, limit_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._limit = limit_seconds
        self._clock = clock
        self._last: float | None = None

    def beat(self) -> None:
        """It has happened just now."""
        self._last = self._clock()

    def rest(self) -> None:
        """Expect nothing until the next beat."""
        self._last = None

    def __call__(self) -> str | None:
        """What is wrong, if the last beat is too old."""
        last = self._last
        if last is None or (silent := self._clock() - last) <= self._limit:
            return None
        return f"{self._what}: nothing for {silent:.0f} s, {self._limit:.0f} s are allowed"


class TelemetryServer:
    """Serves `/metrics`, `/healthz` and `/readyz` from threads of its own, from entering the context to leaving it.

    `live` are the checks of `/healthz`: where one fails, only a restart helps. `ready` are those of `/readyz`: where
    one fails, the service can't take work just now. Both answer 200, or 503 with a line for each check that fails.
    Port 0 takes any free port. Raises UserError where the address can't be had.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
        *,
        host: str,
        port: int,
    ) -> None:
        handler = type("Handler", (_Handler,), {"registry": registry, "checks": {"/healthz": live, "/readyz": ready}})
        try:
            self._server = _server_class(host)((host, port), handler)
        except OSError as error:
            raise UserError(
                f"can't serve metrics at {host}:{port}: {error.strerror or error}; set NASFARM_TELEMETRY_HOST and "
                "NASFARM_TELEMETRY_PORT to an address that is free"
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="telemetry", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def telemetry_server(
    registry: CollectorRegistry, live: Mapping[str, Check], ready: Mapping[str, Check], environment: Environment
) -> TelemetryServer:
    """The server of a service that may share its machine with others: at the port that is asked for; without one at the
    usual or, where another service has that, any other."""
    host, port = environment.telemetry_host, environment.telemetry_port
    try:
        return TelemetryServer(registry, live, ready, host=host, port=port)
    except UserError:
        if "telemetry_port" in environment.model_fields_set:
            raise
        return TelemetryServer(registry, live, ready, host=host, port=0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that keeps its connection doesn't keep us from leaving

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's asks the name server who we are, which can take seconds

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away while it is answered is no news."""


def _server_class(host: str) -> type[_Server]:
    return type("Server", (_Server,), {"address_family": AF_INET6 if ":" in host else AF_INET})


class _Handler(BaseHTTPRequestHandler):
    timeout = TIMEOUT_SECONDS
    registry: CollectorRegistry
    checks: Mapping[str, Mapping[str, Check]]

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.registry), content_type)
        elif path in self.checks:
            wrong = [f"{name}: {found}" for name, check in self.checks[path].items() if (found := _asked(check))]
            status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
            self._answer(status, "".join(f"{line}\n" for line in wrong or ["ok"]).encode())
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"There are /metrics, /healthz and /readyz.\n")

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        """Scrapes every few seconds are not worth a line."""


def _asked(check: Check) -> str | None:
    try:
        return check()
    except Exception as error:  # whatever a check can't say, it isn't that all is well
        return f"the check failed: {first_line(error)}"
