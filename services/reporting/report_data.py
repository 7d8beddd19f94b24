"""What a report says, as data: the page, the figure and the terminal's table all draw from this."""

from pydantic import BaseModel, ConfigDict

from shared.architecture import Architecture, AttentionChoice
from shared.generation import GenerationRow
from shared.settings import Objective


class ReportModel(BaseModel):
    """What all models of a report's content have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Comparison(ReportModel):
    """A network against another on the same items: `difference` in accuracy (positive: better) with its 95 % interval;
    the p-value of whether they differ, uncorrected and `corrected` for the number of comparisons; `exact` unless it is
    an approximation, as of clustered items and of means over tasks."""

    difference: float
    interval: tuple[float, float]
    p_value: float
    corrected: float = 1.0
    exact: bool = True


class NonInferiority(ReportModel):
    """How much worse than the dense network a network is at most: its difference is above `lower_bound` with one-sided
    95 % confidence. `items_needed` would probably show that it is above the margin (see `PairedTable.items_needed`)."""

    lower_bound: float
    items_needed: int


class TaskRow(ReportModel):
    """A network on one task, or its mean over all tasks; accuracy as lm-eval aggregates it, with its 95 %
    interval."""

    accuracy: float
    interval: tuple[float, float]
    versus_dense: Comparison | None
    versus_base: Comparison | None


class Advantage(ReportModel):
    """By how much the front's networks are better than random ones of their sizes: mean over `pairs` of networks, with
    its 95 % interval."""

    difference: float
    interval: tuple[float, float]
    pairs: int


class SpeedRow(ReportModel):
    """What an engine reached with a network on a device: median, least and most tokens per second over the repeats."""

    engine: str
    device: str
    prefill: tuple[float, float, float]
    decode: tuple[float, float, float]


class NetworkRow(ReportModel):
    """One network of the report.

    `name` is a short label (`N1`, `N2` ... from the greatest to the least first objective on the front; `dense`;
    `base`; with ` int8` for what was re-measured in INT8, with ` random` for a random network of the same size).
    `bytes` counts weights and scales as they are held, without the KV cache, which takes `cache_bytes_per_token`, and
    `kv_cache_bytes` for the batch that is served, where that was traded; `ratio` is the dense network's bytes, without
    INT8, divided by these. Accuracies are shares between 0 and 1. What follows `search_accuracy` is None, or empty, for
    a network of the front that was not measured on the report items: `interval` is the 95 % interval of
    `report_accuracy`, `macro` is None for a single task, and comparisons are None where there is nothing to compare
    with (`versus_original`: what an INT8 twin was made from). `prefill_seconds` and `decode_seconds` come from the cost
    table, `speed` was measured; None where the search has no such thing.
    """

    name: str
    architecture: Architecture
    narrow_mlps: int
    parameters: int
    bytes: int
    cache_bytes_per_token: int
    kv_cache_bytes: int | None = None
    ratio: float
    prefill_seconds: float | None
    decode_seconds: float | None
    speed: SpeedRow | None
    search_accuracy: float | None
    report_accuracy: float | None
    interval: tuple[float, float] | None
    by_task: dict[str, TaskRow]
    macro: TaskRow | None
    versus_dense: Comparison | None
    versus_base: Comparison | None
    versus_random: Comparison | None
    versus_original: Comparison | None
    non_inferiority: NonInferiority | None

    @property
    def reported(self) -> tuple[float, tuple[float, float]]:
        """Accuracy on the report items and its interval. Raises ValueError if it was not measured there."""
        if self.report_accuracy is None or self.interval is None:
            raise ValueError(f"{self.name} was not measured on the report items")
        return self.report_accuracy, self.interval


class EvaluatedNetwork(ReportModel):
    """One network that the search measured, in the order of measuring from 1."""

    number: int
    generation: int
    architecture: Architecture
    parameters: int
    bytes: int
    kv_cache_bytes: int | None = None
    prefill_seconds: float | None
    decode_seconds: float | None
    search_accuracy: float
    on_front: bool


class ReportContent(ReportModel):
    """Everything a report shows.

    `headline` is one sentence on the task and data that were used; `objectives` what was traded against accuracy, the
    first is what networks are named by; `front` is the whole front, measured on the report items or not; `int8` holds
    networks of the front and the dense network, re-measured in INT8, `random` random ones of the sizes of the front's
    (both empty if the search didn't ask for it), and `advantage` by how much the front's are better; `margin` is the
    loss that is acceptable (a share); `report_items` how many items of the report part there are;
    `clustered` says whether some of these belong together; `networks_on_report_items` counts the networks that were
    ever measured on them, for `reported_fronts` fronts; `serving` says with what, and under which load, speeds and
    seconds were measured (None: not measured); `provenance` is a list of (what, value) pairs in the order in which they
    are shown; `failures` one line for each candidate, INT8 network or speed that could not be measured;
    `reference_point` each objective's, as a multiple of the dense network's, then the accuracy's; `estimated` whether
    accuracies on the search items, and hypervolumes, are those that networks probably have, instead of measured ones.
    """

    name: str
    model: str
    headline: str
    created: str
    layers: int
    mlp_width: int
    mlp_widths: tuple[int, ...]
    attention: tuple[AttentionChoice, ...] = ("keep",)
    objectives: tuple[Objective, ...]
    serving: str | None
    margin: float
    report_items: int
    clustered: bool
    networks_on_report_items: int
    reported_fronts: int
    front: tuple[NetworkRow, ...]
    int8: tuple[NetworkRow, ...]
    random: tuple[NetworkRow, ...]
    advantage: Advantage | None
    dense: NetworkRow
    base: NetworkRow
    evaluated: tuple[EvaluatedNetwork, ...]
    generations: tuple[GenerationRow, ...]
    reference_point: tuple[float, ...]
    estimated: bool = False
    failures: tuple[str, ...]
    provenance: tuple[tuple[str, str], ...]

    @property
    def reported(self) -> tuple[NetworkRow, ...]:
        """The networks of the front that were measured on the report items."""
        return tuple(row for row in self.front if row.report_accuracy is not None)
