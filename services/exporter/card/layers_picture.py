"""The layers of a network as a picture: a column for each layer of the base, as high as its MLP is wide."""

from collections.abc import Sequence

COLUMN, GAP = 14, 4
HEIGHT = 120
"""Of a column as wide as the base's widest MLP."""
LEFT, TOP, BELOW, RIGHT = 52, 14, 44, 14
TICK = 5
"""Every so manieth layer's number is written below."""
SMALLEST, RING_WORDS = 360, 110
"""Width that the words below take, and those on rings."""
KEPT, CUT, INK, PAPER = "#3b6fb6", "#d7dce3", "#333333", "#ffffff"


def layers_picture(
    kept: Sequence[int],
    mlp_widths: Sequence[int],
    base_mlp_widths: Sequence[int],
    without_attention: Sequence[int] = (),
) -> str:
    """An SVG image: of each layer of the base, its MLP's neurons that are kept in colour, those that are cut in grey; a
    dropped layer is all grey, and crossed out; one without attention has a ring at its foot."""
    widths = dict(zip(kept, mlp_widths, strict=True))
    widest = max(*base_mlp_widths, 1)
    bottom = TOP + HEIGHT
    smallest = SMALLEST + (RING_WORDS if without_attention else 0)
    width = max(LEFT + len(base_mlp_widths) * (COLUMN + GAP) + RIGHT, smallest)
    parts = []
    for layer, whole in enumerate(base_mlp_widths):
        x = LEFT + layer * (COLUMN + GAP)
        tip = f"layer {layer}: " + (f"{widths[layer]} of {whole} MLP neurons" if layer in widths else "dropped")
        full, own = (HEIGHT * share / widest for share in (whole, widths.get(layer, 0)))
        marks = _bar(x, bottom - full, full, CUT) + _bar(x, bottom - own, own, KEPT)
        if layer not in widths:
            ends = f'x1="{x}" y1="{bottom}" x2="{x + COLUMN}" y2="{bottom - full:.1f}"'
            marks += f'<line {ends} stroke="{INK}" stroke-width="1"/>'
        if layer in without_attention:
            tip += ", no attention"
            place = f'cx="{x + COLUMN / 2:g}" cy="{bottom - COLUMN / 2:g}" r="{COLUMN / 2 - 2:g}"'
            marks += f'<circle {place} fill="{PAPER}" stroke="{INK}" stroke-width="1"/>'
        if layer % TICK == 0:
            marks += _text(x + COLUMN / 2, bottom + 15, str(layer), "middle")
        parts.append(f"<g><title>{tip}</title>{marks}</g>")
    words = f"layer of the base model; height: MLP neurons, of {widest}; crossed out: dropped"
    words += "; ring: no attention" if without_attention else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + BELOW}" width="{width}" '
        f'height="{bottom + BELOW}" font-family="sans-serif" font-size="11" role="img">'
        f"<title>{summary(kept, mlp_widths, base_mlp_widths, without_attention)}</title>"
        f'<rect width="100%" height="100%" fill="{PAPER}"/>'
        f"{_text(LEFT - 6, TOP + 9, str(widest), 'end')}{_text(LEFT - 6, bottom, '0', 'end')}{''.join(parts)}"
        f"{_text(LEFT, bottom + 33, words, 'start')}</svg>\n"
    )


def summary(
    kept: Sequence[int],
    mlp_widths: Sequence[int],
    base_mlp_widths: Sequence[int],
    without_attention: Sequence[int] = (),
) -> str:
    """What the picture shows, in words."""
    dropped = [str(layer) for layer in range(len(base_mlp_widths)) if layer not in kept]
    narrow: dict[int, list[str]] = {}
    for layer, width in zip(kept, mlp_widths, strict=True):
        if width < base_mlp_widths[layer]:
            narrow.setdefault(width, []).append(str(layer))
    parts = [f"{len(kept)} of {len(base_mlp_widths)} layers", f"dropped: {', '.join(dropped) or 'none'}"]
    parts += [f"MLP of {width} neurons in layers {', '.join(narrow[width])}" for width in sorted(narrow, reverse=True)]
    parts += [f"no attention in layers {', '.join(map(str, without_attention))}"] if without_attention else []
    return "; ".join(parts)


def _bar(x: float, y: float, height: float, colour: str) -> str:
    return f'<rect x="{x}" y="{y:.1f}" width="{COLUMN}" height="{height:.1f}" fill="{colour}"/>' if height else ""


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{INK}">{words}</text>'
