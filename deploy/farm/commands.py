"""What the commands of a farm do, whatever runs it."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from deploy.farm.backend import Backend
from deploy.farm.broker_files import broker_url, operator_address
from deploy.farm.console import say
from deploy.farm.programs import nasfarm
from deploy.farm.progress import watch
from deploy.farm.state import BackendName, FarmDirectory, FarmSpec
from services.application.example import example_search
from services.application.run_directory import RunDirectory
from services.application.supernet_choice import find_supernet
from services.application.supernet_store import clear_workspace
from shared.broker import requests_queue, results_queue
from shared.broker.rabbitmq import add_queues
from shared.environment import Environment
from shared.errors import UserError
from shared.files import write_atomically
from shared.policy import DESTROY_WAIT_SECONDS, MOVED_SECONDS, SETTLE_SECONDS
from shared.settings import read_search_file

UP: dict[BackendName, str] = {"processes": "make farm", "containers": "make deploy"}
"""The command that brings each kind of farm up."""
NO_FARM = "no farm is up; `make farm` or `make deploy` brings one up"
STAYS_UP = "interrupted; what is up stays up (make status, make down), and the same command goes on"


def backend_of(directory: FarmDirectory, name: BackendName) -> Backend:
    """What runs the farm."""
    if name == "processes":
        from deploy.farm.process_backend import Processes

        return Processes(directory)
    from deploy.farm.compose_backend import Compose

    return Compose(directory)


def bring_up(directory: FarmDirectory, name: BackendName, search_file: Path | None, **changes: object) -> None:
    """Bring a farm up, or have one that is up search something else too; returns when it measures.

    Args:
        directory: the farm's.
        name: what is to run it.
        search_file: what to search; None for what it had still to do, or else the example.
        changes: fields of FarmSpec; those that are None stay as they were.
    """
    backend = backend_of(directory, name)
    directory.make()
    with directory.turn(UP[name]):
        _settle_here(directory)
        with directory.locked():
            farm = _changed(directory, name, {key: value for key, value in changes.items() if value is not None})
            backend.check(farm)
            names = _asked(directory, farm, backend, search_file)
            farm = farm.preparing_for(names)
            directory.write(farm)
        say(f"Broker         {broker_url(farm)}")
        with _interruptible(STAYS_UP):
            backend.start_broker(farm)
            # Of those that go on: another release may have queues of other names.
            for each in farm.searches:
                queues = [requests_queue(each.supernet), results_queue(each.name)]
                add_queues(operator_address(directory, farm), queues)
    began = time.time()
    with _interruptible(STAYS_UP):
        for search in names:
            _begin(directory, farm, backend, search)
        with directory.turn(UP[name]):
            with directory.locked():
                farm = directory.read() or farm  # it may have been scaled while we trained
                farm = farm.model_copy(update={"asked": farm.asked + 1})
                directory.write(farm)
            backend.apply(farm)
    _tell(directory, farm)
    with _interruptible("the farm goes on, nobody waits for it any more: make status, make down"):
        watch(directory, farm, backend, names, began)


@contextmanager
def _interruptible(what: str) -> Iterator[None]:
    """Have Ctrl-C say what becomes of the farm."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what) from None


def _settle_here(directory: FarmDirectory) -> None:
    """See to it that the farm can run where it is. RabbitMQ's data and the links of runs know where they lay: if that
    was elsewhere, queues are made anew, and what was in them is measured again."""
    former, farm = directory.former(), directory.read()
    if former is not None and farm is not None:
        say(f"Moved          from {former.path}: the queues are made anew, what is measured stays")
        if not former.is_there:  # else it was copied, and what runs there is another farm
            backend_of(former, farm.backend).down()
        deadline = time.monotonic() + MOVED_SECONDS
        while backend_of(directory, farm.backend).running() and time.monotonic() < deadline:
            time.sleep(0.2)
        if backend_of(directory, farm.backend).running():  # one place under two paths looks like a move, too
            raise UserError(f"the farm still runs from {former.path}; `make down` there first")
        shutil.rmtree(directory.broker_files / "data", ignore_errors=True)
        names = [search.name for search in farm.searches]
        directory.write(farm.preparing_for(names).without(names))
    directory.note_place()


def _changed(directory: FarmDirectory, name: BackendName, changes: dict[str, object]) -> FarmSpec:
    """The farm that is wanted now. Raises UserError if it doesn't go with the one that is up."""
    former = directory.read()
    if former is None:
        return FarmSpec.model_validate({"backend": name, **changes})
    farm = FarmSpec.model_validate({**former.model_dump(), "backend": name, **changes})
    moved = farm.backend != former.backend or farm.port != former.port
    if moved and backend_of(directory, former.backend).running():
        raise UserError(f"a farm is up on port {former.port} by `{UP[former.backend]}`; `make down` ends it first")
    if farm.backend != former.backend:  # whose broker knows none of the searches' queues
        names = [search.name for search in farm.searches]
        farm = farm.preparing_for(names).without(names)
    return farm


def _asked(directory: FarmDirectory, farm: FarmSpec, backend: Backend, search_file: Path | None) -> list[str]:
    """Names of the searches that are to begin, of which the farm's directory has the files.

    Those that are under way aren't among them. Nor are, if no file is given, those that came to their end.
    """
    ended = backend.ended()
    under_way = {search.name for search in farm.searches if search.name not in ended}
    if search_file is None:
        failed = [name for name, code in ended.items() if code]
        names = list(dict.fromkeys((*farm.preparing, *failed)))
        if names or under_way:
            return names
        example = example_search(Environment.read())
        for line in example.choice:
            say(line)
        search_file = example.file
    settings, text = read_search_file(search_file), search_file.read_bytes()
    copy = directory.search_file(settings.name)
    RunDirectory(directory.runs / settings.name).check_name()
    if (named := settings.files_of_tasks) is not None:
        raise UserError(f"{search_file}: {named}: evaluators of a farm read no tasks from files; use `nasfarm search`")
    if settings.name in under_way and copy.is_file():
        if copy.read_bytes() == text:
            return []
        if backend.running():
            raise UserError(f"{search_file}: {settings.name} is being searched with other settings; `make down` first")
    write_atomically(copy, text)
    return [settings.name]


def _begin(directory: FarmDirectory, farm: FarmSpec, backend: Backend, name: str) -> None:
    """Have what a search needs, super-network and queues, and note that it can run."""
    settings, run = read_search_file(directory.search_file(name)), RunDirectory(directory.runs / name)
    environment = Environment.read()
    supernet = find_supernet(settings, run, directory.store, environment)
    if supernet is None:
        backend.train(farm, name)
        supernet = find_supernet(settings, run, directory.store, environment)
    else:
        clear_workspace(supernet.directory)
        say(f"Super-network  {supernet.directory}, there already")
    if supernet is None:
        raise UserError(f"{name}: its super-network is not in {directory.store.path} after the fine-tuning")
    run.path.mkdir(exist_ok=True)
    run.link(supernet.directory)
    digest = supernet.manifest.digest
    add_queues(operator_address(directory, farm), [requests_queue(digest), results_queue(name)])
    time.sleep(SETTLE_SECONDS)
    with directory.locked():
        directory.write((directory.read() or farm).with_search(name, digest))


def _tell(directory: FarmDirectory, farm: FarmSpec) -> None:
    """Say what there is, and what one can do with it."""
    for search in farm.searches:
        say(f"Search         {search.name}, super-network {search.supernet}, evaluators: {farm.evaluators}")
        say(f"Report         {directory.runs / search.name / 'report.html'}, when it is done")
    say("How far it is  make status; make logs")
    say("More, fewer    make scale EVALUATORS=n")
    say(f"End            make down; {UP[farm.backend]} goes on from there")


def scale(directory: FarmDirectory, evaluators: int) -> None:
    """Change the number of evaluators of each super-network."""
    with directory.turn("make scale"):
        farm = directory.read()
        if farm is None:
            raise UserError(NO_FARM)
        backend = _up(directory, farm, None)
        with directory.locked():
            farm = (directory.read() or farm).model_copy(update={"evaluators": evaluators})
            directory.write(farm)
        backend.apply(farm)
    say(f"Evaluators     {evaluators} of each super-network; those that are too many finish what they measure")


def status(directory: FarmDirectory) -> None:
    """Show the services, and how far the searches are."""
    farm, damage = _read(directory)
    for each in _up(directory, farm, damage).states():
        say(f"{each.name:<32} {each.state:<10} {each.detail}")
    if farm is None:
        return say(
            str(damage or f"{directory.farm_file}: isn't there; `make destroy` removes what is left of the farm")
        )
    for name in farm.preparing:
        say(f"{name:<32} {'preparing':<10} its super-network isn't there yet")
    say("")
    credentials = str(directory.credentials / "operator")
    subprocess.run([nasfarm(), "status", "--broker", broker_url(farm), "--credentials", credentials], check=False)
    return None


def logs(directory: FarmDirectory) -> None:
    """Follow the logs, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        _up(directory, *_read(directory)).follow_logs()


def down(directory: FarmDirectory) -> None:
    """Stop the farm; data are kept."""
    farm, damage = _read(directory)
    backends = _possible(directory, farm)
    if farm is None and not any(backend.running() for backend in backends):
        if damage is not None:
            raise damage
        return say("There is no farm.")
    with directory.turn("make down", shared=True):
        finished = {name for backend in backends for name, code in backend.ended().items() if code == 0}
        say("Evaluators finish what they measure; `make down` once more leaves at once")
        for backend in backends:
            backend.down()
        with directory.locked():
            farm, damage = _read(directory)
            if farm is not None:
                directory.write(farm.without(finished))
    if damage is not None:
        raise damage
    up = "make farm" if farm is None else UP[farm.backend]
    return say(f"The farm is down; `{up}` goes on from here, `make destroy` removes its data")


def destroy(directory: FarmDirectory) -> None:
    """End the farm at once and remove its data, whatever is left of them; runs and super-networks stay."""
    farm, _ = _read(directory)
    problems: list[UserError] = []
    with ExitStack() as turn:
        with suppress(UserError):  # not even that need be possible
            turn.enter_context(directory.turn("make destroy", shared=True, patience=DESTROY_WAIT_SECONDS))
        for place in _places(directory):
            for name in UP:
                if name == "containers" and farm is not None and not _had_containers(directory, farm):
                    continue
                try:
                    backend_of(place, name).destroy()
                except UserError as error:
                    if name == "processes":
                        problems.append(error)
                    elif _had_containers(directory, farm):
                        problems.append(UserError(f"containers may be left ({error}); then `make destroy` again"))
        try:
            directory.remove()
        except UserError as error:
            problems.append(error)
    if problems:
        raise UserError("; ".join(map(str, problems)))
    say(f"The farm and its data are gone; {directory.runs} and {directory.store.path} stay")


def _places(directory: FarmDirectory) -> list[FarmDirectory]:
    """Where processes of the farm may think that it is."""
    former = directory.former()
    return [directory] if former is None or former.is_there else [directory, former]


def _had_containers(directory: FarmDirectory, farm: FarmSpec | None) -> bool:
    """Whether containers may be left of a farm."""
    return (directory.path / "containers").exists() or (farm is not None and farm.backend == "containers")


def _read(directory: FarmDirectory) -> tuple[FarmSpec | None, UserError | None]:
    """The farm, if there is one, and what is wrong with its file, if that is damaged."""
    try:
        return directory.read(), None
    except UserError as error:
        return None, error


def _possible(directory: FarmDirectory, farm: FarmSpec | None) -> list[Backend]:
    """What runs the farm, or might where its file doesn't say."""
    if farm is not None:
        return [backend_of(directory, farm.backend)]
    found = [backend_of(directory, "processes")]
    if _had_containers(directory, None):
        with suppress(UserError):  # where nothing runs containers, none are up
            found.append(backend_of(directory, "containers"))
    return found


def _up(directory: FarmDirectory, farm: FarmSpec | None, damage: UserError | None) -> Backend:
    """What runs the farm that is up. Raises UserError if none is."""
    for backend in _possible(directory, farm):
        if backend.running():
            return backend
    raise damage or UserError(NO_FARM)
