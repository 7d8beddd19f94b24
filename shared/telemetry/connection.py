"""Health of a service's connection to the broker."""

import time
from collections.abc import Mapping

from shared.broker import Broker
from shared.failure_policy import SILENT_CONNECTION_SECONDS
from shared.telemetry.server import Check


def live_checks(broker: Broker) -> Mapping[str, Check]:
    """For `/healthz`: whether the connection's thread lives; the connection itself may be away."""

    def silence() -> str | None:
        silent = time.monotonic() - broker.pumped_at
        return f"its thread has been silent for {silent:.0f} s" if silent > SILENT_CONNECTION_SECONDS else None

    return {"connection": silence}


def ready_checks(broker: Broker) -> Mapping[str, Check]:
    """For `/readyz`: whether there is a connection just now."""
    return {"broker": lambda: None if broker.connected else "not connected"}
