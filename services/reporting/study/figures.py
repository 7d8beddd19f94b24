"""The study's figures as still pictures, for a paper or a README: the same content always gives the same bytes."""

from services.reporting import wording
from services.reporting.charts.row_figures import draw_dots, draw_matrix, draw_stacks
from services.reporting.charts.series_figure import draw_panels
from services.reporting.study.front_panels import front_panels, int8_panels, throughput_panels
from services.reporting.study.marks import searched_on
from services.reporting.study.network_charts import equal_size_dots, size_panel
from services.reporting.study.probability_charts import depth_charts, narrow_strips
from services.reporting.study.study_data import StudyContent, Transfer, TransferCell, TrueSize

NAMES = (
    *("fronts.svg", "throughput.svg", "sizes.svg", "int8.svg", "depths.svg"),
    *("equal-size-*.svg", "narrow-*.svg", "transfer-*.svg"),
)
"""Patterns of what figures are called."""


def draw_figures(content: StudyContent) -> dict[str, bytes]:
    """Every figure that there is something to draw for, as SVG, by the name of its file."""
    figures: dict[str, bytes] = {}
    panels = {
        "fronts": list(front_panels(content).values()),
        "throughput": list(throughput_panels(content).values()),
        "sizes": [size_panel(content)],
        "int8": list(int8_panels(content).values()),
    }
    for name, drawn in panels.items():
        filled = [panel for panel in drawn if any(panel.points)]
        if filled:
            figures[f"{name}.svg"] = draw_panels(filled)
    for table in content.equal_size:
        for chart in equal_size_dots(content, table)[-1:]:  # the mean over tasks, or the only one
            title = f"{chart.title.capitalize()}, at least {table.times_smaller:g} times smaller"
            figures[f"equal-size-{table.times_smaller:g}.svg"] = draw_dots(chart, title)
    depths = depth_charts(content)
    if depths:
        figures["depths.svg"] = draw_stacks(depths)
    for supernet in dict.fromkeys(row.supernet for row in content.narrow):
        figures[f"narrow-{supernet}.svg"] = _narrow(content, supernet)
    for transfer in content.transfer:
        figures[f"transfer-{transfer.supernet}-{transfer.times_smaller:g}.svg"] = _transfer(transfer)
    return figures


def _narrow(content: StudyContent, supernet: str) -> bytes:
    strips = [strip for strip in narrow_strips(content) if strip.supernet == supernet]
    return draw_matrix(
        f"{supernet}: probability of a narrow MLP, by layer",
        [strip.name for strip in strips],
        [str(cell.layer) for cell in strips[0].cells],
        [[cell.share for cell in strip.cells] for strip in strips],
    )


def _transfer(transfer: Transfer) -> bytes:
    cells = [[transfer.cell(aim, task) for task in transfer.tasks] for aim in transfer.chosen_on]
    return draw_matrix(
        f"{transfer.supernet}, at least {transfer.times_smaller:g} times smaller: accuracy (points against its own)",
        [f"chosen on {searched_on(aim)}{_size(transfer.sizes[aim])}" for aim in transfer.chosen_on],
        transfer.tasks,
        [[_difference(cell) for cell in line] for line in cells],
        [[_text(cell) for cell in line] for line in cells],
    )


def _size(size: TrueSize) -> str:
    return "" if size.parameters is None else f", {wording.parameters(size.parameters)}"


def _difference(cell: TransferCell) -> float | None:
    if cell.accuracy is None:
        return None
    return 0.0 if cell.versus_own is None else cell.versus_own.difference


def _text(cell: TransferCell) -> str:
    shown = wording.percentage(cell.accuracy.accuracy if cell.accuracy else None)
    return shown if cell.versus_own is None else f"{shown} ({wording.points(cell.versus_own.difference)})"
