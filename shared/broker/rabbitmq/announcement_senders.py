"""Who may announce what: a search is announced by its coordinator, an evaluator by itself."""

from shared.announcements import SearchAnnouncement, latest
from shared.broker.protocol import COORDINATOR, EVALUATOR
from shared.broker.reading import FORBIDDEN, UNSIGNED_VERSION


class AnnouncementSenders:
    """Tells announcements from those that pretend to be somebody else's.

    The release before didn't sign what it announced. It is believed, of a search only until that was heard signed: the
    unsigned word of an evaluator says nothing against its coordinator.
    """

    def __init__(self) -> None:
        self._signed: set[str] = set()

    def objection(self, body: bytes, sender: str) -> str | None:
        """Why something that `sender` announced ("": nobody whom the broker vouches for) isn't theirs to say; None if
        it is, or if it can't be read, and so says nothing."""
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
