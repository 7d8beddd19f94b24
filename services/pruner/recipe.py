"""`recipe.json`: how a baseline made a checkpoint."""

import importlib.metadata
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from services.pruner.target import Target
from shared.digest import digest_json
from shared.errors import UserError
from shared.identity import BASELINES, PRUNED, TARGETS
from shared.manifest import RECIPE
from shared.messages import Dtype
from shared.settings import explain
from shared.settings.baselines import BaselineOptions

RECORDED = ("torch", "transformers", "nasfarm")


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


class PruningRecord(BaseModel):
    """What `recipe.json` says of a checkpoint.

    `base`: the base's absolute directory; `plan`: digest of the recipe; `parameters` and `bytes`: true sizes, bytes of
    the weights as they are written; `dtype`: what the machine that made it prefers to compute in; `tokens`: in the
    calibration text, where there was one; `kept`: the places that the layers had in the base; `versions`: of the
    libraries that computed; `files`: digests of the checkpoint's content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    base: str
    recipe: PruningRecipe
    plan: str
    parameters: int
    bytes: int
    dtype: Dtype
    tokens: int | None
    kept: tuple[int, ...]
    versions: dict[str, str]
    files: dict[str, str]

    def write(self, directory: Path) -> None:
        """Write `recipe.json` into the checkpoint directory, which isn't in its place yet."""
        text = json.dumps(self.model_dump(mode="json"), indent=2) + "\n"
        (directory / RECIPE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "PruningRecord":
        """Read `recipe.json`. Raises UserError where it is missing or damaged."""
        path = directory / RECIPE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: can't be read; name a checkpoint that a baseline made") from error
        except ValidationError as error:
            raise UserError(f"{path}: {explain(error)}; copy it again, or make the checkpoint again") from error


def library_versions() -> dict[str, str]:
    """Versions of what computes."""
    return {name: importlib.metadata.version(name) for name in RECORDED}
