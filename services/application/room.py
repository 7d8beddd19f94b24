"""What a search takes of memory and disk, and what is there: said before anything is computed, and refused where it
can't fit."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.application.prepared_search import PreparedSearch
from services.application.supernet_store import workspace_of
from services.evaluator.batch_size import scoring_bytes
from services.reporting.wording import parameters as parameters_in_words
from services.reporting.wording import size
from services.trainer.memory_choice import needs_of
from shared.errors import UserError
from shared.events import Events
from shared.home import nearest
from shared.machine_memory import Memory, host_memory
from shared.memory_needs import FineTuningNeeds, fine_tuning_needs, first_that_fits, recipes_for, refitted_numbers
from shared.messages import Dtype
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters
from shared.settings import MemoryRecipe, SearchSettings, TrainingSettings
from shared.supernet.device import compute_device, device_memory, preferred_dtype

NeedsOf = Callable[[TrainingSettings, MemoryRecipe], FineTuningNeeds]


@dataclass(frozen=True)
class Room:
    """What there is: memory of the device and, where that is a GPU, of the host, None where it isn't known; and what is
    free on disk at a place."""

    device: Memory | None
    host: Memory | None
    place: Path
    disk: int

    @classmethod
    def here(cls, place: Path) -> "Room":
        """Of this machine, on the disk of a place that may be still to be made; what is unfinished there already counts
        as free."""
        device = compute_device()
        host = host_memory() if device.type == "cuda" else None
        used = sum(file.stat().st_size for file in workspace_of(place).rglob("*") if file.is_file())
        return cls(device_memory(device), host, place, shutil.disk_usage(nearest(place.absolute())).free + used)

    @property
    def device_name(self) -> str:
        """What people call it."""
        return "this machine" if self.host is None else "the GPU"


@dataclass(frozen=True)
class SearchNeeds:
    """What a search takes: `fine_tuning` by the recipe `memory`, None where the super-network is there already;
    `scoring` its largest network, held in `dtype`, in bytes of the device."""

    network: NetworkShape
    training: TrainingSettings
    memory: MemoryRecipe
    needs_of: NeedsOf
    fine_tuned: bool
    scoring: int
    dtype: Dtype

    @property
    def fine_tuning(self) -> FineTuningNeeds:
        """What the fine-tuning takes."""
        return self.needs_of(self.training, self.memory)

    def in_words(self, room: Room) -> str:
        """A line for the user."""
        words = []
        if self.fine_tuned:
            words.append(f"fine-tuning {size(self.fine_tuning.device)} ({self.memory})")
        words.append(f"scoring {size(self.scoring)} ({self.dtype})")
        line = ", ".join(words)
        if room.device is not None:
            line += f", of {size(room.device.total)} that {room.device_name} has ({size(room.device.free)} free)"
        if self.fine_tuned and room.host is not None:
            line += f"; {size(self.fine_tuning.host)} of the host's {size(room.host.total)}"
        if self.fine_tuned:
            line += f"; {size(self.fine_tuning.disk)} of disk ({size(room.disk)} free)"
        return line

    def check_fine_tuning(self, room: Room) -> None:
        """Raise UserError, which names the setting to change, where the fine-tuning can't fit."""
        if not self.fine_tuned:
            return
        needs = self.fine_tuning
        if room.device is not None and needs.device > room.device.total:
            raise UserError(self._too_little_memory(room.device.total, room.device_name))
        if room.host is not None and needs.host > room.host.total:
            raise UserError(
                f"model: writing the super-network takes {size(needs.host)} of the host's memory, which has "
                f"{size(room.host.total)}; run `nasfarm train` on a machine with more"
            )
        if needs.disk > room.disk:
            leanest = recipes_for(self.training)[-1]
            least = self.needs_of(self.training, leanest)
            smaller = f"set it to {leanest} ({size(least.disk)}), " if least.disk <= room.disk else ""
            raise UserError(
                f"training.memory: {self.memory} takes {size(needs.disk)} of disk for the saved state and the "
                f"super-network, {room.place.parent} has {size(room.disk)} free; {smaller}make room, or give "
                "--supernets another place"
            )

    def check_scoring(self, room: Room) -> None:
        """Raise UserError, which names the setting to change, where the largest network can't be scored here."""
        if room.device is None or self.scoring <= room.device.total:
            return
        smaller = "write bfloat16, or search" if self.dtype == "float32" else "search"
        raise UserError(
            f"dtype: scoring in {self.dtype} takes {size(self.scoring)}, {room.device_name} has "
            f"{size(room.device.total)}; {smaller} with evaluators on larger machines (--broker)"
        )

    def _too_little_memory(self, total: int, name: str) -> str:
        taken = f"takes {size(self.fine_tuning.device)} to fine-tune, {name} has {size(total)}"
        recipes = recipes_for(self.training)
        for recipe in recipes[recipes.index(self.memory) + 1 :]:
            other = self.needs_of(self.training, recipe).device
            if other <= total:
                return f"training.memory: {self.memory} {taken}; set it to {recipe}, which takes {size(other)}"
        asked, recipe = self.training.tokens_per_step, recipes[-1]
        tokens = asked // 2
        while tokens >= 64:
            fewer = self.training.model_copy(update={"tokens_per_step": tokens})
            if self.needs_of(fewer, recipe).device <= total:
                also = "" if self.memory == recipe else f" and training.memory to {recipe}"
                return f"training.tokens_per_step: {self.memory} with {asked} {taken}; set it to {tokens}{also}"
            tokens //= 2
        least = self.needs_of(self.training.model_copy(update={"tokens_per_step": 64}), recipe).device
        return (
            f"training.steps: to fine-tune {parameters_in_words(parameters(self.network))} parameters takes at least "
            f"{size(least)}, {name} has {size(total)}; run `nasfarm train` on a larger machine, or set it to 0"
        )


def needs_of_model(
    network: NetworkShape, settings: SearchSettings, dtype: Dtype, stored_bytes: int, room: Room
) -> SearchNeeds:
    """What a search takes of which nothing is read but the model's config: no training data, no weights."""
    refitted = refitted_numbers(network, settings.space, settings.training)

    def needs(training: TrainingSettings, memory: MemoryRecipe) -> FineTuningNeeds:
        return fine_tuning_needs(network, training, memory, preferred_dtype(), stored_bytes, refitted=refitted)

    memory = settings.training.memory
    if memory == "auto":
        total = None if room.device is None else room.device.total
        memory = (
            "full"
            if total is None
            else (first_that_fits(total, recipes_for(settings.training), partial(needs, settings.training)))
        )
    fine_tuned = settings.supernet is None and settings.training.steps > 0
    scoring = scoring_bytes(network, dtype, compute_device().type, refitted)
    return SearchNeeds(network, settings.training, memory, needs, fine_tuned, scoring, dtype)


def say_needs(needs: SearchNeeds, room: Room, events: Events) -> None:
    """Tell the user."""
    events.note("Memory", needs.in_words(room))


def check_room(prepared: PreparedSearch, dtype: Dtype) -> tuple[SearchNeeds, Room]:
    """What a prepared search takes, whose networks are held in `dtype`, and what there is here. Raises UserError where
    its fine-tuning can't fit."""
    plan = prepared.training
    training = prepared.settings.training
    fine_tuned = prepared.supernet is None and plan is not None and training.steps > 0
    network = prepared.base.network
    made = prepared.settings if prepared.supernet is None else prepared.supernet.manifest
    refitted = refitted_numbers(network, made.space, made.training)

    def needs(training: TrainingSettings, memory: MemoryRecipe) -> FineTuningNeeds:
        if plan is None:
            raise ValueError("a super-network that the search file names is not made here")
        return needs_of(prepared.base, training, plan.data, memory, refitted)

    memory: MemoryRecipe = "full" if plan is None else plan.memory
    scoring = scoring_bytes(network, dtype, compute_device().type, refitted)
    found = SearchNeeds(network, training, memory, needs, fine_tuned, scoring, dtype)
    room = Room.here(prepared.place)
    found.check_fine_tuning(room)
    return found, room
