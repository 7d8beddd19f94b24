"""The architectures of a front, layer by layer: one strip a network, one cell a layer."""

from dataclasses import dataclass

from services.reporting import wording
from services.reporting.report_data import NetworkRow, ReportContent


@dataclass(frozen=True)
class LayerCell:
    """One layer: `share` of its MLP that is kept, None where the layer is dropped; `skipped` says whether it lacks its
    attention."""

    layer: int
    share: float | None
    tip: str
    skipped: bool = False


@dataclass(frozen=True)
class LayerStrip:
    """One network; `about` is its size, `summary` says in words what the cells show."""

    name: str
    about: str
    summary: str
    cells: tuple[LayerCell, ...]


def layer_strips(content: ReportContent) -> tuple[LayerStrip, ...]:
    """A strip for each network of the front, in its order."""
    return tuple(_strip(row, content) for row in content.front)


def legend_shares(content: ReportContent) -> tuple[tuple[int, float], ...]:
    """Each MLP width that a layer may have with its share of the full width, the widest first."""
    widths = sorted({content.mlp_width, *content.mlp_widths}, reverse=True)
    return tuple((width, width / content.mlp_width) for width in widths)


def _strip(row: NetworkRow, content: ReportContent) -> LayerStrip:
    chosen = {layer: (width, attention) for layer, width, attention in row.architecture.layer_choices}
    cells = tuple(_cell(row.name, layer, chosen.get(layer), content.mlp_width) for layer in range(content.layers))
    dropped = [str(cell.layer) for cell in cells if cell.share is None]
    narrow = [str(cell.layer) for cell in cells if cell.share is not None and cell.share < 1]
    skipped = [str(cell.layer) for cell in cells if cell.skipped]
    attention = f"; no attention in layers: {', '.join(skipped)}" if skipped else ""
    int8 = row.architecture.quantization == "int8"
    weights = "; all layers in INT8" if int8 else ""
    summary = (
        f"{row.name}: {row.architecture.depth} of {content.layers} layers; "
        f"dropped: {', '.join(dropped) or 'none'}; narrow MLP in layers: {', '.join(narrow) or 'none'}"
        f"{attention}{weights}"
    )
    about = wording.parameters(row.parameters) + (", INT8" if int8 else "")
    return LayerStrip(row.name, about, summary, cells)


def _cell(name: str, layer: int, chosen: tuple[int, bool] | None, full: int) -> LayerCell:
    if chosen is None:
        return LayerCell(layer, None, f"{name}, layer {layer}\ndropped")
    width, attention = chosen
    share = f"{100 * width / full:.0f}{wording.SPACE}%"
    tip = f"{name}, layer {layer}\n{width} of {full} MLP neurons ({share}){'' if attention else ', no attention'}"
    return LayerCell(layer, width / full, tip, skipped=not attention)
