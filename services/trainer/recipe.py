"""What decides what becomes of a network that is fine-tuned by itself, and its `recipe.json`. Free of torch."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from shared.architecture import Architecture
from shared.digest import digest_json
from shared.identity import METHODS, SINGLE, TOKENS_VERSION
from shared.recipe_file import RecipeRecord
from shared.settings import MemoryRecipe, TrainingSettings


class FullMethod(BaseModel):
    """All weights are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["full"] = "full"


class LoraMethod(BaseModel):
    """Only updates of a low rank to the linear layers are trained, scaled by alpha / rank (LoRA, arXiv 2106.09685)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["lora"] = "lora"
    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)]


Teacher = Literal["none", "base", "base only"]
Method = Annotated[FullMethod | LoraMethod, Field(discriminator="method")]


class Tuning(BaseModel):
    """A fine-tuning: of which data, by their digest, and how; `memory` is the recipe that it takes. `teacher` says what
    teaches the network: the data alone, the predictions of the `base` that it was cut out of as well, or nothing but
    these."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    tokens_version: int = TOKENS_VERSION
    training: TrainingSettings
    method: Method
    memory: MemoryRecipe = "full"
    teacher: Teacher = "none"

    @model_serializer(mode="wrap")
    def _as_earlier_releases(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """They can read what they could have made."""
        values: dict[str, Any] = whole(self)
        return {name: value for name, value in values.items() if (name, value) != ("teacher", "none")}


class SingleRecipe(BaseModel):
    """All that decides what is made: the digest of the base's content, the network that is cut out of it, and its
    fine-tuning; None where it is only cut out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    architecture: Architecture
    tuning: Tuning | None

    @property
    def counted(self) -> dict[str, Any]:
        """The recipe without what changes nothing."""
        values = self.model_dump(mode="json")
        if self.tuning is not None:
            values["tuning"]["method"] = METHODS[self.tuning.method.method].of(values["tuning"]["method"])
        return SINGLE.of(values)

    @property
    def digest(self) -> str:
        """Identity of what is made, whenever and wherever that is."""
        return digest_json(self.counted)


class SingleRecord(RecipeRecord):
    """What `recipe.json` says of a checkpoint that was fine-tuned by itself.

    `tokens`: of training data, as many as the steps can hold; `data`: origin and digest of the training data; `losses`:
    running means at the end; `source`: what the base's own `recipe.json` or `supernet.json` says, where it has one.
    """

    kind: Literal["fine_tuned"] = "fine_tuned"
    recipe: SingleRecipe
    tokens: int
    data: dict[str, str]
    losses: dict[str, float]
    source: dict[str, Any] | None
