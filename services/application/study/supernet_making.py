"""The super-networks of a study, made as those of searches; what goes wrong names the study file's keys."""

from services.application.enough_memory import enough_memory
from services.application.prepared_search import PreparedSearch
from services.application.supernet_store import Supernet
from services.application.supernet_training import fine_tune
from services.trainer.fine_tuning import DivergedError
from shared.errors import UserError
from shared.events import Events


def made_supernet(name: str, first: PreparedSearch, events: Events) -> Supernet:
    """The super-network of a search, which the study calls so, made where it isn't there yet. Raises UserError where
    its fine-tuning diverges, and where memory runs out."""
    try:
        with enough_memory(f"supernets.{name}", f"lower supernets.{name}.training.tokens_per_step"):
            return first.supernet or fine_tune(first, events)
    except DivergedError as error:
        raise UserError(f"supernets.{name}.{error}") from error
