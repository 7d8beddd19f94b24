"""How a super-network is ordered: which neurons come first in each MLP, and which layers are dropped first. Both are
measured in the base model, before anything is trained."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from services.trainer.examples import Example, calibration_batches, first_tokens
from services.trainer.fine_tuning import predicting_places
from shared.drop_orders import DIVERGENCE_TOKENS, DropOrder, DropOrders, divergence_rounds, one_or_several
from shared.network.shape import NetworkShape
from shared.settings import DepthRule, SearchSettings
from shared.supernet.calibration_row import CalibrationRow
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.divergence import WholeNetwork
from shared.supernet.order import Importance, drop_order, measure_importance
from shared.supernet.packing import pack
from shared.supernet.tree import Tree


@dataclass(frozen=True)
class Ordering:
    """`importance` is that of the neurons, None where they stay where they are; `drop_order` lists the layers in the
    order in which they are dropped, of several rules an order each; `influence` is what the rule `importance` decided
    by (None: there are only others)."""

    importance: Importance | None
    drop_order: DropOrders
    influence: tuple[float, ...] | None


def measure_ordering(
    base: Checkpoint,
    examples: Sequence[Example],
    settings: SearchSettings,
    compute: torch.dtype,
    device: torch.device,
    progressed: Callable[[int, int], None],
) -> Ordering:
    """The ordering that settings ask for, on the CPU: it goes from process to process. `progressed` is called for each
    layer that is found by divergence, with how many are and are to be; first with none."""
    training, rules, depth = settings.training, settings.space.depth_rules, base.network.depth
    by_importance, sorts = "importance" in rules, training.neuron_order == "importance"
    orders: dict[DepthRule, DropOrder] = {"first": drop_order(depth, None)}
    if not (by_importance or sorts or "divergence" in rules):
        return Ordering(None, orders["first"], None)
    network = base.cut().map(lambda tensor: tensor.to(device, compute))
    batches, responses = list(calibration_batches(examples, training)), training.importance_on == "responses"
    importance = None
    if by_importance or sorts:
        measured = measure_importance(network, _rows(batches, responses, device))
        importance = replace(measured, neurons=tuple(neurons.cpu() for neurons in measured.neurons))
    influence = importance.layers if importance and by_importance else None
    if influence is not None:
        orders["importance"] = drop_order(depth, influence)
    if "divergence" in rules:
        whole = WholeNetwork(network, _rows(first_tokens(batches, DIVERGENCE_TOKENS), responses, device))
        drops = depth - min(settings.space.depths)
        orders["divergence"] = order_by_divergence(whole, base.network, drops, progressed)
    return Ordering(importance if sorts else None, one_or_several([orders[rule] for rule in rules]), influence)


def order_by_divergence(
    whole: WholeNetwork, network: NetworkShape, drops: int, progressed: Callable[[int, int], None]
) -> tuple[int, ...]:
    """The layers but the first and the last one, in the order in which they are dropped.

    That layer goes next without which the predictions diverge least from the whole network's, given that those before
    it are gone. So many `drops`, one at least, are found one after the other; the other layers follow by what is known
    after that.
    """
    left, kept, found = list(range(1, network.depth - 1)), tuple(range(network.depth)), list[int]()
    rounds = divergence_rounds(network.depth, drops)
    progressed(0, rounds)
    while len(found) < rounds:
        dropped, *left = whole.ranked(kept, left)
        kept = tuple(layer for layer in kept if layer != dropped)
        found.append(dropped)
        progressed(len(found), rounds)
    return (*found, *left)


def _rows(batches: Iterable[Sequence[Example]], responses: bool, device: torch.device) -> Iterator[CalibrationRow]:
    """Batches as rows, of which all tokens count, or those that predict responses."""
    for batch in batches:
        packed = pack([Tree.plain(example.tokens) for example in batch], device)
        places = torch.tensor(predicting_places(packed, batch), device=device) if responses else None
        yield CalibrationRow(packed, places)
