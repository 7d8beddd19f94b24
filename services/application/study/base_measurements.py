"""The untouched model is the same whatever super-network is searched: what one search measured of it, no other measures
again."""

from collections.abc import Iterable
from contextlib import closing

from services.application.pipeline import open_search
from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet
from services.coordinator.history import History
from shared.errors import UserError
from shared.messages import CheckpointRef, Dtype, EvaluationRequest, Measurement
from shared.settings import ItemsPart, SearchSettings


def take_over_base(
    settings: SearchSettings,
    run: RunDirectory,
    supernet: Supernet,
    base: CheckpointRef,
    automatic: Dtype,
    others: Iterable[RunDirectory],
) -> None:
    """Copy into a search's history, which is begun where there is none, what those of other searches say of the
    untouched model. `automatic` as for `search_dtype`. Raises UserError if the run belongs to another search."""
    plan, history = open_search(settings, run, supernet, base, automatic)
    parts: tuple[ItemsPart, ...] = ("search", "report")
    with closing(history):
        for request in (plan.base_request(part) for part in parts):
            if not isinstance(history.outcome(request.identity), Measurement):
                known = next((found for other in others if (found := _measured(other, request)) is not None), None)
                if known is not None:
                    history.add_results([(request, known)])


def _measured(run: RunDirectory, request: EvaluationRequest) -> Measurement | None:
    try:
        history = History.read(run.history)
    except UserError:  # there is none, or none yet
        return None
    with closing(history):
        outcome = history.outcome(request.identity)
        return outcome if isinstance(outcome, Measurement) else None
