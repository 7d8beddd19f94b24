"""What the best networks have in common: probabilities of depths by percentile of accuracy, of narrow MLPs by layer."""

from dataclasses import dataclass

from services.reporting import wording
from services.reporting.charts.layer_strips import LayerCell
from services.reporting.charts.stacked_columns import StackedColumns, stacked
from services.reporting.study.marks import searched_on
from services.reporting.study.study_data import DepthRow, NarrowRow, StudyContent


@dataclass(frozen=True)
class NarrowStrip:
    """Of the best networks of a search, how probable a narrow MLP is, layer by layer; a layer that none keeps is
    dashed."""

    supernet: str
    name: str
    about: str
    summary: str
    cells: tuple[LayerCell, ...]


def depth_charts(content: StudyContent) -> tuple[StackedColumns, ...]:
    """For each search the probability of every depth in each class of accuracy (figure 6 of the LLaMA-NAS paper)."""
    searches = dict.fromkeys((row.supernet, row.chosen_on) for row in content.depths)
    return tuple(_depths(content, *search) for search in searches)


def narrow_strips(content: StudyContent) -> tuple[NarrowStrip, ...]:
    """A strip for each search (figures 7 to 9 of the LLaMA-NAS paper)."""
    searches = dict.fromkeys((row.supernet, row.chosen_on) for row in content.narrow)
    return tuple(_strip(content, *search) for search in searches)


def percentiles(row: DepthRow) -> str:
    """A class of accuracy: `75–100 %`."""
    return f"{row.low:g}{wording.DASH}{row.high:g}{wording.SPACE}%"


def _depths(content: StudyContent, supernet: str, aim: str) -> StackedColumns:
    rows = [row for row in content.depths if (row.supernet, row.chosen_on) == (supernet, aim)]
    depths = [f"{depth} layers" for depth in sorted({row.depth for row in rows})]
    columns = []
    for name in dict.fromkeys(percentiles(row) for row in rows):
        mine = sorted((row for row in rows if percentiles(row) == name), key=lambda row: row.depth)
        shares = {f"{row.depth} layers": row.probability for row in mine}
        tips = {
            f"{row.depth} layers": f"{searched_on(aim)}, {supernet}\naccuracy percentiles {name} ({row.networks} "
            f"networks)\n{row.depth} layers {wording.percent(row.probability)}"
            for row in mine
        }
        columns.append(stacked(name, shares, tips))
    return StackedColumns(f"{supernet}, {searched_on(aim)}", "Accuracy percentile", tuple(depths), tuple(columns))


def _strip(content: StudyContent, supernet: str, aim: str) -> NarrowStrip:
    rows = sorted(
        (row for row in content.narrow if (row.supernet, row.chosen_on) == (supernet, aim)), key=lambda row: row.layer
    )
    name = searched_on(aim)
    known = {row.layer: row for row in rows}
    cells = tuple(_cell(name, layer, known.get(layer)) for layer in range(max(known) + 1))
    shown = [f"{cell.layer} {wording.percentage(cell.share)}" for cell in cells if cell.share is not None]
    summary = f"{supernet}, {name}: probability of a narrow MLP in percent, by layer: {', '.join(shown)}"
    most = max(row.networks for row in rows)
    return NarrowStrip(supernet, name, f"{most} networks", summary, cells)


def _cell(name: str, layer: int, row: NarrowRow | None) -> LayerCell:
    if row is None or row.probability is None:
        return LayerCell(layer, None, f"{name}, layer {layer}\nkept by none of the best networks")
    shown = wording.percent(row.probability)
    return LayerCell(
        layer, row.probability, f"{name}, layer {layer}\nnarrow in {shown} of the {row.networks} that keep it"
    )
