"""How often the report items were looked at: every look is another chance for luck, so reports count them."""

from dataclasses import dataclass

from services.coordinator.front import ReportedNetworks
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from shared.digest import digest_json

LOOK = "report items looked at: "


@dataclass(frozen=True)
class Looks:
    """`networks`: how many different ones were ever measured on the report items, controls included; `fronts`: of how
    many fronts that was, one for each budget whose front was reported."""

    networks: int
    fronts: int


def note_look(networks: ReportedNetworks, history: History) -> None:
    """Note that these networks are going to be measured on the report items. The same ones again are the same look."""
    asked = sorted(request.identity for request in networks.on_report_items)
    history.note(LOOK + digest_json(asked), asked)


def count_looks(plan: SearchPlan, networks: ReportedNetworks, history: History) -> Looks:
    """How often the report items were looked at so far.

    What releases that noted nothing measured is found among the networks of the search and of this report, and counts
    as one more front.
    """
    noted = {key: value for key, value in history.about().items() if key.startswith(LOOK)}
    known = {identity for asked in noted.values() for identity in asked}
    possible = {plan.request(candidate.architecture, "report").identity for candidate in history.candidates()}
    possible |= {request.identity for request in networks.on_report_items}
    before = {identity for identity in possible - known if history.knows(identity)}
    fronts = sum(any(map(history.knows, asked)) for asked in noted.values())  # one may have been interrupted at once
    return Looks(sum(map(history.knows, known)) + len(before), fronts + bool(before))
