"""The networks that a report lists, in their order, and the keys by which the page knows them."""

from dataclasses import dataclass

from services.reporting.displayed_costs import DisplayedCost
from services.reporting.report_data import NetworkRow, ReportContent


@dataclass(frozen=True)
class ListedNetwork:
    """One network of the list. `key` needs no escaping, unlike a name; `original` is the network that an INT8 twin was
    made from, None for all others; `drawn` the key of the drawing that shows its layers, None if there is none;
    `random` says whether it was drawn at random to have the size of a network of the front."""

    key: str
    row: NetworkRow
    drawn: str | None = None
    original: NetworkRow | None = None
    random: bool = False

    @property
    def int8(self) -> bool:
        """Whether its weights are held in INT8."""
        return self.row.architecture.quantization == "int8"


def listed_networks(content: ReportContent) -> tuple[ListedNetwork, ...]:
    """The front and the dense network, each followed by its INT8 twin and its random counterpart, then the base
    network."""
    # By name, not by architecture: the dense network may be on the front as well.
    twins = {row.name: row for row in content.int8}
    counterparts = {row.name: row for row in content.random}
    networks: list[ListedNetwork] = []
    drawn = dict(zip(front_keys(content), content.front, strict=True))
    for key, row in (*drawn.items(), ("dense", content.dense)):
        shown = key if key in drawn else None
        networks.append(ListedNetwork(key, row, shown))
        twin = twins.get(f"{row.name} int8")
        if twin is not None:
            networks.append(ListedNetwork(f"{key}-int8", twin, shown, row))
        counterpart = counterparts.get(f"{row.name} random")
        if counterpart is not None:
            networks.append(ListedNetwork(f"{key}-random", counterpart, random=True))
    return (*networks, ListedNetwork("base", content.base))


def drawable_int8_twins(content: ReportContent, cost: DisplayedCost) -> list[tuple[ListedNetwork, NetworkRow]]:
    """The INT8 twins with their originals, where the two differ in this cost: a twin has as many parameters as its
    original, and would hide it on an axis of these."""
    pairs = [(each, each.original) for each in listed_networks(content) if each.original is not None]
    pairs = [(twin, original) for twin, original in pairs if original.report_accuracy is not None]
    return [
        (twin, original)
        for twin, original in pairs
        if cost.of(twin.row) is not None and cost.of(twin.row) != cost.of(original)
    ]


def front_keys(content: ReportContent) -> tuple[str, ...]:
    """The keys of the front's networks."""
    return tuple(f"n{index}" for index in range(1, len(content.front) + 1))
