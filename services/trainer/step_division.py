"""How the examples of a step are divided: among the networks that it trains, and the processes that train them."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.trainer.examples import Example


@dataclass(frozen=True)
class Share:
    """What one process does in one pass: `examples`, perhaps none, of the step's `network`-th network."""

    network: int
    examples: Sequence[Example]

    def learnt_tokens(self, teacher_only: bool) -> int:
        """Tokens on which the loss is taken: see `learnt`."""
        return sum(len(learnt(example, teacher_only)) for example in self.examples)


def learnt(example: Example, teacher_only: bool) -> Sequence[int]:
    """The places of an example's tokens that a network learns to predict: those of the response; all but the first
    where all of it is a teacher's (`teacher_only`)."""
    return range(1, len(example.tokens)) if teacher_only else response(example)


def response(example: Example) -> Sequence[int]:
    """The places of an example's tokens that are predicted from those before them, and learnt."""
    places = range(max(1, example.response), len(example.tokens))
    if not example.prompts:
        return places
    return [place for place in places if not any(begin <= place < end for begin, end in example.prompts)]


def shares(batch: Sequence[Example], networks: int, processes: int) -> list[list[Share]]:
    """The passes of a step, and in each of them the share of every process.

    Every network has about as many tokens, and so has every process: there are as many passes as it takes to have one
    for each network, and every process takes part in all of them. With a single network and process it is the batch.
    """
    passes = -(-networks // processes)
    places = [place * networks // (passes * processes) for place in range(passes * processes)]
    divided: list[Share] = []
    for network, examples in enumerate(_divided(batch, networks)):
        divided += [Share(network, part) for part in _divided(examples, places.count(network))]
    return [divided[first : first + processes] for first in range(0, len(divided), processes)]


def _divided(examples: Sequence[Example], parts: int) -> list[Sequence[Example]]:
    """Parts of about as many tokens: the longest example that is left goes where there are fewest so far."""
    if parts == 1:
        return [examples]
    divided: list[list[Example]] = [[] for _ in range(parts)]
    filled = [0] * parts
    for example in sorted(examples, key=lambda example: -len(example.tokens)):
        place = filled.index(min(filled))
        divided[place].append(example)
        filled[place] += len(example.tokens)
    return list(divided)
