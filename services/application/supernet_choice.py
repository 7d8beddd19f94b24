"""Which super-network a search has: the one that it names, that its run began with, or that was made as it asks for."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.application.run_directory import RunDirectory
from services.application.supernet_store import Supernet, SupernetStore, is_supernet
from services.coordinator.history import History
from services.trainer.data import load_instructions
from shared.checkpoint_files import FileDigests, has_digest
from shared.environment import Environment
from shared.errors import UserError
from shared.files import is_directory, is_file, user_path
from shared.identity import TOKENS_VERSION, TRAINED_SPACE, TRAINING, difference
from shared.manifest import SupernetManifest, base_location
from shared.settings import SearchSettings, parse_settings
from shared.text import shortened


@dataclass(frozen=True)
class SupernetRequirement:
    """What a search file asks of its super-network. Model and training data count by their content, as far as that is
    at hand, else by their names: `base` holds the digests of the model's files, `data` the digest of the data."""

    settings: SearchSettings
    base: Mapping[str, str] | None
    data: str | None

    @classmethod
    def at_hand(cls, settings: SearchSettings, environment: Environment) -> "SupernetRequirement":
        """What can be known without fetching anything, and without the libraries of models."""
        directory, file = user_path(settings.model), user_path(settings.training.data)
        base = FileDigests(environment.cache).content(directory) if is_directory(directory) else None
        data = load_instructions(settings.training.data, environment).digest if is_file(file) else None
        return cls(settings, base, data)

    def is_base_of(self, manifest: SupernetManifest) -> bool:
        """Whether the super-network was made from the model that is asked for."""
        if self.base is not None:
            return has_digest(self.base, manifest.base_digest)
        return manifest.base == base_location(self.settings.model)

    def difference(self, manifest: SupernetManifest, methods: bool = True) -> str | None:
        """In what a super-network differs from the one that is asked for, in words; `methods` says whether our own
        count, which other releases may have had otherwise."""
        if not self.is_base_of(manifest):
            return _changed("model", manifest.base, base_location(self.settings.model))
        data, asked = manifest.training.data, self.settings.training.data
        if data != asked if self.data is None else manifest.data["digest"] != self.data:
            return _changed("training.data", data, asked)
        if methods and manifest.tokens_version != TOKENS_VERSION:
            return f"training rows became tokens in another way, version {manifest.tokens_version}"
        return difference(_sections(manifest), _sections(self.settings)) or _difference_in_memory(
            manifest, self.settings
        )


def supernet_of_run(run: RunDirectory, store: SupernetStore, asked: SupernetRequirement) -> Supernet | None:
    """The super-network that a run has already, its own or one of the store; None if it has none.

    A run with a history continues with the one that it was measured with, whatever release made that, if it was made
    as asked. Raises UserError if it was made otherwise; or if it is gone, and what is asked for would be another one.
    """
    supernet = Supernet.read(run.supernet.resolve()) if is_supernet(run.supernet) else None
    needed = None
    if run.history.is_file():
        with closing(History.read(run.history)) as history:
            about = history.about()
        needed = about["recipe"]["supernet"]
        if supernet is None or supernet.manifest.digest != needed:
            supernet = next((each for each in store.all() if each.manifest.digest == needed), None)
        if supernet is None:
            _refuse_another(run, parse_settings(about["settings"], str(run.history)), asked.settings)
    if supernet is None:
        return None
    replaceable = run.supernet.is_symlink() and needed is None
    found = asked.difference(supernet.manifest, methods=replaceable)
    if found is None:
        return supernet
    if replaceable:
        return None
    raise UserError(
        f"{run.supernet}: this super-network was made with other settings, model or data ({found}); "
        "restore them, or change `name` in the search file to have another one made"
    )


def find_supernet(
    settings: SearchSettings, run: RunDirectory, store: SupernetStore, environment: Environment
) -> Supernet | None:
    """The super-network of a search, as far as that is known without the model and the training data; None if it is
    still to be made.

    Raises UserError if the search file names one that isn't there, or the run has one that was made otherwise.
    """
    asked = SupernetRequirement.at_hand(settings, environment)
    if settings.supernet is not None:
        return named_supernet(asked, store)
    of_run = supernet_of_run(run, store, asked)
    if of_run is not None:
        return of_run
    return next((each for each in store.all() if asked.difference(each.manifest) is None), None)


def named_supernet(asked: SupernetRequirement, store: SupernetStore) -> Supernet:
    """The super-network that a search file names. Raises UserError where it isn't there or doesn't go with the file."""
    settings = asked.settings
    supernet = store.named(settings.supernet or "")
    manifest = supernet.manifest
    by_name = asked.base is None and Path(manifest.base).is_absolute()  # which says nothing of a model of the hub
    if not by_name and not asked.is_base_of(manifest):
        raise UserError(
            f"model: {shortened(settings.model)} is not the model that {supernet.directory} was made from, which was "
            f"{shortened(manifest.base)}; name that, or another super-network"
        )
    made = manifest.space.depth_rules
    lacking = [rule for rule in settings.space.depth_rules if rule not in made]
    if lacking:
        raise UserError(
            f"space.depth_rule: {lacking[0]}, but the layers of {supernet.directory} were ordered by "
            f"{' and '.join(made)}; write {'that' if len(made) == 1 else 'one of these, or several'}"
        )
    if "training" in settings.model_fields_set:
        found = difference(_sections(manifest)["training"], _sections(settings)["training"], "training.")
        found = found or _difference_in_memory(manifest, settings)
        if found is not None:
            raise UserError(
                f"training: {supernet.directory} was made otherwise ({found}); leave the section out, or correct it"
            )
    return supernet


def _refuse_another(run: RunDirectory, then: SearchSettings, now: SearchSettings) -> None:
    """A run whose super-network is gone can only be continued if the same one is made again."""
    found = difference(_sections(then), _sections(now))
    if found is not None and then.supernet is None:
        raise UserError(
            f"{run.history}: was measured with a super-network that is gone, and the search file asks for another one "
            f"({found}); restore that, or change `name` in the search file to begin a new search"
        )


def _sections(of: SupernetManifest | SearchSettings) -> dict[str, Any]:
    """What is said of a super-network besides model and data."""
    return {
        "space": TRAINED_SPACE.of(of.space.model_dump(mode="json")),
        "training": TRAINING.of(of.training.model_dump(mode="json")),
    }


def _difference_in_memory(manifest: SupernetManifest, asked: SearchSettings) -> str | None:
    """`auto` asks for none in particular; without steps none differs from another."""
    memory = asked.training.memory
    if memory in ("auto", manifest.memory) or not asked.training.steps:
        return None
    return f"training.memory was {manifest.memory}, now {memory}"


def _changed(what: str, made: str, asked: str) -> str:
    if made == asked:
        return f"{what} {shortened(made)} has changed since"
    return f"{what} was {shortened(made)}, now {shortened(asked)}"
