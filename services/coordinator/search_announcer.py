"""A search announces to the farm how far it has got."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.coordinator.search_status import SearchStatus
from shared.broker import Broker
from shared.periodic_announcer import PeriodicAnnouncer


@contextmanager
def announcing(broker: Broker, status: SearchStatus) -> Iterator[None]:
    """Announce the search every few seconds and when its state changes, and at the end how it ended."""
    announcer = PeriodicAnnouncer(broker, status.announcement)
    status.changed = announcer.changed
    announcer.start()
    try:
        yield
    finally:
        announcer.stop()
