"""What a study's report says, as data: the page, the figures and the CSVs all draw from this.

Accuracies, differences and margins are shares between 0 and 1; intervals are of 95 %. Whatever was not measured is None
or missing, never 0.
"""

from typing import Literal

from services.coordinator.study.networks import FineTuning, NetworkKind
from services.reporting.report_data import Comparison, ReportModel, SpeedRow
from shared.architecture import Architecture, Quantization

Family = Literal["fronts", "equal_size", "int8", "heuristics", "transfer", "claims"]
"""The tables with comparisons. All comparisons of a table, over all super-networks, sizes and tasks, are one family:
their p-values are corrected together."""
Section = Literal["fronts", "throughput", "selected", "equal_size", "int8", "depths", "narrow", "transfer"]
"""The parts of the report that the paper has something about."""
Verdict = Literal["holds", "does not hold", "can't be told"]
HOLDS: Verdict = "holds"
FAILS: Verdict = "does not hold"
OPEN: Verdict = "can't be told"
ALL = "mean"
"""What stands in place of a task where the mean over tasks is meant, each counting equally."""


class Accuracy(ReportModel):
    """An accuracy on the report items and its 95 % interval; as lm-eval aggregates it."""

    accuracy: float
    interval: tuple[float, float]


class StudiedTask(ReportModel):
    """A task and how many items there are to search and, others, to report."""

    name: str
    metric: str
    num_fewshot: int | None
    search_items: int
    report_items: int


class StudiedSupernet(ReportModel):
    """A super-network: at most `tuned_tokens` of training data were read for it; its space has so many distinct
    `networks`."""

    name: str
    depths: tuple[int, ...]
    mlp_widths: tuple[int, ...]
    layers: int
    depth_rule: str
    networks: int | None
    tuned_tokens: int


class StudiedSearch(ReportModel):
    """A search over a super-network by one task or by all together: `networks` were looked at on `items` search items,
    `failed` more could not be measured."""

    supernet: str
    chosen_on: str
    networks: int
    failed: int
    items: int


class StudyComparison(Comparison):
    """A network against another on the report items of one task, or in the mean over tasks (`task` is `mean`).

    `one` and `other` are the networks' labels; `supernet`, `times_smaller` say where in the study; `corrected` is the
    p-value after Holm's correction over all comparisons of `family`. `lower_bound`, `upper_bound`: with one-sided 95 %
    confidence each the true difference is above, below. `detectable` is the smallest true difference that so many items
    would show at the 5 % level with 80 % power, given how often the two answer differently. `items` counts the report
    items.
    """

    family: Family
    task: str
    one: str
    other: str
    supernet: str | None
    times_smaller: float | None
    lower_bound: float
    upper_bound: float
    detectable: float
    items: int


class StudyRow(ReportModel):
    """A network of the study with its measurements on the report items.

    `key` is unique and has no spaces (`services.reporting.study.answers.key`); `label` names it in text; `kind`,
    `supernet`, `chosen_on`, `name`, `fine_tuning`, `tuned_tokens` as in `StudyNetwork`. `times_smaller` is the size
    that was asked for, `true_times_smaller` the base model's parameters divided by its own. `by_task` lacks tasks that
    it was not measured on; `mean` is over all tasks, None unless measured on all of them; `int8` the same in INT8.
    """

    key: str
    label: str
    kind: NetworkKind
    supernet: str | None
    chosen_on: str | None
    name: str | None
    fine_tuning: FineTuning
    tuned_tokens: int
    times_smaller: float | None
    architecture: Architecture
    parameters: int | None
    bytes: int | None
    true_times_smaller: float | None
    by_task: dict[str, Accuracy]
    mean: Accuracy | None
    int8_bytes: int | None
    int8: dict[str, Accuracy]
    int8_mean: Accuracy | None


class FrontRow(ReportModel):
    """A network of a search's front (`N1` ...), or a control: `dense`, `base`; with ` int8` for what was measured in
    INT8 again, with ` random` for a random network of the same size.

    `report` is None for a network of the front that was not measured on the report items; of a search over all tasks it
    is the accuracy over all items. `true_times_smaller`: the dense network's parameters divided by its own.
    """

    name: str
    control: bool
    quantization: Quantization
    architecture: Architecture
    parameters: int
    bytes: int
    true_times_smaller: float
    search_accuracy: float | None
    report: Accuracy | None
    speed: SpeedRow | None
    versus_dense: StudyComparison | None
    versus_base: StudyComparison | None


class Seen(ReportModel):
    """A network that a search measured on its search items."""

    parameters: int
    bytes: int
    search_accuracy: float
    on_front: bool


class StudyFront(ReportModel):
    """The front of a search: `rows` from the largest to the smallest, then `controls` (dense, base), `random` ones,
    `int8` twins. `serving` says with what speeds were measured, None where none were."""

    supernet: str
    chosen_on: str
    networks: int
    serving: str | None
    rows: tuple[FrontRow, ...]
    controls: tuple[FrontRow, ...]
    random: tuple[FrontRow, ...]
    int8: tuple[FrontRow, ...]
    seen: tuple[Seen, ...]

    @property
    def timed(self) -> tuple[FrontRow, ...]:
        """The networks whose throughput was measured."""
        return tuple(row for row in (*self.rows, *self.controls, *self.random, *self.int8) if row.speed is not None)


class WinnersCurse(ReportModel):
    """How much of a chosen network's accuracy on the search items is luck.

    `optimism`: its accuracy on search items less that on report items; `optimism_beyond_dense`: the same, less what the
    dense network shows, as one part of the items may just be easier. `bound`: what the best of `networks` equally good
    ones would show above their true accuracy on so many search items if they were independent, which is the most;
    `correlated`: the same for networks that agree as much as this one and the dense one do. Of a search on all tasks
    together, all are of the mean over tasks.
    """

    networks: int
    search_items: int
    optimism: float | None
    optimism_beyond_dense: float | None
    bound: float
    correlated: float | None


class SelectedRow(ReportModel):
    """The network that a search chose at a size: `network` is the key of its row. `search_accuracy` and `report` are
    on what it was chosen on; of all tasks together, in the mean over them."""

    network: str
    supernet: str
    chosen_on: str
    times_smaller: float
    layers: int
    narrow_mlps: int
    skipped_attentions: int
    search_accuracy: float | None
    report: Accuracy | None
    curse: WinnersCurse | None


class EqualSize(ReportModel):
    """Everything that is compared at one size: keys of `networks` in the order of the table's rows, controls first, and
    the comparisons of what was chosen with all others."""

    times_smaller: float
    networks: tuple[str, ...]
    comparisons: tuple[StudyComparison, ...]


class Int8Row(ReportModel):
    """A network on the report items of a task before and after INT8; `label` of one of a front is `N1`, `dense` ...
    `times_smaller` is None for those."""

    label: str
    supernet: str | None
    chosen_on: str | None
    times_smaller: float | None
    task: str
    parameters: int
    bytes_before: int
    bytes_after: int
    before: Accuracy
    after: Accuracy
    comparison: StudyComparison


class DepthRow(ReportModel):
    """Of the `networks` of a search whose accuracy on search items lies between two percentiles (`low`, `high`, from 0
    to 100), the share that has this depth."""

    supernet: str
    chosen_on: str
    low: float
    high: float
    depth: int
    probability: float
    networks: int


class NarrowRow(ReportModel):
    """Of the best `networks` of a search that keep a layer, counted from 0, the share whose MLP is narrow there; None
    if none keeps it."""

    supernet: str
    chosen_on: str
    layer: int
    probability: float | None
    networks: int


class TransferCell(ReportModel):
    """The network chosen on one task or `together`, measured on another: `versus_own` compares it with the network that
    was chosen on that task itself, None on the diagonal."""

    chosen_on: str
    task: str
    accuracy: Accuracy | None
    versus_own: StudyComparison | None


class TrueSize(ReportModel):
    """A network's own size; `times_smaller`: the base model's parameters divided by its own. None if not measured."""

    parameters: int | None
    times_smaller: float | None


class Transfer(ReportModel):
    """The transfer matrix of a super-network at a size, row by row. `sizes` has the true size of each row's network, by
    what it was chosen on: all are at least so many times smaller, but not all alike."""

    supernet: str
    times_smaller: float
    chosen_on: tuple[str, ...]
    tasks: tuple[str, ...]
    sizes: dict[str, TrueSize]
    cells: tuple[TransferCell, ...]

    def cell(self, chosen_on: str, task: str) -> TransferCell:
        """One cell. Raises KeyError if there is none."""
        for cell in self.cells:
            if (cell.chosen_on, cell.task) == (chosen_on, task):
                return cell
        raise KeyError((chosen_on, task))


class Claim(ReportModel):
    """One of the paper's claims, judged for one super-network by rules that were fixed before (see
    `services.reporting.study.claim_rules`): what it says, the verdict, the evidence in a sentence, what it rests on.
    `power` says in words what so many items could have shown, empty where nothing is measured that could.

    `detectable`: of a claim that something is better, the smallest true difference that would show with 80 % power
    after the correction for all comparisons of its table; `smallest_margin`: of a claim that something is no worse, the
    smallest margin that would be shown if both were equally good. Of several comparisons the largest, None without any
    at equal size.
    """

    key: str
    statement: str
    supernet: str
    verdict: Verdict
    evidence: str
    comparisons: tuple[StudyComparison, ...]
    power: str
    detectable: float | None = None
    smallest_margin: float | None = None


class PublishedFigure(ReportModel):
    """What the paper reports of another model than this one: to stand beside what was measured here, not to be compared
    number by number. `what` says it in words; `difference` from its base model (a share), `times_smaller` and
    `times_faster` are None where it has none."""

    section: Section
    task: str | None
    model: str
    what: str
    source: str
    difference: float | None = None
    times_smaller: float | None = None
    times_faster: float | None = None


class StudyContent(ReportModel):
    """Everything a study's report shows. `provenance` holds (what, value) pairs in the order in which they are shown;
    `failures` one line for each measurement that failed or is still missing. `heuristics` compares what
    heuristics build, whatever its size. `networks_on_report_items` counts the different ones
    that were ever measured on some of the report items, by the study or by its searches, for whatever sizes and budgets
    were asked before."""

    name: str
    model: str
    created: str
    dtype: str
    margin: float
    sizes: tuple[float, ...]
    tasks: tuple[StudiedTask, ...]
    supernets: tuple[StudiedSupernet, ...]
    searches: tuple[StudiedSearch, ...]
    timed_task: str | None
    networks: tuple[StudyRow, ...]
    networks_on_report_items: int
    fronts: tuple[StudyFront, ...]
    selected: tuple[SelectedRow, ...]
    equal_size: tuple[EqualSize, ...]
    int8: tuple[Int8Row, ...]
    depths: tuple[DepthRow, ...]
    narrow: tuple[NarrowRow, ...]
    heuristics: tuple[StudyComparison, ...]
    transfer: tuple[Transfer, ...]
    claims: tuple[Claim, ...]
    summary: str
    published: tuple[PublishedFigure, ...]
    provenance: tuple[tuple[str, str], ...]
    failures: tuple[str, ...]

    def network(self, key: str) -> StudyRow:
        """The network of a key. Raises KeyError if there is none."""
        for row in self.networks:
            if row.key == key:
                return row
        raise KeyError(key)

    def published_in(self, section: Section) -> tuple[PublishedFigure, ...]:
        """What the paper reports that belongs beside a part of this report."""
        return tuple(each for each in self.published if each.section == section)

    @property
    def comparisons(self) -> tuple[StudyComparison, ...]:
        """Every comparison that was made, table by table."""
        fronts = (
            compared
            for front in self.fronts
            for row in (*front.rows, *front.controls, *front.random, *front.int8)
            for compared in (row.versus_dense, row.versus_base)
        )
        equal = (compared for table in self.equal_size for compared in table.comparisons)
        int8 = (row.comparison for row in self.int8)
        transfer = (cell.versus_own for matrix in self.transfer for cell in matrix.cells)
        claims = (compared for claim in self.claims for compared in claim.comparisons if compared.family == "claims")
        parts = (fronts, equal, int8, self.heuristics, transfer, claims)
        return tuple(each for part in parts for each in part if each is not None)
