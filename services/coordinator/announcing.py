"""A search tells everybody how far it has got."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.coordinator.progress import Progress
from shared.broker import Broker
from shared.periodic_announcer import PeriodicAnnouncer


@contextmanager
def announcing(broker: Broker, progress: Progress) -> Iterator[None]:
    """Announce the search every few seconds and when its state changes; at the end how it ended: finished, or stopped
    by an exception."""
    announcer = PeriodicAnnouncer(broker, progress.announcement)
    progress.changed = announcer.changed
    announcer.start()
    try:
        yield
        progress.ends("finished")
    except BaseException:
        progress.ends("stopped")
        raise
    finally:
        announcer.stop()
