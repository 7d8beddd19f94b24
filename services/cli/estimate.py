"""What a search is going to cost, said before it begins."""

from dataclasses import dataclass

from services.evaluator.speed import TRAINING_COST
from shared.settings import SearchSettings
from shared.space import SearchSpace, dense, parameters

ASSUMED_TOKENS_PER_ITEM = 60
"""A question with its choices, without examples, where nothing has been read yet."""

ASSUMED_FRONT = 16


@dataclass(frozen=True)
class Estimate:
    """Seconds of the three stages."""

    training: float
    search: float
    report: float

    @property
    def total(self) -> float:
        """Seconds altogether."""
        return self.training + self.search + self.report


def estimate(
    settings: SearchSettings, space: SearchSpace, rate: float, search_tokens: int, report_tokens: int
) -> Estimate:
    """Time of a search on a machine that runs `rate` parameters times tokens per second (of the decoder's layers).

    `search_tokens` and `report_tokens` are what one network reads for one measurement.
    """
    outside = space.shape.embedding_parameters
    whole = parameters(space.shape, dense(space.shape)) - outside
    smallest = space.parameters(space.smallest()) - outside
    typical = (whole + smallest) / 2
    trained = settings.training.steps * settings.training.tokens_per_step
    return Estimate(
        training=TRAINING_COST * trained * (whole + typical) / 2 / rate,
        search=settings.search.evaluations * search_tokens * typical / rate,
        report=ASSUMED_FRONT * report_tokens * typical / rate,
    )


def assumed_tokens(settings: SearchSettings) -> tuple[int, int]:
    """Tokens of one measurement on the search and the report items, before any item was read."""
    search = sum(task.search.items for task in settings.tasks) * ASSUMED_TOKENS_PER_ITEM
    report = sum(task.report.items for task in settings.tasks) * ASSUMED_TOKENS_PER_ITEM
    return search, report
