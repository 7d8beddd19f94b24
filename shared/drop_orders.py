"""In which order layers leave: one order, or several of which each network goes by one."""

from collections.abc import Sequence

DropOrder = tuple[int, ...]
"""Layers in the order in which they leave."""
DropOrders = DropOrder | tuple[DropOrder, ...]
"""One order, or several to choose from: in files and identities a single one is written as it was before there was a
choice."""
DIVERGENCE_TOKENS = 1024
"""Of the calibration text, for divergences, or a few more. Finding one layer to drop takes them through half the
network and the language head as often as there are layers."""


def all_orders(orders: DropOrders) -> tuple[DropOrder, ...]:
    """The order, or all that there are to choose from."""
    several = tuple(each for each in orders if isinstance(each, tuple))
    return several or (tuple(each for each in orders if isinstance(each, int)),)


def one_or_several(orders: Sequence[DropOrder]) -> DropOrders:
    """The other way: what says that these are all."""
    return orders[0] if len(orders) == 1 else tuple(orders)


def to_json(orders: DropOrders) -> list[int | list[int]]:
    """As lists."""
    return [each if isinstance(each, int) else list(each) for each in orders]


def from_json(values: Sequence[int | Sequence[int]]) -> DropOrders:
    """What was written as lists."""
    several = tuple(tuple(each) for each in values if not isinstance(each, int))
    return several or tuple(each for each in values if isinstance(each, int))


def unmeasured_orders(layers: int, count: int) -> DropOrders:
    """Orders for a network whose layers weren't compared yet, that differ as much as can be: sizes don't depend on
    them, and no other orders make more networks. The first one is that of the rule `first`."""
    last_first = tuple(range(layers - 1, 0, -1))
    starts = (number % len(last_first) if last_first else 0 for number in range(count))
    return one_or_several([last_first[start:] + last_first[:start] for start in starts])


def divergence_rounds(layers: int, drops: int) -> int:
    """How many of a network's layers are found by divergence one after the other, if at most `drops` of them are ever
    dropped: one at least, by which the others are ranked, and never the first and the last one."""
    return min(max(drops, 1), max(layers - 2, 0))
