"""What a network may cost at most, as people write it: `bytes=200MB`, `parameters=100M`, `decode_seconds=20ms`."""

import math
import re
from dataclasses import dataclass

from services.reporting.displayed_costs import DisplayedCost, displayed_costs
from services.reporting.report_data import NetworkRow, ReportContent
from shared.errors import UserError
from shared.text import shown

AMOUNT = re.compile(r"\s*(?P<number>\d+(_\d+)*(\.\d+)?([eE][-+]?\d+)?)\s*(?P<unit>[^\W\d_]*)\s*")


@dataclass(frozen=True)
class Need:
    """At most so much of a cost."""

    cost: DisplayedCost
    at_most: float

    @classmethod
    def parse(cls, text: str, content: ReportContent) -> "Need":
        """Read it as one of the costs that all networks of a run have.

        Raises UserError for a quantity that the run doesn't know, an unknown unit, or what is no amount.
        """
        option, known = f"--at-most {shown(text)}", {cost.objective: cost for cost in displayed_costs(content)}
        name, equals, amount = text.partition("=")
        cost = known.get(name.strip())  # type: ignore[call-overload]
        if not equals or cost is None:
            raise UserError(
                f"{option}: this run knows its networks' {', '.join(known)}; write one of them, =, and an amount, "
                "as in bytes=200MB"
            )
        found = AMOUNT.fullmatch(amount)
        if found is None:
            raise UserError(f"{option}: {shown(amount)} is no amount; write a number and perhaps a unit")
        at_most = float(found["number"]) * _scale(cost, found["unit"], option)
        if not 0 < at_most < math.inf:
            raise UserError(f"{option}: no network has so little or so much; write an amount above 0")
        return cls(cost, at_most)

    def is_met(self, network: NetworkRow) -> bool:
        """Whether a network fits."""
        return self.cost.required_of(network) <= self.at_most

    def in_words(self) -> str:
        """`at most 200 MB (memory of the weights)`, `at most 100.0 M (parameters)`."""
        return f"at most {self.cost.show(self.at_most)} ({self.cost.phrase})"


def _scale(cost: DisplayedCost, unit: str, option: str) -> float:
    """What a unit stands for; `mb` is MB, and `us` a millionth of a second."""
    units = {name.casefold(): scale for scale, name in cost.units}
    spelt = "\N{GREEK SMALL LETTER MU}s" if unit.casefold() in ("us", "\N{MICRO SIGN}s") else unit.casefold()
    scale = 1.0 if not unit else units.get(spelt)
    if scale is None:
        names = ", ".join(name for _, name in cost.units if name)
        raise UserError(f"{option}: {shown(unit)} is no unit of {cost.objective}; there are {names}")
    return scale
