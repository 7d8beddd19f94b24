"""Baselines: ways to make a smaller network of a base that the super-network is compared with."""

from collections.abc import Callable, Mapping
from typing import Any

from services.pruner.baselines.evopress import EvoPress
from services.pruner.baselines.flap import Flap
from services.pruner.baselines.greedy import Greedy
from services.pruner.baselines.llm_pruner import LlmPruner
from services.pruner.baselines.magnitude import Magnitude
from services.pruner.baselines.random_network import RandomNetwork
from services.pruner.baselines.shortgpt import ShortGpt
from services.pruner.baselines.slicegpt import SliceGpt
from services.pruner.baselines.wanda import Wanda
from services.pruner.protocol import Baseline
from shared.settings.baselines import BaselineName, BaselineOptions

__all__ = ["BASELINES", "Baseline", "make_baseline"]

BASELINES: Mapping[BaselineName, Callable[[Any], Baseline]] = {
    "evopress": EvoPress,
    "flap": Flap,
    "greedy": lambda _: Greedy(),
    "llm-pruner": LlmPruner,
    "magnitude": Magnitude,
    "random": lambda _: RandomNetwork(),
    "shortgpt": lambda _: ShortGpt(),
    "slicegpt": SliceGpt,
    "wanda": Wanda,
}


def make_baseline(options: BaselineOptions) -> Baseline:
    """The baseline that options are of."""
    return BASELINES[options.baseline](options)
