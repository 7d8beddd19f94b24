"""The checkpoints that are fine-tuned by themselves for a study, and chosen networks that are cut out of the untouched
model: each once, and continued where it was interrupted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from services.application.enough_memory import enough_memory
from services.application.prepared_search import PreparedSearch
from services.application.single_making import as_begun, make_shown
from services.application.study.checkpoints import StudyCheckpoints
from services.application.study.compared import tokens_of
from services.application.study.preparation import PreparedStudy
from services.application.study.study_directory import StudyDirectory
from services.application.supernet_store import Supernet, SupernetStore, is_supernet
from services.application.supernet_training import fine_tune
from services.coordinator.study.choice import cut_alone
from services.coordinator.study.networks import FineTuning, StudyNetwork
from services.trainer.fine_tuning import DivergedError
from services.trainer.recipe import FullMethod, LoraMethod
from services.trainer.single_fine_tuning import plan_single
from services.trainer.training_data import TrainingData
from shared.architecture import Architecture, dense
from shared.environment import Environment
from shared.events import Events
from shared.manifest import read_network
from shared.messages import CheckpointRef
from shared.settings import TrainingSettings


@dataclass(frozen=True)
class SingleNetworks:
    """Makes single networks of a study, in the fine-tuning of its first super-network: the same steps on the same
    data. The study goes on without one whose fine-tuning diverges: `failed` has a line for each."""

    study: PreparedStudy
    directory: StudyDirectory
    store: SupernetStore
    checkpoints: StudyCheckpoints
    environment: Environment
    events: Events
    failed: list[str] = field(default_factory=list)

    def tuned(self, pruned: Sequence[StudyNetwork]) -> Iterator[StudyNetwork]:
        """The baselines' networks, each followed by what becomes of it by fine-tuning."""
        settings = self.study.settings
        for network in pruned:
            yield network
            methods: dict[FineTuning, bool] = {
                "full": network.name in settings.fully_tuned,
                "lora": network.name in settings.fine_tuning.lora,
            }
            for method, asked in methods.items():
                if asked and self._training.steps:
                    yield from self._tuned(network, method)

    def alone(self, networks: Sequence[StudyNetwork]) -> Iterator[StudyNetwork]:
        """Some of the chosen networks (`cut_alone`) cut out of the untouched model in the super-network's order of
        neurons: as they are, and fine-tuned."""
        settings = self.study.settings
        chosen = cut_alone(settings, networks)
        for supernet in settings.supernets:
            mine = [each for each in chosen if each.supernet == supernet.name]
            if mine:
                yield from self._alone(self._untuned(supernet.name), mine)

    def _alone(self, untuned: Supernet, chosen: Sequence[StudyNetwork]) -> Iterator[StudyNetwork]:
        source = CheckpointRef(location=str(untuned.directory), digest=untuned.manifest.digest)
        for network in chosen:
            cut = self._made(source, network.architecture, "none", _in_words(network, "alone"))
            alone = replace(network, kind="alone", checkpoint=cut, architecture=_whole(cut), tuned_tokens=0)
            yield alone
            if self._training.steps:
                yield from self._tuned(alone, "full")

    @property
    def _training(self) -> TrainingSettings:
        return self.study.settings.supernets[0].training

    @property
    def _data(self) -> TrainingData | None:
        training = self.study.first[self.study.settings.supernets[0].name].training
        return None if training is None else training.data

    def _untuned(self, supernet: str) -> Supernet:
        """The super-network as it is before its fine-tuning: the untouched model with its neurons in order."""
        first = self.study.first[supernet]
        if first.training is None:
            raise ValueError("a super-network that a search file names has no plan")
        settings = first.settings.model_copy(
            update={"training": first.settings.training.model_copy(update={"steps": 0, "refit": False})}
        )
        plan = replace(first.training, settings=settings)
        place = self.store.place(plan.digest)
        self.directory.link(f"{supernet}.untuned", place)
        if is_supernet(place):
            return Supernet.read(place)
        ready: PreparedSearch = replace(first, settings=settings, training=plan, supernet=None, place=place)
        return fine_tune(ready, self.events)

    def _tuned(self, network: StudyNetwork, method: FineTuning) -> Iterator[StudyNetwork]:
        """The network as it is after its fine-tuning; none where that diverges."""
        what = _in_words(network, method)
        try:
            made = self._made(network.checkpoint, None, method, what)
        except DivergedError as error:
            self.failed.append(f"{what}: {error}")
            self.events.note("Fine-tuning", f"{what}: failed, the study goes on without it: {error}")
            return
        yield replace(
            network,
            checkpoint=made,
            architecture=_whole(made),
            fine_tuning=method,
            tuned_tokens=tokens_of(self.study.settings.supernets[0]),
        )

    def _made(
        self, source: CheckpointRef, architecture: Architecture | None, method: FineTuning, what: str
    ) -> CheckpointRef:
        """The checkpoint of a fine-tuning, or of a cut where `method` is `none`."""
        tuning, training = self.study.settings.fine_tuning, self._training
        how: FullMethod | LoraMethod = FullMethod()
        if method == "none":
            training = training.model_copy(update={"steps": 0})
        elif method == "full":
            rate = tuning.learning_rate or training.learning_rate
            training = training.model_copy(update={"learning_rate": rate})
        else:
            training = training.model_copy(update={"learning_rate": tuning.lora_learning_rate})
            how = LoraMethod(rank=tuning.lora_rank, alpha=tuning.lora_alpha)
        plan = plan_single(
            Path(source.location), source.digest, architecture, training, how, self.environment, self._data
        )
        plan = as_begun(plan, self.checkpoints.made, lambda digest: self.directory.workspace(digest).is_dir())
        workspace = self.directory.workspace(plan.digest)
        with enough_memory(f"fine_tuning: {what}", "leave it out of `fine_tuning`"):
            return self.checkpoints.get(
                plan.digest, lambda place: make_shown(plan, workspace, place, what, self.events)
            )


def _whole(checkpoint: CheckpointRef) -> Architecture:
    return dense(read_network(Path(checkpoint.location)))


def _in_words(network: StudyNetwork, how: str) -> str:
    return f"{network.name or network.supernet}, {network.times_smaller:g} times smaller, {how}"
