"""A table of all networks of a small space, each measured once: what `tests.benchmarks.table` writes.

Ten late layers, which no network lacks, have one of two widths each, in networks of two depths: 2,048 networks. All
other layers are whole. A strategy can be tried on it in seconds, on real answers to real items.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.architecture import Architecture
from shared.errors import UserError
from shared.files import write_atomically

EXAMPLE_TABLE = Path(__file__).parents[1] / "benchmarks" / "tables" / "smollm2-arc-easy.npz"
"""The example search's super-network, on its search items."""
ELASTIC = 10
STEPS = 255
"""Of a stored sigmoid between 0 and 1."""


@dataclass(frozen=True)
class TableSpace:
    """The networks of a table, in its order: depth by depth, then as binary numbers whose last digit is the last
    elastic layer's; 1 is `narrow`.

    Attributes:
        mlp_widths: the whole network's.
        depths: how many layers networks have, the more first.
        drop_order: the layers in the order in which they are left out.
        elastic: the layers that have one of two widths, ascending.
        narrow: the other width, beside the whole one.
    """

    mlp_widths: tuple[int, ...]
    depths: tuple[int, int]
    drop_order: tuple[int, ...]
    elastic: tuple[int, ...]
    narrow: int

    @classmethod
    def of(
        cls, mlp_widths: tuple[int, ...], depths: tuple[int, int], drop_order: tuple[int, ...], narrow: int
    ) -> "TableSpace":
        """With the last layers elastic that every network has. Raises UserError where there are too few."""
        dropped = drop_order[: len(mlp_widths) - min(depths)]
        always = [layer for layer in range(len(mlp_widths)) if layer not in dropped]
        if len(always) < ELASTIC:
            raise UserError(f"a table needs {ELASTIC} layers that every network has, there are {len(always)}")
        return cls(mlp_widths, depths, drop_order, tuple(always[-ELASTIC:]), narrow)

    @property
    def size(self) -> int:
        """How many networks there are."""
        return len(self.depths) << len(self.elastic)

    def architecture(self, row: int) -> Architecture:
        """The network of a row."""
        place, code = divmod(row, 1 << len(self.elastic))
        dropped = self.drop_order[: len(self.mlp_widths) - self.depths[place]]
        narrowed = {layer for bit, layer in enumerate(reversed(self.elastic)) if code >> bit & 1}
        kept = [layer for layer in range(len(self.mlp_widths)) if layer not in dropped]
        widths = tuple(self.narrow if layer in narrowed else self.mlp_widths[layer] for layer in kept)
        return Architecture(layers=tuple(kept), mlp_widths=widths)

    def row(self, architecture: Architecture) -> int:
        """The row of a network. Raises ValueError for one of another space."""
        width = dict(zip(architecture.layers, architecture.mlp_widths, strict=True))
        code = 0
        for layer in self.elastic:
            code = 2 * code + (width.get(layer) == self.narrow)
        for place in range(len(self.depths)):
            row = (place << len(self.elastic)) + code
            if self.architecture(row) == architecture:
                return row
        raise ValueError(f"no network of the table: {architecture}")


@dataclass(frozen=True)
class NetworkTable:
    """Measurements of all networks of a space on the same items.

    Attributes:
        about: where they come from: super-network, task, items, versions.
        space: which networks.
        correct: whether each network answers each item right, (networks, items).
        soft: the sigmoid of each margin, (networks, items): how sure it is of the right answer.
    """

    about: Mapping[str, Any]
    space: TableSpace
    correct: NDArray[np.bool_]
    soft: NDArray[np.float64]

    def accuracy(self, architecture: Architecture, items: slice = slice(None)) -> float:
        """The share of some items, by default all, that a network answers right."""
        return float(self.correct[self.space.row(architecture), items].mean())

    def soft_score(self, architecture: Architecture, items: slice = slice(None)) -> float:
        """The mean sigmoid of a network's margins on some items, by default all."""
        return float(self.soft[self.space.row(architecture), items].mean())

    def first(self, networks: int | None) -> "NetworkTable":
        """The first so many networks; all by default."""
        return replace(self, correct=self.correct[:networks], soft=self.soft[:networks])

    @classmethod
    def read(cls, path: Path) -> "NetworkTable":
        """A table from its file. Raises UserError where there is none."""
        try:
            with np.load(path) as stored:
                about = json.loads(str(stored["about"]))
                items = int(about["items"])
                correct = np.unpackbits(stored["correct"], axis=1, count=items).astype(bool)
                soft = stored["soft"].astype(np.float64) / STEPS
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: no table of networks ({error}); `make bench-table` makes one") from error
        space = about.pop("space")
        return cls(about, TableSpace(**{name: _tuple(value) for name, value in space.items()}), correct, soft)

    def write(self, path: Path) -> None:
        """Write the file: a bit for each answer, a byte for each sigmoid."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            about=json.dumps({**self.about, "items": self.correct.shape[1], "space": vars(self.space)}),
            correct=np.packbits(self.correct, axis=1),
            soft=np.rint(self.soft * STEPS).astype(np.uint8),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
