"""Inference engines, which run the networks whose speed is measured: one protocol, several implementations."""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from services.evaluator.progress_callback import ProgressCallback, ignore_progress
from shared.architecture import Architecture
from shared.errors import UserError
from shared.messages import Dtype, Workload
from shared.messages import Engine as EngineName
from shared.supernet.checkpoint import Checkpoint


class EngineMissingError(UserError):
    """An engine that is not installed on this machine; on another one it may be."""


@dataclass(frozen=True)
class PassSeconds:
    """Seconds of each repeat: `prefill` of the whole prompt batch, `decode` of one step of decoding (mean over the
    steps).

    The prefill ends with the first new token of every sequence; the steps make `generated_tokens` more of each.
    """

    prefill: tuple[float, ...]
    decode: tuple[float, ...]


class LoadedNetwork(Protocol):
    """One network, loaded by an engine."""

    def generate(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        """The `tokens` likeliest next tokens of every prompt, one after another; nothing ends a sequence early."""
        ...

    def time(self, workload: Workload, repeats: int, progressed: ProgressCallback = ignore_progress) -> PassSeconds:
        """Run a workload `repeats` times, after as much warming up as the engine needs.

        `progressed` is called after each of them, or after all where the engine tells nothing before.
        """
        ...


class Engine(Protocol):
    """Something that runs networks on a device of this machine."""

    @property
    def name(self) -> EngineName:
        """Its name in messages."""
        ...

    @property
    def version(self) -> str:
        """The version of its software."""
        ...

    @property
    def device(self) -> str:
        """What it computes on, for people."""
        ...

    def run(
        self, checkpoint: Checkpoint, architecture: Architecture, dtype: Dtype
    ) -> AbstractContextManager[LoadedNetwork]:
        """Load a sub-network, and free it at the end. Raises UserError for a network that the engine can't run."""
        ...


def random_prompts(workload: Workload, vocabulary: int) -> list[list[int]]:
    """Prompts of a workload: the same random tokens wherever it is run."""
    rng = random.Random(0)
    return [[rng.randrange(vocabulary) for _ in range(workload.prompt_tokens)] for _ in range(workload.batch)]
