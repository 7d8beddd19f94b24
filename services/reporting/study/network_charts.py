"""The study's networks side by side: over their true sizes, and one below the other at equal size."""

from services.reporting import wording
from services.reporting.charts.dot_rows import Dot, DotRow, DotRows, dot_rows
from services.reporting.charts.series import Panel, Point, Series
from services.reporting.study.front_panels import PARAMETERS
from services.reporting.study.marks import KINDS, Marks, accuracy_in_words, size_in_words
from services.reporting.study.study_data import ALL, Accuracy, EqualSize, Int8Row, StudyContent, StudyRow
from shared.settings.study_file import TOGETHER


def task_columns(content: StudyContent) -> tuple[str, ...]:
    """All tasks, and the mean over them if there are several."""
    tasks = tuple(task.name for task in content.tasks)
    return (*tasks, ALL) if len(tasks) > 1 else tasks


def task_title(task: str) -> str:
    """A task, or the mean over all."""
    return "mean over tasks" if task == ALL else task


def accuracy_on(row: StudyRow, task: str) -> Accuracy | None:
    """A network's accuracy on a task, or its mean over all; None if it was not measured."""
    return row.mean if task == ALL else row.by_task.get(task)


def size_panel(content: StudyContent) -> Panel:
    """Networks over their true sizes, in the mean over tasks, or on the only one: controls, baselines, heuristics from
    elsewhere, and of the searches' those over all tasks together, if there are any."""
    task, marks = task_columns(content)[-1], Marks(content)
    groups: dict[Series, list[Point]] = {}
    together = any(row.chosen_on == TOGETHER for row in content.networks)
    for row in content.networks:
        if together and row.chosen_on not in (None, TOGETHER):
            continue
        found = accuracy_on(row, task)
        if found is not None and row.parameters is not None:
            style = marks.of(row)
            group = Series(_group(row), style.tone, style.shape, (), hollow=style.hollow)
            tip = f"{row.label}\n{size_in_words(row.parameters, row.true_times_smaller)}\n{accuracy_in_words(found)}"
            groups.setdefault(group, []).append(Point(row.parameters, found.accuracy, tip, found.interval))
    series = (
        Series(each.name, each.tone, each.shape, tuple(points), hollow=each.hollow) for each, points in groups.items()
    )
    return Panel(task_title(task), PARAMETERS, tuple(series))


def equal_size_dots(content: StudyContent, table: EqualSize) -> tuple[DotRows, ...]:
    """Of one size, for each task and the mean: controls, what was chosen on it, what goes with that, baselines."""
    marks, charts = Marks(content), []
    for task in task_columns(content):
        rows = [content.network(key) for key in table.networks]
        aim = TOGETHER if task == ALL else task
        shown = [row for row in rows if row.chosen_on in (None, aim)]
        base = next((accuracy_on(row, task) for row in shown if row.kind == "base"), None)
        chart = dot_rows(
            task_title(task),
            "Accuracy",
            [_dot_row(row, accuracy_on(row, task), marks, _redundant(aim, table.times_smaller)) for row in shown],
            None if base is None else base.accuracy,
        )
        if chart is not None:
            charts.append(chart)
    return tuple(charts)


def int8_dots(content: StudyContent) -> tuple[DotRows, ...]:
    """For each task the networks that were chosen on it, or on all together, before and after INT8."""
    marks = Marks(content)
    charts = []
    for task in task_columns(content):
        rows = [row for row in content.int8 if row.task == task and row.times_smaller is not None]
        rows = [row for row in rows if row.chosen_on in (task, TOGETHER)]
        chart = dot_rows(task_title(task), "Accuracy", [_before_and_after(row, marks) for row in rows])
        if chart is not None:
            charts.append(chart)
    return tuple(charts)


def _group(row: StudyRow) -> str:
    tuned = {"none": "not fine-tuned", "full": "fine-tuned", "lora": "with LoRA"}[row.fine_tuning]
    supernet = f"{row.supernet}: " if row.supernet else ""
    return f"{supernet}{KINDS[row.kind]}{f', {tuned}' if row.kind in ('baseline', 'alone') else ''}"


def _redundant(aim: str, times_smaller: float) -> tuple[str, ...]:
    """What the labels of all networks say that are compared on a task at a size."""
    return f" on {'all tasks' if aim == TOGETHER else aim}", f", {times_smaller:g}x"


def _dot_row(row: StudyRow, accuracy: Accuracy | None, marks: Marks, redundant: tuple[str, ...]) -> DotRow:
    name = row.label
    for said in redundant:
        name = name.replace(said, "")
    about = "" if row.parameters is None else wording.parameters(row.parameters)
    if accuracy is None:
        return DotRow(name, about, ())
    size, style = size_in_words(row.parameters, row.true_times_smaller), marks.of(row)
    tip = f"{row.label}\n{size}\n{accuracy_in_words(accuracy)}"
    return DotRow(name, about, (Dot(accuracy.accuracy, tip, style.tone, style.shape, accuracy.interval, style.hollow),))


def _before_and_after(row: Int8Row, marks: Marks) -> DotRow:
    tone = marks.tone(row.supernet)
    name = row.label
    before = f"{name}\nbefore: {wording.size(row.bytes_before)}\n{accuracy_in_words(row.before)}"
    after = f"{name}\nINT8: {wording.size(row.bytes_after)}\n{accuracy_in_words(row.after)}"
    return DotRow(
        name,
        f"{wording.size(row.bytes_before)} to {wording.size(row.bytes_after)}",
        (
            Dot(row.before.accuracy, before, tone, "front"),
            Dot(row.after.accuracy, after, tone, "front", row.after.interval, hollow=True),
        ),
    )
