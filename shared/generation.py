"""What is known after each generation of a search."""

from pydantic import BaseModel, ConfigDict


class DrawnRow(BaseModel):
    """A predictor's quality on networks drawn at random, of all generations so far; as in `GenerationRow`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: int
    kendall_tau: float | None
    size_tau: float | None
    partial_tau: float | None
    mean_absolute_error: float | None
    size_error: float | None


class GenerationRow(BaseModel):
    """The state after a generation: hypervolume of all measured so far; the predictor's quality on the batch it had not
    seen (None where there was no predictor).

    Larger networks are mostly better, so most of a predictor's quality is size's: `size_tau` and `size_error` are what
    the number of parameters alone reaches, the one by ranking the batch by it, the other by a straight line through all
    networks that the predictor was fitted to. `partial_tau` is the rank correlation of predicted and measured accuracy
    at equal size. None also in histories of releases that didn't know of them.

    What a strategy chose lies along a front, where size orders nearly everything. `on_drawn` says the same of all
    networks so far that were drawn at random after there was a predictor. `estimated`: the hypervolume is that of
    estimated accuracies, not of measured ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: int
    evaluations: int
    hypervolume: float
    predictor: str | None
    kendall_tau: float | None
    mean_absolute_error: float | None
    size_tau: float | None = None
    partial_tau: float | None = None
    size_error: float | None = None
    on_drawn: DrawnRow | None = None
    estimated: bool = False
