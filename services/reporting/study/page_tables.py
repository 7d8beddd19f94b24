"""The tables of the study's page: what stands in their cells, and the numbers by which they are sorted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from services.reporting import wording
from services.reporting.study.controls import missing_controls, missing_random
from services.reporting.study.marks import searched_on
from services.reporting.study.network_charts import accuracy_on, task_columns, task_title
from services.reporting.study.study_data import (
    ALL,
    Accuracy,
    EqualSize,
    FrontRow,
    Int8Row,
    SelectedRow,
    StudyComparison,
    StudyContent,
    StudyFront,
    StudyRow,
)
from services.reporting.tables.cells import EMPTY, TableCell, few
from shared.settings.study_file import TOGETHER

TUNED = {"none": "no", "full": "all weights", "lora": "LoRA"}


@dataclass(frozen=True)
class Head:
    """A column; `text`: its cells are words."""

    title: str
    unit: str = ""
    text: bool = False


@dataclass(frozen=True)
class Row:
    """A row; `control`: of what the others are to be held against."""

    name: str
    cells: tuple[TableCell, ...]
    control: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `key` is its identifier on the page, `note` stands below it."""

    key: str
    caption: str
    first: str
    heads: tuple[Head, ...]
    rows: tuple[Row, ...]
    note: str = ""


APPROXIMATE = "\N{ALMOST EQUAL TO}"
"""Stands before a p-value that is not exact."""
COMPARED = ("points", "95 %", "p", "p, Holm")


def tasks_table(content: StudyContent) -> Table:
    """The tasks with their items."""
    rows = (
        Row(
            task.name,
            (
                _text(task.metric),
                _count(task.num_fewshot),
                _count(task.search_items),
                _count(task.report_items),
            ),
        )
        for task in content.tasks
    )
    heads = (Head("Metric", text=True), Head("Examples", "in the prompt"), Head("Search items"), Head("Report items"))
    return _table("tasks", "Tasks", "Task", heads, tuple(rows))


def supernets_table(content: StudyContent) -> Table:
    """The super-networks with their spaces."""
    rows = (
        Row(
            each.name,
            (
                _text(", ".join(map(str, each.depths))),
                _text(each.depth_rule),
                _text(", ".join(map(str, each.mlp_widths))),
                EMPTY if each.networks is None else TableCell(wording.number(each.networks), each.networks),
                _tokens(each.tuned_tokens),
            ),
        )
        for each in content.supernets
    )
    heads = (
        Head("Depths", "layers", text=True),
        Head("Layers kept", text=True),
        Head("MLP widths", "neurons", text=True),
        Head("Networks", "in the space"),
        Head("Fine-tuning", "tokens, at most"),
    )
    return _table("supernets", "Super-networks", "Super-network", heads, tuple(rows))


def searches_table(content: StudyContent) -> Table:
    """The searches with the networks that they looked at."""
    rows = (
        Row(
            f"{each.supernet}: {searched_on(each.chosen_on)}",
            (_count(each.networks), _count(each.failed), _count(each.items)),
        )
        for each in content.searches
    )
    heads = (Head("Networks looked at"), Head("Failed"), Head("Search items", "at most"))
    return _table("searches", "Searches", "Search", heads, tuple(rows))


def front_table(content: StudyContent, front: StudyFront) -> Table:
    """A front with its random and INT8 counterparts, and its controls."""
    heads = (
        *(Head("Layers"), Head("Narrow MLPs"), Head("Attentions", "skipped")),
        *(Head("Parameters"), Head("Weights", "in memory"), Head("Times smaller")),
        *(Head("Search items", "%"), Head("Report items", "%"), Head("Report items", "95 %")),
        *(Head("Against dense", unit) for unit in COMPARED),
        *(Head("Against base", unit) for unit in COMPARED),
    )
    networks = (*front.controls, *front.rows, *front.random, *front.int8)
    rows = tuple(
        Row(
            each.name,
            (
                _count(each.architecture.depth),
                _count(_narrow(each)),
                few(len(each.architecture.without_attention)),
                TableCell(wording.parameters(each.parameters), each.parameters),
                TableCell(wording.size(each.bytes), each.bytes),
                _times(each.true_times_smaller),
                _percentage(each.search_accuracy),
                *_accuracy(each.report),
                *_compared(each.versus_dense),
                *_compared(each.versus_base),
            ),
            each.control or each.name.endswith(" random"),
        )
        for each in networks
    )
    caption = f"{front.supernet}, {searched_on(front.chosen_on)}"
    note = missing_random(front.rows, front.random)
    return _table(f"front-{content.fronts.index(front)}", caption, "Network", heads, rows, note)


def throughput_table(content: StudyContent, front: StudyFront) -> Table:
    """The networks whose throughput was measured, with how many times faster than the dense one they are."""
    dense = next((row.speed for row in front.timed if row.name == "dense"), None)
    rows = tuple(
        Row(
            each.name,
            (
                TableCell(wording.parameters(each.parameters), each.parameters),
                *_accuracy(each.report),
                *(
                    cell
                    for phase in ("prefill", "decode")
                    for cell in (
                        TableCell(wording.rate(getattr(speed, phase)), getattr(speed, phase)[0]),
                        EMPTY if dense is None else _times(getattr(speed, phase)[0] / getattr(dense, phase)[0]),
                    )
                ),
                _text(f"{speed.engine}, {speed.device}"),
            ),
            each.control or each.name == "dense int8",
        )
        for each in (*front.controls, *front.rows, *front.random, *front.int8)
        if (speed := each.speed) is not None
    )
    heads = (
        *(Head("Parameters"), Head("Report items", "%"), Head("Report items", "95 %")),
        *(Head("Prefill", "tokens/s (least, most)"), Head("Prefill", "times dense")),
        *(
            Head("Decode", "tokens/s (least, most)"),
            Head("Decode", "times dense"),
            Head("Measured", "by, on", text=True),
        ),
    )
    caption = f"{front.supernet}, {searched_on(front.chosen_on)}"
    return _table(f"throughput-{content.fronts.index(front)}", caption, "Network", heads, rows)


def selected_table(content: StudyContent) -> Table:
    """Base and dense; what each search chose, with its luck; and below each the random network of its size."""
    heads = (
        *(Head("Layers"), Head("Narrow MLPs"), Head("Attentions", "skipped")),
        *(Head("Parameters"), Head("Times smaller")),
        *(Head("Search items", "%"), Head("Report items", "%"), Head("Report items", "95 %")),
        *(Head("Mean over tasks", "%"), Head("Networks looked at"), Head("Optimism", "points")),
        *(Head("Optimism", "beyond dense"), Head("Bound", "independent"), Head("Bound", "correlated")),
    )
    rows = [_selected_control(each) for each in content.networks if each.kind in ("base", "dense")]
    for each in content.selected:
        size = (each.supernet, each.chosen_on, each.times_smaller)
        rows.append(Row(content.network(each.network).label, _selected(content, each)))
        random = (row for row in content.networks if row.kind == "random")
        rows += [_selected_control(row) for row in random if (row.supernet, row.chosen_on, row.times_smaller) == size]
    note = missing_controls(content.networks, lambda row: bool(row.by_task))
    return _table("selected-networks", "Networks chosen", "Network", heads, tuple(rows), note)


def equal_size_table(content: StudyContent, table: EqualSize) -> Table:
    """Everything at one size, with its true size."""
    tasks = task_columns(content)
    heads = (
        *(
            Head("Fine-tuned", "by itself", text=True),
            Head("Tokens", "seen, at most"),
            Head("Parameters"),
            Head("Times smaller"),
        ),
        *(Head(task_title(task), unit) for task in tasks for unit in ("%", "95 %")),
    )
    shown = [content.network(key) for key in table.networks]
    return _table(
        f"equal-size-{content.equal_size.index(table)}",
        f"At least {table.times_smaller:g} times smaller",
        "Network",
        heads,
        tuple(_network_row(row, tasks) for row in shown),
        missing_controls(shown, lambda row: bool(row.by_task)),
    )


def heuristic_table(content: StudyContent) -> Table:
    """All networks that heuristics build, whatever their sizes; beside them what they are held against."""
    tasks, built = task_columns(content), [row for row in content.networks if row.kind == "heuristic"]
    compared = {each.other for each in content.heuristics}
    chosen = [row for row in content.networks if row.kind == "chosen" and row.label in compared]
    goes_with = {(row.supernet, row.chosen_on, row.times_smaller) for row in chosen}
    shown = [
        row
        for row in content.networks
        if row.kind in ("base", "dense", "heuristic")
        or row in chosen
        or (row.kind == "random" and (row.supernet, row.chosen_on, row.times_smaller) in goes_with)
    ]
    heads = (
        *(
            Head("Fine-tuned", "by itself", text=True),
            Head("Tokens", "seen, at most"),
            Head("Parameters"),
            Head("Times smaller"),
        ),
        *(Head(task_title(task), unit) for task in tasks for unit in ("%", "95 %")),
    )
    rows = tuple(_network_row(row, tasks) for row in shown) if built else ()
    return _table("heuristics", "Networks by heuristics", "Network", heads, rows)


def comparison_table(key: str, caption: str, comparisons: Iterable[StudyComparison]) -> Table:
    """Comparisons, one a row."""
    heads = (
        *(Head("Against", text=True), Head("On", text=True), Head("Difference", "points"), Head("Difference", "95 %")),
        *(Head("p"), Head("p, Holm"), Head("Detectable", "points"), Head("Items")),
    )
    rows = tuple(
        Row(
            each.one,
            (
                _text(each.other),
                _text(task_title(each.task)),
                *_compared(each),
                TableCell(wording.percentage(each.detectable), each.detectable),
                _count(each.items),
            ),
        )
        for each in comparisons
    )
    return _table(key, caption, "Network", heads, rows)


def int8_tables(content: StudyContent) -> tuple[Table, ...]:
    """Before and after INT8, a table for each task."""
    heads = (
        *(Head("Super-network", text=True), Head("Chosen on", text=True), Head("Parameters")),
        *(Head("Weights", "before"), Head("Weights", "after"), Head("Times smaller", "in bytes")),
        *(Head("Before", "%"), Head("Before", "95 %"), Head("After", "%"), Head("After", "95 %")),
        *(Head("Change", unit) for unit in COMPARED),
    )
    tables = []
    for number, task in enumerate(dict.fromkeys(row.task for row in content.int8)):
        rows = tuple(_int8_row(row) for row in content.int8 if row.task == task)
        note = _missing_in_int8(content, task)
        tables.append(_table(f"int8-{number}", task_title(task), "Network", heads, rows, note))
    return tuple(tables)


def _missing_in_int8(content: StudyContent, task: str) -> str:
    """Controls of what was chosen on this task, or on all together."""
    shown = [row for row in content.networks if row.chosen_on in (None, task, TOGETHER)]
    return missing_controls(shown, lambda row: task in row.int8)


def _table(key: str, caption: str, first: str, heads: tuple[Head, ...], rows: tuple[Row, ...], note: str = "") -> Table:
    """The table without columns that hold no number for any row."""
    kept = [
        index
        for index, head in enumerate(heads)
        if head.text or any(row.cells[index].value is not None for row in rows)
    ]
    narrowed = (replace(row, cells=tuple(row.cells[index] for index in kept)) for row in rows)
    return Table(key, caption, first, tuple(heads[index] for index in kept), tuple(narrowed), note)


def _selected(content: StudyContent, each: SelectedRow) -> tuple[TableCell, ...]:
    network, curse = content.network(each.network), each.curse
    return (
        _count(each.layers),
        _count(each.narrow_mlps),
        few(each.skipped_attentions),
        *_size(network),
        _percentage(each.search_accuracy),
        *_accuracy(each.report),
        _percentage(None if network.mean is None else network.mean.accuracy),
        *(
            (EMPTY,) * 5
            if curse is None
            else (
                _count(curse.networks),
                _points(curse.optimism),
                _points(curse.optimism_beyond_dense),
                _points(curse.bound),
                _points(curse.correlated),
            )
        ),
    )


def _selected_control(row: StudyRow) -> Row:
    """Measured on what the network that it goes with was chosen on; base and dense in the mean alone."""
    aim = row.chosen_on
    report = None if aim is None else accuracy_on(row, ALL if aim == TOGETHER else aim)
    mean = None if row.mean is None else row.mean.accuracy
    skipped = few(len(row.architecture.without_attention))
    cells = (_count(row.architecture.depth), EMPTY, skipped, *_size(row), EMPTY, *_accuracy(report), _percentage(mean))
    return Row(row.label, (*cells, *(EMPTY,) * 5), control=True)


def _network_row(row: StudyRow, tasks: Sequence[str]) -> Row:
    return Row(
        row.label,
        (
            _text(TUNED[row.fine_tuning]),
            _tokens(row.tuned_tokens),
            *_size(row),
            *(cell for task in tasks for cell in _accuracy(accuracy_on(row, task))),
        ),
        row.kind in ("base", "dense", "random"),
    )


def _int8_row(row: Int8Row) -> Row:
    return Row(
        row.label,
        (
            _text(row.supernet or wording.NOT_MEASURED),
            _text(searched_on(row.chosen_on) if row.chosen_on else wording.NOT_MEASURED),
            TableCell(wording.parameters(row.parameters), row.parameters),
            TableCell(wording.size(row.bytes_before), row.bytes_before),
            TableCell(wording.size(row.bytes_after), row.bytes_after),
            _times(row.bytes_before / row.bytes_after),
            *_accuracy(row.before),
            *_accuracy(row.after),
            *_compared(row.comparison),
        ),
        row.label.split(": ")[-1].startswith(("base", "dense", "random")),
    )


def _narrow(row: FrontRow) -> int:
    """MLPs that are narrower than this network's widest."""
    widths = row.architecture.mlp_widths
    return sum(width < max(widths) for width in widths)


def _text(words: str) -> TableCell:
    return TableCell(words, None)


def _count(number: int | None) -> TableCell:
    return EMPTY if number is None else TableCell(f"{number:,}", number)


def _tokens(number: int) -> TableCell:
    return TableCell(wording.parameters(number) if number else "0", number)


def _times(ratio: float | None) -> TableCell:
    return EMPTY if ratio is None else TableCell(f"{ratio:.2f}", ratio)


def _size(row: StudyRow) -> tuple[TableCell, TableCell]:
    if row.parameters is None:
        return EMPTY, EMPTY
    return TableCell(wording.parameters(row.parameters), row.parameters), _times(row.true_times_smaller)


def _percentage(share: float | None) -> TableCell:
    return EMPTY if share is None else TableCell(wording.percentage(share), share)


def _points(difference: float | None) -> TableCell:
    return EMPTY if difference is None else TableCell(wording.points(difference), difference)


def _accuracy(accuracy: Accuracy | None) -> tuple[TableCell, TableCell]:
    if accuracy is None:
        return EMPTY, EMPTY
    return _percentage(accuracy.accuracy), TableCell(wording.interval(accuracy.interval), accuracy.interval[0])


def _compared(comparison: StudyComparison | None) -> tuple[TableCell, ...]:
    if comparison is None:
        return (EMPTY,) * len(COMPARED)
    return (
        _points(comparison.difference),
        TableCell(wording.points_interval(comparison.interval), comparison.interval[0]),
        _p_value(comparison.p_value, comparison.exact),
        _p_value(comparison.corrected, comparison.exact),
    )


def _p_value(p: float, exact: bool) -> TableCell:
    """With as many digits as the column's others; an approximate one is marked."""
    return TableCell(f"{'' if exact else APPROXIMATE}{'<0.001' if p < 0.001 else f'{p:.3f}'}", p)
