"""Announces a service's state to the farm, again and again."""

import threading
from collections.abc import Callable

from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement
from shared.broker import Broker, BrokerClosedError, BrokerError
from shared.failure_policy import ANNOUNCE_SECONDS


class PeriodicAnnouncer(threading.Thread):
    """Announces what `describe` says every ANNOUNCE_SECONDS, at once after `changed`, and a last time at `stop`.

    A thread of its own: what the service does may take longer than that.
    """

    def __init__(self, broker: Broker, describe: Callable[[], EvaluatorAnnouncement | SearchAnnouncement]) -> None:
        super().__init__(name="announcer", daemon=True)
        self._broker, self._describe = broker, describe
        self._changed, self._stopping = threading.Event(), threading.Event()

    def changed(self) -> None:
        """There is something new to announce."""
        self._changed.set()

    def stop(self) -> None:
        """Announce once more, and end."""
        self._stopping.set()
        self._changed.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._announce()
                self._changed.wait(ANNOUNCE_SECONDS)
                self._changed.clear()
            self._announce()
        except (BrokerError, BrokerClosedError):  # whoever works with the broker gets it too
            return

    def _announce(self) -> None:
        self._broker.announce(self._describe().model_dump_json().encode())
