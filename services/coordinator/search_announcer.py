"""A search announces to the farm how far it has got."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.coordinator.search_status import SearchStatus
from shared.broker import Broker
from shared.events import Events, SearchStopped
from shared.periodic_announcer import PeriodicAnnouncer


@contextmanager
def announcing(broker: Broker, status: SearchStatus, events: Events) -> Iterator[None]:
    """Announce the search every few seconds and when its state changes; at the end how it ended, which is stopped where
    an exception ends it."""
    announcer = PeriodicAnnouncer(broker, status.announcement)
    status.changed = announcer.changed
    announcer.start()
    try:
        yield
    except BaseException:
        events.publish(SearchStopped())
        raise
    finally:
        announcer.stop()
