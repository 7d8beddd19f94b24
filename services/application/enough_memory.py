"""Memory that runs out while networks are made: known beforehand only about."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.evaluator.memory import is_out_of_memory
from shared.errors import UserError, first_line


@contextmanager
def enough_memory(what: str, remedy: str) -> Iterator[None]:
    """Raises UserError where memory runs out: while `what` was made, and what can be done besides having more."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"{what}: memory ran out ({first_line(error)}); nothing that was finished is lost: run the same command "
            f"with more memory, or {remedy}"
        ) from error
