"""A search tells everybody how far it has got."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from services.coordinator.progress import Progress
from shared.announcements import ANNOUNCE_SECONDS
from shared.broker import Broker, BrokerClosedError, BrokerError


@contextmanager
def announcing(broker: Broker, progress: Progress) -> Iterator[None]:
    """Announce the search every ANNOUNCE_SECONDS and when its state changes; at the end how it ended: finished, or
    stopped by an exception.

    On a thread of its own: a strategy may think for longer than that.
    """
    ended, changed = threading.Event(), threading.Event()

    def announce() -> None:
        broker.announce(progress.announcement().model_dump_json().encode())

    def announce_until_the_end() -> None:
        with suppress(BrokerError, BrokerClosedError):  # whoever works with the broker is told too
            while not ended.is_set():
                changed.clear()
                announce()
                changed.wait(ANNOUNCE_SECONDS)

    progress.changed = changed.set
    thread = threading.Thread(target=announce_until_the_end, name="announcing", daemon=True)
    thread.start()
    try:
        yield
        progress.ends("finished")
    except BaseException:
        progress.ends("stopped")
        raise
    finally:
        ended.set()
        changed.set()
        thread.join()
        with suppress(BrokerError, BrokerClosedError):
            announce()
