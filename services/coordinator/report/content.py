"""What a report says, as data: the page, the figure and the terminal's table all draw from this."""

from pydantic import BaseModel, ConfigDict

from shared.architecture import Architecture


class Part(BaseModel):
    """Common to all parts of a report's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Comparison(Part):
    """A network against another on the same items: `difference` in accuracy (positive: better), McNemar's exact
    p-value."""

    difference: float
    p_value: float


class NetworkRow(Part):
    """One network that was measured on the report's items.

    `name` is a short label (`N1`, `N2` ... from the largest to the smallest on the front; `dense`; `base`). `bytes`
    counts the weights as they are stored; `ratio` is the dense network's bytes divided by these. Accuracies are shares
    between 0 and 1; `interval` is the 95 % Wilson interval of `report_accuracy`.
    """

    name: str
    architecture: Architecture
    narrow_mlps: int
    parameters: int
    bytes: int
    ratio: float
    search_accuracy: float | None
    report_accuracy: float
    interval: tuple[float, float]
    report_by_task: dict[str, float]
    versus_dense: Comparison | None
    versus_base: Comparison | None


class EvaluatedNetwork(Part):
    """One network that the search measured, in the order of measuring from 1."""

    number: int
    generation: int
    architecture: Architecture
    parameters: int
    search_accuracy: float
    on_front: bool


class GenerationRow(Part):
    """The state after a generation: hypervolume of all measured so far; the predictor's quality on the batch it had not
    seen (None where there was no predictor)."""

    generation: int
    evaluations: int
    hypervolume: float
    predictor: str | None
    kendall_tau: float | None
    mean_absolute_error: float | None


class ReportContent(Part):
    """Everything a report shows.

    `headline` is one sentence on the task and data that were used; `provenance` a list of (what, value) pairs in the
    order in which they are shown; `failures` one line for each candidate that could not be measured.
    """

    name: str
    model: str
    headline: str
    created: str
    layers: int
    mlp_width: int
    mlp_widths: tuple[int, ...]
    front: tuple[NetworkRow, ...]
    dense: NetworkRow
    base: NetworkRow
    evaluated: tuple[EvaluatedNetwork, ...]
    generations: tuple[GenerationRow, ...]
    reference_point: tuple[float, float]
    failures: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
