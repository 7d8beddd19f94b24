"""Who may announce what: a search is announced by its coordinator, an evaluator by itself."""

from shared.announcements import SearchAnnouncement, latest
from shared.broker.protocol import COORDINATOR, EVALUATOR
from shared.broker.reading import FORBIDDEN, UNSIGNED_VERSION


class AnnouncementSenders:
    """Finds announcements that pretend to be another service's.

    Releases of version 1 sent no user with what they announced. They are believed, of a search only until it was
    announced by its coordinator's user: without a user it may come from an evaluator.
    """

    def __init__(self) -> None:
        self._signed: set[str] = set()

    def objection(self, body: bytes, sender: str) -> str | None:
        """Why `sender` ("" where the broker verified none) may not announce this; None if it may, or if the
        announcement can't be read, and so says nothing."""
        for each in latest([body]):
            of_search = isinstance(each, SearchAnnouncement)
            user = COORDINATOR if of_search else EVALUATOR
            known = of_search and each.name in self._signed
            if sender != user and (sender or each.requests != UNSIGNED_VERSION or known):
                what = f"an announcement of {each.kind} {each.name}"
                return f"{FORBIDDEN}: {what}, from user {sender or 'unknown'}; only the {user} may"
            if of_search and sender:
                self._signed.add(each.name)
        return None
