"""`recipe.json`: how a baseline made a checkpoint."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.pruner.target import Target
from shared.digest import digest_json
from shared.identity import BASELINES, PRUNED, TARGETS
from shared.recipe_file import RecipeRecord
from shared.settings.baselines import BaselineOptions


class PruningRecipe(BaseModel):
    """All that decides what a baseline makes: the digest of the base's content, the baseline with its options, the
    target, the digest of the calibration text and the seed, each None where the baseline asks for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: str
    options: BaselineOptions
    target: Target
    calibration: str | None
    seed: int | None

    @property
    def digest(self) -> str:
        """Identity of what is made, whenever and wherever that is."""
        values = self.model_dump(mode="json")
        values["options"] = BASELINES[self.options.baseline].of(values["options"])
        values["target"] = TARGETS[self.target.measure].of(values["target"])
        return digest_json(PRUNED.of(values))


class PruningRecord(RecipeRecord):
    """What `recipe.json` says of a checkpoint that a baseline made; `tokens`: in the calibration text, where there was
    one."""

    kind: Literal["pruned"] = "pruned"
    recipe: PruningRecipe
    tokens: int | None
