"""Health of a service's connection to the broker."""

import time
from collections.abc import Mapping

from shared.broker import Broker
from shared.telemetry.server import Check

PUMP_SECONDS = 60
"""The connection's thread says every second that it lives; after so long a silence only a restart helps."""


def live_checks(broker: Broker) -> Mapping[str, Check]:
    """For `/healthz`: whether the connection's thread lives; the connection itself may be away."""

    def silence() -> str | None:
        silent = time.monotonic() - broker.pumped_at
        return f"its thread has been silent for {silent:.0f} s" if silent > PUMP_SECONDS else None

    return {"connection": silence}


def ready_checks(broker: Broker) -> Mapping[str, Check]:
    """For `/readyz`: whether there is a connection just now."""
    return {"broker": lambda: None if broker.connected else "not connected"}
