"""What a report says, as data: the page, the figure and the terminal's table all draw from this."""

from pydantic import BaseModel, ConfigDict

from services.coordinator.generation import GenerationRow
from shared.architecture import Architecture
from shared.settings import Objective


class Part(BaseModel):
    """Common to all parts of a report's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Comparison(Part):
    """A network against another on the same items: `difference` in accuracy (positive: better), McNemar's exact
    p-value."""

    difference: float
    p_value: float


class SpeedRow(Part):
    """What an engine reached with a network: median, least and most tokens per second over the repeats."""

    prefill: tuple[float, float, float]
    decode: tuple[float, float, float]


class NetworkRow(Part):
    """One network that was measured on the report's items.

    `name` is a short label (`N1`, `N2` ... from the greatest to the least first objective on the front; `dense`;
    `base`; with ` int8` for what was re-measured in INT8). `bytes` counts weights and scales as they are held; `ratio`
    is the dense network's bytes, without INT8, divided by these. Accuracies are shares between 0 and 1; `interval` is
    the 95 % Wilson interval of `report_accuracy`. `prefill_seconds` and `decode_seconds` come from the cost table,
    `speed` was measured; None where the search has no such thing.
    """

    name: str
    architecture: Architecture
    narrow_mlps: int
    parameters: int
    bytes: int
    ratio: float
    prefill_seconds: float | None
    decode_seconds: float | None
    speed: SpeedRow | None
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
    bytes: int
    prefill_seconds: float | None
    decode_seconds: float | None
    search_accuracy: float
    on_front: bool


class ReportContent(Part):
    """Everything a report shows.

    `headline` is one sentence on the task and data that were used; `objectives` what was traded against accuracy, the
    first is what networks are named by; `int8` holds the front and the dense network, re-measured in INT8 (empty if the
    search didn't ask for it); `serving` says with what, and under which load, speeds and seconds were measured (None:
    not measured); `provenance` is a list of (what, value) pairs in the order in which they are shown; `failures` one
    line for each candidate, INT8 network or speed that could not be measured. `reference_point`: each objective's, as a
    multiple of the dense network's, then the accuracy's.
    """

    name: str
    model: str
    headline: str
    created: str
    layers: int
    mlp_width: int
    mlp_widths: tuple[int, ...]
    objectives: tuple[Objective, ...]
    serving: str | None
    front: tuple[NetworkRow, ...]
    int8: tuple[NetworkRow, ...]
    dense: NetworkRow
    base: NetworkRow
    evaluated: tuple[EvaluatedNetwork, ...]
    generations: tuple[GenerationRow, ...]
    reference_point: tuple[float, ...]
    failures: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]
