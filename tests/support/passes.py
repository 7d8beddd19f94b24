"""Passes through a single network: of batches, and of a step of decoding that is captured."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from shared.supernet.decoder import Decoder, Layer, Sequences
from shared.supernet.layer_tree import hidden_in_each


def hidden_together(network: Decoder, batches: Iterable[Sequences], prepare: Callable[[Layer], Layer]) -> list[Tensor]:
    """The network's states for each batch."""
    return [states for _, _, states in hidden_in_each([network], at_all_places(batches), prepare)]


def at_all_places(batches: Iterable[Sequences]) -> list[tuple[Sequences, Tensor]]:
    """Batches of which all states are wanted."""
    return [(batch, torch.arange(len(batch.tokens), device=batch.tokens.device)) for batch in batches]


def called_again(advance: Callable[[], None], begin: Callable[[], None]) -> Callable[[], None]:
    """Stands in for `cuda_graph`: warms up as for a graph, and calls the step again instead of replaying it."""
    for _ in range(3):
        begin()
        advance()
    begin()
    return advance
