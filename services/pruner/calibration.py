"""The text that baselines look at: sequences of tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from shared.digest import digest_json
from shared.errors import UserError
from shared.network.shape import NetworkShape
from shared.supernet.calibration_row import CalibrationRow
from shared.supernet.packing import Packed, pack
from shared.supernet.tree import Tree
from shared.text import shown

TOKENS_PER_PASS = 2048
"""Of as many whole sequences as fit; a longer one has a pass of its own."""


@dataclass(frozen=True)
class Calibration:
    """Sequences of tokens, each of which is read by itself.

    Raises UserError where there are none, or one from which nothing can be predicted.
    """

    sequences: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.sequences:
            raise UserError("calibration: there are no sequences; name data with at least one row")
        for number, sequence in enumerate(self.sequences, start=1):
            if len(sequence) < 2:
                raise UserError(f"calibration: sequence {number} has less than 2 tokens; leave it out")

    @property
    def digest(self) -> str:
        """Identity of the text."""
        return digest_json(self.sequences)

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return sum(map(len, self.sequences))

    @property
    def predictions(self) -> int:
        """How many tokens have others before them, by which they are predicted."""
        return self.tokens - len(self.sequences)

    def require_embedded(self, network: NetworkShape) -> None:
        """Raise UserError for tokens that a network has no embeddings of."""
        for sequence in self.sequences:
            for token in sequence:
                if not 0 <= token < network.vocab_size:
                    raise UserError(
                        f"calibration: token {shown(token)} is unknown to the model, which has {network.vocab_size:,}; "
                        "use the model's own tokenizer"
                    )

    def passes(self, device: torch.device) -> Iterator["CalibrationPass"]:
        """The text, as much at a time as goes through a network at once; always in the same way."""
        together: list[tuple[int, ...]] = []
        filled = 0
        for sequence in self.sequences:
            if together and filled + len(sequence) > TOKENS_PER_PASS:
                yield CalibrationPass.of(together, device)
                together, filled = [], 0
            together.append(sequence)
            filled += len(sequence)
        yield CalibrationPass.of(together, device)

    def rows(self, device: torch.device) -> Iterator[CalibrationRow]:
        """The same, where every token counts."""
        return (CalibrationRow(one.packed) for one in self.passes(device))


@dataclass(frozen=True)
class CalibrationPass:
    """Sequences in a row. At the `places` (predictions,) of the row something is to be predicted, namely the tokens
    `targets` (predictions,)."""

    packed: Packed
    places: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]], device: torch.device) -> "CalibrationPass":
        """Lay sequences into a row."""
        packed = pack([Tree.plain(sequence) for sequence in sequences], device)
        places = [
            start + index
            for start, sequence in zip(packed.starts, sequences, strict=True)
            for index in range(len(sequence) - 1)
        ]
        targets = [token for sequence in sequences for token in sequence[1:]]
        return cls(packed, torch.tensor(places, device=device), torch.tensor(targets, device=device))
