"""How an exported network was found, for its model card."""

from collections.abc import Sequence

from services.application.export.choice import ChosenNetwork
from services.application.export.searched_run import SearchedRun
from services.exporter.card.facts import SearchFacts
from shared.space import SearchSpace


def search_facts(run: SearchedRun, chosen: ChosenNetwork) -> SearchFacts | None:
    """How a network was found; None for a network that isn't on the front, in INT8 or not."""
    content = run.content
    if content is None or chosen.row is None:
        return None
    quantized = {row.architecture.quantized("none") for row in content.front}
    if chosen.row.name == content.dense.name or chosen.architecture.quantized("none") not in quantized:
        return None
    return SearchFacts(run.plan.settings.search.strategy, len(content.evaluated), _space(run.plan.space))


def _space(space: SearchSpace) -> str:
    """`28 to 30 layers, each MLP 768, 1152 or 1536 wide`."""
    depths = sorted(space.depths)
    gapless = len(depths) > 2 and depths == list(range(depths[0], depths[-1] + 1))
    layers = f"{depths[0]} to {depths[-1]}" if gapless else _or(depths)
    orders = ", which leave in one of several orders" if len(space.drop_orders) > 1 else ""
    attention = ", with or without attention" if len(space.attentions) > 1 else ""
    held = ", in INT8 or not" if len(space.quantizations) > 1 else ""
    return f"{layers} layers{orders}, each MLP {_or(sorted(space.mlp_widths))} wide{attention}{held}"


def _or(numbers: Sequence[int]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}" if most else last
