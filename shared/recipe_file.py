"""`recipe.json`: how a checkpoint was made of another one, for everything but super-networks."""

import importlib.metadata
import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import UserError, first_line
from shared.json_text import parse_json
from shared.manifest import MANIFEST, RECIPE
from shared.messages import Dtype
from shared.settings import explain


class RecipeRecord(BaseModel):
    """What every `recipe.json` says of a checkpoint; each kind adds the recipe itself, and what was found on the way.

    `base`: absolute directory of the checkpoint that it was made of; `plan`: digest of the recipe; `parameters` and
    `bytes`: true sizes, bytes of the weights as they are written; `dtype`: what the machine that made it prefers to
    compute in; `kept`: the places that the layers had in the base; `versions`: of the libraries that computed; `files`:
    digests of the checkpoint's content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    base: str
    plan: str
    parameters: int
    bytes: int
    dtype: Dtype
    kept: tuple[int, ...]
    versions: dict[str, str]
    files: dict[str, str]

    def write(self, directory: Path) -> None:
        """Write `recipe.json` into the checkpoint directory, which isn't in its place yet."""
        text = json.dumps(self.model_dump(mode="json"), indent=2) + "\n"
        (directory / RECIPE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read `recipe.json`. Raises UserError where it is missing, damaged or of another kind."""
        path = directory / RECIPE
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: can't be read; name a checkpoint that was made of another one") from error
        except ValidationError as error:
            raise UserError(f"{path}: {explain(error)}; copy it again, or make the checkpoint again") from error


def origin_of(directory: Path) -> dict[str, Any] | None:
    """All that a checkpoint's own `recipe.json` or `supernet.json` says of how it was made; None where it has neither.

    Raises UserError for a damaged one.
    """
    for path in (directory / RECIPE, directory / MANIFEST):
        try:
            content = parse_json(path.read_bytes())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not readable as JSON ({first_line(error)}); copy it again") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: not a JSON object; copy it again")
        return content
    return None


def library_versions(*names: str) -> dict[str, str]:
    """Versions of nasfarm and of libraries that compute for it: those named, and those that every network needs."""
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "nasfarm", *names)}
