"""supernet.json: what makes an ordinary checkpoint directory a super-network."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.digest import digest_file, digest_json
from shared.errors import UserError
from shared.files import write_atomically
from shared.messages import Dtype
from shared.settings import SpaceSettings, TrainingSettings, explain
from shared.shape import ModelShape
from shared.space import SearchSpace

MANIFEST = "supernet.json"
CONTENT = ("config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "*.safetensors")
"""The files of a checkpoint that decide what its network answers."""


class SupernetManifest(BaseModel):
    """How a super-network was made and what may be cut out of it.

    `base`: the base checkpoint's id at the hub or absolute directory; `dtype`: what the machine that made the
    super-network prefers to compute in (None in older manifests); `drop_order`: layers in the order in which they
    leave; `influence`: each layer's importance by which that was decided (None for the rule `first`); `plan`: digest
    of all that the fine-tuning depended on; `data`: origin and digest of the training data; `losses`: running means at
    the end; `files`: digests of the checkpoint's content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    base: str
    base_digest: str
    dtype: Dtype | None = None
    space: SpaceSettings
    drop_order: tuple[int, ...]
    influence: tuple[float, ...] | None
    training: TrainingSettings
    plan: str
    data: dict[str, str]
    losses: dict[str, float]
    versions: dict[str, str]
    files: dict[str, str]

    @property
    def digest(self) -> str:
        """Identity of the super-network."""
        return content_digest(self.files)

    def write(self, directory: Path) -> None:
        """Write `supernet.json` into the checkpoint directory."""
        write_atomically(directory / MANIFEST, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "SupernetManifest":
        """Read `supernet.json`. Raises UserError where it is missing or damaged."""
        path = directory / MANIFEST
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: can't be read; `nasfarm train` makes a super-network") from error
        except ValidationError as error:
            raise UserError(f"{path}: {explain(error)}; remove the directory and run `nasfarm train` again") from error


def base_location(model: str) -> str:
    """What a search file calls its model, made to mean the same in every process: a directory becomes absolute."""
    directory = Path(model).expanduser()
    return str(directory.absolute()) if directory.is_dir() else model


def read_config(directory: Path) -> dict[str, Any]:
    """The parsed `config.json` of a checkpoint. Raises UserError where it is missing or damaged."""
    path = directory / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{directory}: no config.json; give the directory of a Hugging Face checkpoint") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); copy the checkpoint again") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: not a JSON object; copy the checkpoint again")
    return config


def read_shape(directory: Path) -> ModelShape:
    """The shape that a checkpoint's `config.json` states."""
    return ModelShape.from_config(read_config(directory), str(directory / "config.json"))


def search_space(shape: ModelShape, settings: SpaceSettings, drop_order: tuple[int, ...]) -> SearchSpace:
    """The search space of a model, given the order in which its layers leave."""
    return SearchSpace(shape, settings.depths, settings.mlp_widths, drop_order, settings.quantization)


def digest_content(directory: Path) -> dict[str, str]:
    """Digest of every file that decides what the checkpoint's network answers."""
    files = sorted({path for pattern in CONTENT for path in directory.glob(pattern)})
    return {path.name: digest_file(path) for path in files}


def content_digest(files: dict[str, str]) -> str:
    """Identity of a checkpoint, from its files' digests."""
    return digest_json(files)
