"""What a search does wherever its networks are measured: its plan, its history, its stages and its report."""

import importlib.metadata
from contextlib import closing

from services.application.run_directory import RunDirectory
from services.application.search_events import ReportWritten
from services.application.supernet_store import Supernet
from services.coordinator.dispatch import Dispatcher
from services.coordinator.evaluators import Evaluators
from services.coordinator.front_measurement import measure_front
from services.coordinator.history import History, another_search
from services.coordinator.plan import SearchPlan, difference_of_rules
from services.coordinator.recorder import HistoryRecorder
from services.coordinator.reported_networks import ReportedNetworks
from services.coordinator.search import measure_costs, run_search
from services.reporting.report_files import write_report
from services.reporting.report_item_use import record_report_item_use
from shared.broker import Broker
from shared.errors import UserError
from shared.events import Events, SearchFinished, SearchStopped
from shared.manifest import SupernetManifest, read_network, search_space
from shared.messages import CheckpointRef, Dtype
from shared.settings import SearchSettings


def open_search(
    settings: SearchSettings,
    run: RunDirectory,
    supernet: Supernet,
    base: CheckpointRef,
    automatic: Dtype,
) -> tuple[SearchPlan, History]:
    """The search's plan and its history, begun or to be resumed. `automatic` as for `search_dtype`.

    Raises UserError if the run's history belongs to another search.
    """
    orders = supernet.manifest.orders_of(settings.space.depth_rules)
    plan = SearchPlan(
        settings=settings,
        space=search_space(read_network(supernet.directory), settings.space, orders),
        supernet=CheckpointRef(location=str(supernet.directory.absolute()), digest=supernet.manifest.digest),
        base=base,
        dtype=search_dtype(settings, run, automatic),
    )
    _refuse_other_orders(plan, run)
    history = History.create_or_resume(run.history, plan.about())
    history.note("provenance", _provenance(supernet.manifest))
    return plan, history


def _refuse_other_orders(plan: SearchPlan, run: RunDirectory) -> None:
    """Of one super-network orders are others where the search file asks for other rules, which is then said."""
    if not run.history.is_file():
        return
    with closing(History.read(run.history)) as history:
        begun, asked = history.about()["recipe"], plan.recipe
        if begun["supernet"] != asked["supernet"] or begun["drop_order"] == asked["drop_order"]:
            return
        found = difference_of_rules(history, plan.settings)
    if found is not None:
        raise another_search(run.history, found)


def search_dtype(settings: SearchSettings, run: RunDirectory | None, automatic: Dtype) -> Dtype:
    """What the networks of a search are computed in: what the search file says; where that is `auto`, what the run's
    search began with, wherever that was, so that it is decided once; where none has begun, or there is no run yet,
    `automatic`."""
    if settings.dtype != "auto":
        return settings.dtype
    return (None if run is None else _recorded_dtype(run)) or automatic


def search_to_report(
    plan: SearchPlan, history: History, broker: Broker, evaluators: Evaluators, run: RunDirectory, events: Events
) -> None:
    """Everything from the first measurement to the report, or what the history lacks of it."""
    events.subscribe(HistoryRecorder(history), first=True)
    try:
        _search_to_report(plan, history, broker, evaluators, run, events)
    except BaseException:
        events.publish(SearchStopped())
        raise
    events.publish(SearchFinished())


def _search_to_report(
    plan: SearchPlan, history: History, broker: Broker, evaluators: Evaluators, run: RunDirectory, events: Events
) -> None:
    dispatcher = Dispatcher(plan.settings.name, plan.supernet.digest, broker, history, events, evaluators)
    costs = measure_costs(plan, history, dispatcher, events)
    front = run_search(plan, costs, history, dispatcher, events)
    networks = ReportedNetworks(plan, costs, front)
    record_report_item_use(networks, history)
    measure_front(networks, dispatcher, events)
    events.publish(ReportWritten(write_report(plan, history, front, run.path), run))


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
