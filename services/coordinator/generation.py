"""What is known after each generation of a search."""

from pydantic import BaseModel, ConfigDict


class GenerationRow(BaseModel):
    """The state after a generation: hypervolume of all measured so far; the predictor's quality on the batch it had not
    seen (None where there was no predictor)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int
    evaluations: int
    hypervolume: float
    predictor: str | None
    kendall_tau: float | None
    mean_absolute_error: float | None
