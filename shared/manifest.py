"""supernet.json: what makes an ordinary checkpoint directory a super-network."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError, model_validator

from shared.checkpoint_files import content_digest, former_digest
from shared.drop_orders import DropOrder, DropOrders, all_orders, one_or_several
from shared.errors import UserError, first_line
from shared.files import is_directory, user_path, write_atomically
from shared.identity import SUPERNET, TOKENS_VERSION, TRAINED_SPACE, TRAINING
from shared.json_text import parse_json
from shared.messages import Dtype
from shared.network.config import network_of
from shared.network.shape import NetworkShape
from shared.settings import DepthRule, MemoryRecipe, SpaceSettings, TrainingSettings, explain
from shared.settings.values import ONE, SEVERAL
from shared.space import SearchSpace
from shared.text import shortened

MANIFEST = "supernet.json"
RECIPE = "recipe.json"
"""Says of a checkpoint that was made of another one, and is no super-network, how that was done."""
EXPORT = "export.json"
"""Says of a network that was exported what it is and where it came from."""
FINISHED = "finished.json"
"""Says of a network of a run that was fine-tuned further what it is, and whether it got better."""
FINISHED_ANSWERS = "finished.answers.json"
"""Its answers to the run's report items, and those that they are compared with."""
LOSSES = "training.jsonl"
"""The losses of the fine-tuning that made a checkpoint, step by step."""
ADAPTER = "adapter_config.json"
VERSION: Literal[2] = 2
"""Of the manifests that are written. Version 1 has digests by what counted then (`FORMER_CONTENT`)."""


def _tag(value: object) -> str:
    listed = isinstance(value, list | tuple) and any(isinstance(each, list | tuple) for each in value)
    return SEVERAL if listed else ONE


WrittenOrders = Annotated[
    Annotated[DropOrder, Tag(ONE)] | Annotated[tuple[DropOrder, ...], Tag(SEVERAL)], Discriminator(_tag)
]


class SupernetManifest(BaseModel):
    """How a super-network was made and what may be cut out of it.

    `base`: the base checkpoint's id at the hub or absolute directory; `dtype`: what the machine that made the
    super-network prefers to compute in (None in older manifests); `drop_order`: layers in the order in which they
    are dropped, of several rules an order each; `influence`: each layer's importance by which that was decided (None
    for other rules);
    `tokens_version`: how the training data became tokens; `memory`: how the fine-tuning held weights and gradients;
    `plan`: digest of the recipe (in version 1 of another form of it); `data`: origin and digest of the training data;
    `losses`: running means at the end; `files`: digests of the checkpoint's content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1, 2] = VERSION
    base: str
    base_digest: str
    dtype: Dtype | None = None
    space: SpaceSettings
    drop_order: WrittenOrders
    influence: tuple[float, ...] | None
    training: TrainingSettings
    tokens_version: int = 1
    memory: MemoryRecipe = "full"
    plan: str
    data: dict[str, str]
    losses: dict[str, float]
    versions: dict[str, str]
    files: dict[str, str]

    @model_validator(mode="after")
    def _order_of_each_rule(self) -> Self:
        orders, rules = len(all_orders(self.drop_order)), len(self.space.depth_rules)
        if orders != rules:
            raise ValueError(f"drop_order: should be {rules}, one for each depth_rule, and are {orders}")
        return self

    def orders_of(self, rules: Sequence[DepthRule]) -> DropOrders:
        """The orders of some of the rules that it was made with."""
        orders = dict(zip(self.space.depth_rules, all_orders(self.drop_order), strict=True))
        return one_or_several([orders[rule] for rule in rules])

    @property
    def digest(self) -> str:
        """Identity of the super-network."""
        return former_digest(self.files) if self.version == 1 else content_digest(self.files)

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decided what the super-network became."""
        data = self.data["digest"]
        return supernet_recipe(self.base_digest, data, self.space, self.training, self.tokens_version, self.memory)

    def write(self, directory: Path) -> None:
        """Write `supernet.json` into the checkpoint directory. Earlier releases can read it where they could have made
        the same."""
        values = self.model_dump(mode="json")
        beginnings = (
            (values, {"memory": "full"}),
            (values["space"], TRAINED_SPACE.later),
            (values["training"], {"memory": "auto", **TRAINING.later}),
        )
        for section, former in beginnings:
            for name in former:
                if section[name] == former[name]:
                    del section[name]
        write_atomically(directory / MANIFEST, json.dumps(values, indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "SupernetManifest":
        """Read `supernet.json`. Raises UserError where it is missing or damaged."""
        path = directory / MANIFEST
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: can't be read; `nasfarm train` makes a super-network") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, where: str) -> "SupernetManifest":
        """Parse the content of a `supernet.json`; `where` names it. Raises UserError where it is damaged or newer."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            if _version(content) > VERSION:
                raise UserError(f"{where}: written by a newer release of nasfarm; use that, or a newer one") from error
            raise UserError(
                f"{where}: {explain(error)}; copy it again, or remove the directory and run `nasfarm train` again"
            ) from error


def supernet_recipe(
    base_digest: str,
    data_digest: str,
    space: SpaceSettings,
    training: TrainingSettings,
    tokens_version: int = TOKENS_VERSION,
    memory: MemoryRecipe = "full",
) -> dict[str, Any]:
    """All that decides what a super-network becomes; its digest is the super-network's name before it is made."""
    return SUPERNET.of(
        {
            "base": base_digest,
            "data": data_digest,
            "space": space.model_dump(mode="json"),
            "training": training.model_dump(mode="json"),
            "tokens_version": tokens_version,
            "memory": memory,
        }
    )


def _version(content: bytes) -> int:
    try:
        version = parse_json(content)["version"]
    except (ValueError, TypeError, KeyError):
        return 0
    return version if isinstance(version, int) else 0


def base_location(model: str) -> str:
    """What a search file calls its model, made to mean the same in every process: a directory becomes absolute."""
    directory = user_path(model)
    return str(directory.absolute()) if is_directory(directory) else model


def read_config(directory: Path) -> dict[str, Any]:
    """The parsed `config.json` of a checkpoint. Raises UserError where it is missing or damaged."""
    path = directory / "config.json"
    try:
        config = parse_json(path.read_bytes())
    except FileNotFoundError as error:
        found = adapter(directory)
        if found is not None:
            raise UserError(found) from error
        raise UserError(f"{directory}: no config.json; give the directory of a Hugging Face checkpoint") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({first_line(error)}); copy the checkpoint again") from error
    if not isinstance(config, dict):
        raise UserError(f"{path}: not a JSON object; copy the checkpoint again")
    return config


def adapter(directory: Path) -> str | None:
    """The message for a directory that holds an adapter (PEFT) instead of a network; None for any other."""
    try:
        content = parse_json((directory / ADAPTER).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        content = None
    base = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    named = shortened(base) if base and isinstance(base, str) else "a model"
    return (
        f"{directory}: holds an adapter (PEFT) to {named}, not a network; merge it and name the result: "
        "AutoPeftModelForCausalLM.from_pretrained(ADAPTER).merge_and_unload().save_pretrained(DIRECTORY) in Python, "
        "from peft, and copy the model's tokenizer there"
    )


def read_network(directory: Path) -> NetworkShape:
    """The network that a checkpoint's `config.json` describes."""
    return network_of(read_config(directory), str(directory / "config.json"))


def search_space(network: NetworkShape, settings: SpaceSettings, drop_order: DropOrders) -> SearchSpace:
    """The search space of a model, given the order in which its layers are dropped, or several."""
    return SearchSpace(
        network, settings.depths, settings.mlp_widths, drop_order, settings.quantization, settings.attention
    )
