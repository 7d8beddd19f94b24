"""The architectures of a front, layer by layer: one strip a network, one cell a layer."""

from dataclasses import dataclass

from services.reporting import wording
from services.reporting.report_data import NetworkRow, ReportContent


@dataclass(frozen=True)
class LayerCell:
    """One layer: `share` of its MLP that is kept, None where the layer is dropped."""

    layer: int
    share: float | None
    tip: str


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
    widths = dict(zip(row.architecture.layers, row.architecture.mlp_widths, strict=True))
    cells = tuple(_cell(row.name, layer, widths.get(layer), content.mlp_width) for layer in range(content.layers))
    dropped = [str(cell.layer) for cell in cells if cell.share is None]
    narrow = [str(cell.layer) for cell in cells if cell.share is not None and cell.share < 1]
    int8 = row.architecture.quantization == "int8"
    weights = "; all layers in INT8" if int8 else ""
    summary = (
        f"{row.name}: {row.architecture.depth} of {content.layers} layers; "
        f"dropped: {', '.join(dropped) or 'none'}; narrow MLP in layers: {', '.join(narrow) or 'none'}{weights}"
    )
    about = wording.parameters(row.parameters) + (", INT8" if int8 else "")
    return LayerStrip(row.name, about, summary, cells)


def _cell(name: str, layer: int, width: int | None, full: int) -> LayerCell:
    if width is None:
        return LayerCell(layer, None, f"{name}, layer {layer}\ndropped")
    share = f"{100 * width / full:.0f}{wording.SPACE}%"
    return LayerCell(layer, width / full, f"{name}, layer {layer}\n{width} of {full} MLP neurons ({share})")
