"""The networks that a report lists, in their order, and the keys by which the page knows them."""

from dataclasses import dataclass

from services.reporting.objectives import Measure
from services.reporting.report_data import NetworkRow, ReportContent


@dataclass(frozen=True)
class Listed:
    """One network of the list. `key` needs no escaping, unlike a name; `original` is the network that an INT8 twin was
    made from, None for all others; `drawn` the key of the drawing that shows its layers, None if there is none;
    `random` one that was drawn to have the size of a network of the front."""

    key: str
    row: NetworkRow
    drawn: str | None = None
    original: NetworkRow | None = None
    random: bool = False

    @property
    def int8(self) -> bool:
        """Whether its weights are held in INT8."""
        return self.row.architecture.quantization == "int8"


def listed(content: ReportContent) -> tuple[Listed, ...]:
    """The front and the dense network, each followed by its INT8 twin and its random counterpart, then the base
    network."""
    # By name, not by architecture: the dense network may be on the front as well.
    twins = {row.name: row for row in content.int8}
    counterparts = {row.name: row for row in content.random}
    networks: list[Listed] = []
    drawn = dict(zip(front_keys(content), content.front, strict=True))
    for key, row in (*drawn.items(), ("dense", content.dense)):
        shown = key if key in drawn else None
        networks.append(Listed(key, row, shown))
        twin = twins.get(f"{row.name} int8")
        if twin is not None:
            networks.append(Listed(f"{key}-int8", twin, shown, row))
        counterpart = counterparts.get(f"{row.name} random")
        if counterpart is not None:
            networks.append(Listed(f"{key}-random", counterpart, random=True))
    return (*networks, Listed("base", content.base))


def twins_apart(content: ReportContent, measure: Measure) -> list[tuple[Listed, NetworkRow]]:
    """The INT8 twins with their originals, as far as the measure tells them apart: a twin has as many parameters as its
    original, and on an axis of these would only hide it."""
    pairs = [(each, each.original) for each in listed(content) if each.original is not None]
    pairs = [(twin, original) for twin, original in pairs if original.report_accuracy is not None]
    return [
        (twin, original)
        for twin, original in pairs
        if measure.of(twin.row) is not None and measure.of(twin.row) != measure.of(original)
    ]


def front_keys(content: ReportContent) -> tuple[str, ...]:
    """The keys of the front's networks."""
    return tuple(f"n{index}" for index in range(1, len(content.front) + 1))
