"""Tells everybody in the farm, again and again, what a service does."""

import threading
from collections.abc import Callable

from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement
from shared.broker import Broker, BrokerClosedError, BrokerError
from shared.policy import ANNOUNCE_SECONDS


class PeriodicAnnouncer(threading.Thread):
    """Announces what `describe` says every ANNOUNCE_SECONDS, at once after `changed`, and a last time at `stop`.

    A thread of its own: what the service does may take longer than that.
    """

    def __init__(self, broker: Broker, describe: Callable[[], EvaluatorAnnouncement | SearchAnnouncement]) -> None:
        super().__init__(name="announcer", daemon=True)
        self._broker, self._describe = broker, describe
        self._changed, self._stopping = threading.Event(), threading.Event()

    def changed(self) -> None:
        """There is something new to tell."""
        self._changed.set()

    def stop(self) -> None:
        """Tell it once more, and end."""
        self._stopping.set()
        self._changed.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._tell()
                self._changed.wait(ANNOUNCE_SECONDS)
                self._changed.clear()
            self._tell()
        except (BrokerError, BrokerClosedError):  # whoever works with the broker is told too
            return

    def _tell(self) -> None:
        self._broker.announce(self._describe().model_dump_json().encode())
