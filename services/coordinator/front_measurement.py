"""The end of a search: the front and what it is compared with are measured once, on items of their own."""

from services.coordinator.batch import Observed
from services.coordinator.dispatch import Dispatcher
from services.coordinator.reported_networks import ReportedNetworks
from shared.errors import UserError
from shared.messages import Failure


def measure_front(networks: ReportedNetworks, farm: Dispatcher, observed: Observed) -> None:
    """Measure all networks of the report, each once.

    Raises UserError if one of the controls fails, without which nothing can be compared.
    """
    controls, others = networks.controls, networks.others
    farm.progress.begins("reporting", len(controls) + len(others))
    counting = farm.progress.counting(observed)
    for request, outcome in zip(controls, farm.measure(controls, counting), strict=True):
        if isinstance(outcome, Failure):
            which = "base" if request.checkpoint == networks.base.report.checkpoint else "dense"
            raise UserError(
                f"the {which} network, with which all others are compared, failed ({outcome.kind}: {outcome.reason}); "
                "nothing measured is lost: fix that and run the same command again, which tries it again"
            )
    farm.measure(others, counting, tolerant=True)
