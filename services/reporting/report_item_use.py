"""How often the report items were used: every use is another chance of a lucky result, so reports count them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.reported_networks import ReportedNetworks
from shared.digest import digest_json
from shared.messages import TaskItems

NOTE = "report items looked at: "
"""How the history's notes of this begin; histories keep it."""
FINISHED = "report items looked at for a finished network: "
"""The same of networks that were measured on them elsewhere, as a network of the front was fine-tuned further."""


@dataclass(frozen=True)
class ReportItemUse:
    """`networks`: how many different ones were ever measured on the report items, controls included; `fronts`: for how
    many fronts, one for each budget whose front was reported."""

    networks: int
    fronts: int


def record_report_item_use(networks: ReportedNetworks, history: History) -> None:
    """Record that these networks are going to be measured on the report items. The same networks again are the same
    use."""
    asked = sorted(request.identity for request in networks.on_report_items)
    history.note(NOTE + digest_json(asked), asked)


def record_use_by_finished(identities: Sequence[str], history: History) -> None:
    """Record measurements on the report items, by their identities, which were made for a finished network and aren't
    in the history: they are no front, and nothing of the report but its count."""
    history.note(FINISHED + digest_json(sorted(identities)), sorted(identities))


def count_report_item_use(plan: SearchPlan, networks: ReportedNetworks, history: History) -> ReportItemUse:
    """How often the report items were used so far.

    What was measured by releases that recorded nothing is found among the networks of the search and of this report,
    and counts as one more front.
    """
    about = history.about()
    noted = {key: value for key, value in about.items() if key.startswith(NOTE)}
    elsewhere = {identity for key, asked in about.items() if key.startswith(FINISHED) for identity in asked}
    recorded = {identity for asked in noted.values() for identity in asked}
    possible = {plan.request(candidate.architecture, "report").identity for candidate in history.candidates()}
    possible |= {request.identity for request in networks.on_report_items}
    unrecorded = {identity for identity in possible - recorded if history.knows(identity)}
    fronts = sum(any(map(history.knows, asked)) for asked in noted.values())  # one may have been interrupted at once
    known = {identity for identity in recorded if history.knows(identity)} | unrecorded
    return ReportItemUse(len(known | elsewhere), fronts + bool(unrecorded))


def networks_on_items(histories: Iterable[History], items: Collection[TaskItems]) -> int:
    """How many different networks were ever measured on some of these items, in any of the histories; the same one in
    INT8 is another."""
    return len(
        {
            (request.checkpoint.digest, request.architecture)
            for history in histories
            for request in history.measured()
            if any(task in items for task in request.spec.tasks)
        }
    )
