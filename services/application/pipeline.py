"""What a search does wherever its networks are measured: its plan, its history, its stages and its report."""

import importlib.metadata
from contextlib import closing
from typing import Protocol

from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet
from services.coordinator.dispatch import Dispatcher
from services.coordinator.front_measurement import measure_front
from services.coordinator.history import History
from services.coordinator.plan import SearchPlan
from services.coordinator.reported_networks import ReportedNetworks
from services.coordinator.results import cost_tables
from services.coordinator.search import Observer, measure_costs, run_search
from services.reporting.report_data import ReportContent
from services.reporting.report_files import write_report
from services.reporting.report_item_use import record_report_item_use
from shared.errors import UserError
from shared.manifest import SupernetManifest, read_network, search_space
from shared.messages import CheckpointRef, CostTable, Dtype
from shared.settings import SearchSettings


class Display(Observer, Protocol):
    """Who shows the user how a search gets on. Stages follow each other: costs, search, report."""

    def measures_costs(self) -> None:
        """What parts of a network cost is being measured."""

    def searches(self, total: int, tables: tuple[CostTable, ...]) -> None:
        """The search proper begins: `total` networks, with these costs."""

    def reports(self, total: int) -> None:
        """The front is going to be measured: `total` requests."""

    def finished(self, content: ReportContent, run: RunDirectory) -> None:
        """All is measured and written down."""


def open_search(
    settings: SearchSettings,
    run: RunDirectory,
    supernet: Supernet,
    base: CheckpointRef,
    dtype: Dtype,
) -> tuple[SearchPlan, History]:
    """The search's plan and its history, begun or to be continued. `dtype` is what `auto` means where it begins.

    Raises UserError if the run's history belongs to another search.
    """
    # `auto` is decided once: a search goes on with what it began with, wherever that is.
    decided = (_recorded_dtype(run) or dtype) if settings.dtype == "auto" else settings.dtype
    plan = SearchPlan(
        settings=settings,
        space=search_space(read_network(supernet.directory), settings.space, supernet.manifest.drop_order),
        supernet=CheckpointRef(location=str(supernet.directory.absolute()), digest=supernet.manifest.digest),
        base=base,
        dtype=decided,
    )
    history = History.create_or_resume(run.history, plan.about())
    history.note("provenance", _provenance(supernet.manifest))
    return plan, history


def search_to_the_end(
    plan: SearchPlan, history: History, farm: Dispatcher, run: RunDirectory, display: Display
) -> ReportContent:
    """Everything from the first measurement to the report, or what the history lacks of it."""
    if plan.settings.serving is not None:
        display.measures_costs()
    costs = measure_costs(plan, history, farm)
    total = min(max(plan.settings.search.evaluations, history.asked()), plan.space.networks)
    display.searches(total, cost_tables(plan, history))
    front = run_search(plan, costs, history, farm, display)
    networks = ReportedNetworks(plan, costs, front)
    record_report_item_use(networks, history)
    display.reports(len(networks.controls) + len(networks.others))
    measure_front(networks, farm, display.measured)
    content = write_report(plan, history, front, run.path)
    display.finished(content, run)
    return content


def _provenance(manifest: SupernetManifest) -> dict[str, str]:
    """What the report says of the fine-tuning and of the libraries that decide the search."""
    losses = ", ".join(f"{network} {loss:.3f}" for network, loss in manifest.losses.items())
    return {
        "Training data, digest": manifest.data["digest"],
        "Losses at the end": losses or "not fine-tuned",
        **{f"Fine-tuned with {name}": version for name, version in manifest.versions.items()},
        **{f"Searched with {name}": importlib.metadata.version(name) for name in ("numpy", "pymoo", "scikit-learn")},
    }


def _recorded_dtype(run: RunDirectory) -> Dtype | None:
    """What the run's search began with; None if it has not begun, or was killed while it began."""
    try:
        with closing(History.read(run.history)) as history:
            dtype: Dtype = history.about()["recipe"]["dtype"]
    except UserError:
        return None
    return dtype
