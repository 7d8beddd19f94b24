"""The sections of a study file that a search file doesn't have."""

from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from shared.settings.baselines import BaselineName
from shared.settings.sections import SpaceSettings, StrategySettings, TrainingSettings
from shared.settings.values import Real, Section, Whole, distinct
from shared.text import shortened

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
BY_LORA: tuple[BaselineName, ...] = ("llm-pruner", "slicegpt")
"""Baselines whose papers recover by LoRA."""


def _on_the_same_items(search: StrategySettings) -> StrategySettings:
    if search.slices > 1:
        raise ValueError("slices: a study compares what was measured on the same items; remove it")
    return search


SearchOfStudy = Annotated[StrategySettings, AfterValidator(_on_the_same_items)]
"""A search that a study can compare with others."""


class StudiedSupernet(Section):
    """A way to make a super-network: its search space and its fine-tuning."""

    name: Annotated[
        str,
        Field(pattern=NAME, description="What the report calls the super-network.", examples=["paper"]),
    ]
    space: SpaceSettings
    training: TrainingSettings = TrainingSettings()
    search: Annotated[
        SearchOfStudy | None,
        Field(
            description="How this super-network is searched, in the place of the study's `search`; keys that are left "
            "out have their defaults, not what they have there."
        ),
    ] = None

    @field_validator("space")
    @classmethod
    def _without_int8(cls, space: SpaceSettings) -> SpaceSettings:
        if space.quantization != ("none",):
            raise ValueError(
                "quantization: a study searches without INT8, and measures in it what it found (`remeasure_int8`); "
                "remove it"
            )
        return space


class CalibrationSettings(Section):
    """The text that baselines look at."""

    data: Annotated[
        str,
        Field(
            description="Training data, as `training.data` of a search file: alpaca, plain_facts, a file or the hub's.",
            examples=["alpaca", "plain_facts"],
        ),
    ] = "alpaca"
    tokens: Annotated[Whole, Field(ge=256, description="Tokens of it, in whole rows that `seed` draws.")] = 16384


class SingleFineTuning(Section):
    """The fine-tuning of single networks: baselines, and the networks that the searches chose, each by itself. Each
    reads as many tokens as the fine-tuning of the first super-network does, of the same data."""

    full: Annotated[
        tuple[BaselineName, ...] | None,
        Field(description="Baselines of which all weights are fine-tuned. Default: all that are listed."),
    ] = None
    lora: Annotated[
        tuple[BaselineName, ...],
        Field(
            description="Baselines that recover by LoRA, as in their papers; of the default, those that are listed. "
            "Needs the package peft."
        ),
    ] = BY_LORA
    alone: Annotated[
        bool, Field(description="Fine-tune the networks that the searches chose on their own, from the base model.")
    ] = True
    learning_rate: Annotated[
        Real | None,
        Field(
            gt=0,
            lt=1,
            description="Highest learning rate where all weights are fine-tuned. Default: the first super-network's.",
        ),
    ] = None
    lora_rank: Annotated[Whole, Field(ge=1, description="Rank of the low-rank updates.")] = 8
    lora_alpha: Annotated[Real, Field(gt=0, description="LoRA's scale, divided by the rank.")] = 16.0
    lora_learning_rate: Annotated[
        Real,
        Field(gt=0, lt=1, description="Highest learning rate of LoRA; all else as the super-network's."),
    ] = 1e-4

    @field_validator("full", "lora")
    @classmethod
    def _distinct_baselines(cls, names: tuple[BaselineName, ...] | None) -> tuple[BaselineName, ...] | None:
        return names if names is None else distinct(names, "a baseline")


class NarrowLayers(Section):
    """A heuristic that was found elsewhere: a network of a super-network whose MLPs are narrow in some layers."""

    name: Annotated[str, Field(pattern=NAME, description="What the report calls it.")]
    supernet: Annotated[str, Field(description="Name of one of `supernets`.")]
    depth: Annotated[
        Whole,
        Field(
            ge=1,
            description="Number of layers, one of the super-network's `depths`. Of several depth rules, its first one "
            "says which these are.",
        ),
    ]
    layers: Annotated[
        tuple[Annotated[Whole, Field(ge=0)], ...],
        Field(
            min_length=1,
            description="Layers of the model with the narrowest MLPs, counted from 0; others have the widest.",
            examples=[[2, 3, 17]],
        ),
    ]

    @field_validator("layers")
    @classmethod
    def _places(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        return distinct(layers, "a layer")

    def check(self, space: SpaceSettings, where: str) -> None:
        """Raise ValueError if the heuristic builds no network of a space, as far as that can be told without a model:
        which layers a shallow network keeps is decided by the model, unless `depth_rule` is first. Of several rules the
        first one counts."""
        if self.depth not in space.depths:
            depths = ", ".join(map(str, space.depths))
            raise ValueError(
                f"{where}.depth: super-network {self.supernet} has none of {self.depth} layers; choose one of "
                f"its depths ({shortened(depths)})"
            )
        if len(set(space.mlp_widths)) == 1:
            raise ValueError(
                f"{where}.layers: all MLPs of super-network {self.supernet} are equally wide; give it several "
                "mlp_widths, or remove the heuristic"
            )
        most, layers = self.depth, self.layers
        if len(layers) > most:
            raise ValueError(f"{where}.layers: {len(layers)} layers are listed, its depth is {most}; list fewer")
        if space.depth_rules[0] == "first" and max(layers) >= most:
            raise ValueError(
                f"{where}.layers: there is no layer {max(layers)} in the first {most}; count from 0 to {most - 1}"
            )
