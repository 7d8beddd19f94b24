"""The end of a search: the front and what it is compared with are measured once, on items of their own."""

from services.coordinator.dispatch import Dispatcher
from services.coordinator.reported_networks import ReportedNetworks
from shared.errors import UserError
from shared.events import Events, StageBegan
from shared.messages import Failure


def measure_front(networks: ReportedNetworks, dispatcher: Dispatcher, events: Events) -> None:
    """Measure all networks of the report, each once.

    Raises UserError if one of the controls fails, without which nothing can be compared.
    """
    controls, others = networks.controls, networks.others
    events.publish(StageBegan("report", len(controls) + len(others)))
    for request, outcome in zip(controls, dispatcher.measure(controls), strict=True):
        if isinstance(outcome, Failure):
            which = "base" if request.checkpoint == networks.base.report.checkpoint else "dense"
            raise UserError(
                f"the {which} network, with which all others are compared, failed ({outcome.kind}: {outcome.reason}); "
                "nothing measured is lost: fix that and run the same command again, which tries it again"
            )
    dispatcher.measure(others, tolerant=True)
