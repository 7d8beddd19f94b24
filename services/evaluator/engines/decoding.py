"""How a network decodes: step by step, or by a step that was captured once, which takes no Python for each token."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from services.evaluator.engines.cache import DecodeStep, KVCache, PaddedPrompts
from shared.supernet.decoder import Decoder, Sequences

WARMING_STEPS = 3
"""Before a step is captured: what libraries set up when they are first called can't be."""

Capture = Callable[[Callable[[], None], Callable[[], None]], Callable[[], None]]
"""Makes of a step, and of what takes it back, one that does the same again and again on the same memory."""


class Decoding(Protocol):
    """Prompts, and what a network makes of them: the likeliest next token of each, one after another.

    `newest` (sequences,) are the last ones made; the next step may write over them.
    """

    newest: Tensor

    def make_ready(self) -> None:
        """All that isn't computing: room for keys and values. Then comes the prefill."""
        ...

    def prefill(self) -> None:
        """Read the prompts, and make the first new token of each."""
        ...

    def step(self) -> None:
        """Make one more token of each."""
        ...


class StepByStep:
    """A pass through the decoder for each token."""

    newest: Tensor

    def __init__(self, network: Decoder, prompts: Sequence[Sequence[int]], steps: int) -> None:
        self._network, self._prompts, self._steps = network, prompts, steps

    def make_ready(self) -> None:
        self._cache = KVCache.of_prompts(self._network, self._prompts, self._steps)

    def prefill(self) -> None:
        padded = PaddedPrompts.begin(self._prompts, self._cache)
        self.newest = likeliest(self._network, self._network.hidden(padded)[padded.ends])

    def step(self) -> None:
        self.newest = _next(self._network, DecodeStep.after(self._cache, self.newest))


class Captured:
    """The same step replayed: it reads its tokens and positions from where it leaves them.

    So no size may change: attention is over all the room that there is, and a mask says what of it has been filled.
    """

    def __init__(self, network: Decoder, prompts: Sequence[Sequence[int]], steps: int, capture: Capture) -> None:
        self._network, self._prompts, self._capture = network, prompts, capture
        self._cache = KVCache.of_prompts(network, prompts, steps)
        self._positions = self._cache.lengths.clone()
        self._whole = replace(self._cache, longest=self._cache.longest + steps, ragged=True)
        self._replay: Callable[[], None] | None = None
        self.newest = torch.zeros_like(self._positions)

    def make_ready(self) -> None:
        if self._replay is None:
            self._replay = self._capture(self._advance, self._begin)

    def prefill(self) -> None:
        padded = PaddedPrompts.begin(self._prompts, self._cache)
        self.newest.copy_(likeliest(self._network, self._network.hidden(padded)[padded.ends]))
        self._begin()

    def step(self) -> None:
        if self._replay is None:
            raise RuntimeError("a step is captured before it is replayed: make ready first")
        self._replay()

    def _begin(self) -> None:
        """Go on after the prompts: what later steps left in the cache is written over before it is seen."""
        self._positions.copy_(self._cache.lengths)

    def _advance(self) -> None:
        self.newest.copy_(_next(self._network, DecodeStep(self.newest, self._positions, self._whole)))
        self._positions.add_(1)


def cuda_graph(advance: Callable[[], None], begin: Callable[[], None]) -> Callable[[], None]:
    """A step captured as a CUDA graph."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMING_STEPS):
            begin()
            advance()
        begin()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        advance()
    return graph.replay


def capturable(network: Decoder) -> bool:
    """Whether each step of a network is the same: in INT8 the host counts the columns with outliers in each."""
    return not any(one.needs_batch_invariance for layer in network.layers for one in layer.projections)


def likeliest(network: Decoder, states: Tensor) -> Tensor:
    """The likeliest token after each state (N, hidden), (N,)."""
    return network.logits(states).argmax(-1)


def _next(network: Decoder, step: Sequences) -> Tensor:
    return likeliest(network, network.hidden(step))
