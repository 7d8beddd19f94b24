"""What the commands of a farm do, whichever backend runs it."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from deploy.farm.backend import Backend
from deploy.farm.broker_files import broker_url, operator_address
from deploy.farm.console import print_line
from deploy.farm.progress import wait_until_measuring
from deploy.farm.state import BackendName, FarmDirectory, FarmSpec
from deploy.farm.status import print_searches, print_services
from services.application.example import example_search
from services.application.run_directory import RunDirectory
from services.application.supernet_choice import find_supernet
from services.application.supernet_store import clear_workspace
from shared.broker import requests_queue, results_queue
from shared.broker.rabbitmq import add_queues
from shared.environment import Environment
from shared.errors import UserError
from shared.failure_policy import DESTROY_WAIT_SECONDS, MOVED_SECONDS, SETTLE_SECONDS
from shared.files import write_atomically
from shared.settings import read_search_file

UP: dict[BackendName, str] = {"processes": "make farm", "containers": "make deploy"}
"""The command that brings each kind of farm up."""
NO_FARM = "no farm is up; `make farm` or `make deploy` brings one up"
STAYS_UP = "interrupted; what is up stays up (make status, make down); the same command continues"


def backend_of(directory: FarmDirectory, name: BackendName) -> Backend:
    """What runs the farm."""
    if name == "processes":
        from deploy.farm.process_backend import ProcessBackend

        return ProcessBackend(directory)
    from deploy.farm.compose_backend import ComposeBackend

    return ComposeBackend(directory)


def bring_up(directory: FarmDirectory, name: BackendName, search_file: Path | None, **changes: object) -> None:
    """Bring a farm up, or have one that is up search something else too; returns when it measures.

    Args:
        directory: the farm's.
        name: what is to run it.
        search_file: what to search; None for the searches that are unfinished, or else the example.
        changes: fields of FarmSpec; those that are None stay as they were.
    """
    backend = backend_of(directory, name)
    directory.make()
    with directory.process_lock(UP[name]):
        _adopt_moved_farm(directory)
        with directory.state_lock():
            farm = _with_changes(directory, name, {key: value for key, value in changes.items() if value is not None})
            backend.check(farm)
            names = _searches_to_begin(directory, farm, backend, search_file)
            farm = farm.with_preparing(names)
            directory.write(farm)
        print_line(f"Broker         {broker_url(farm)}")
        with _interruptible(STAYS_UP):
            backend.start_broker(farm)
            # Of the searches that continue: another release may use other queue names.
            for each in farm.searches:
                queues = [requests_queue(each.supernet), results_queue(each.name)]
                add_queues(operator_address(directory, farm), queues)
    began = time.time()
    with _interruptible(STAYS_UP):
        for search in names:
            _prepare_search(directory, farm, backend, search)
        with directory.process_lock(UP[name]):
            with directory.state_lock():
                farm = directory.read() or farm  # it may have been scaled while we trained
                farm = farm.model_copy(update={"asked": farm.asked + 1})
                directory.write(farm)
            backend.apply(farm)
    _print_summary(directory, farm)
    with _interruptible("no longer waiting; the farm keeps running: make status, make down"):
        wait_until_measuring(directory, farm, backend, names, began)


@contextmanager
def _interruptible(what: str) -> Iterator[None]:
    """Have Ctrl-C tell what becomes of the farm."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(what) from None


def _adopt_moved_farm(directory: FarmDirectory) -> None:
    """Make a farm that was moved run where it is now. RabbitMQ's data and the links of runs hold paths: where these
    have changed, queues are created again, and requests that were in them are measured again."""
    former, farm = directory.previous_place(), directory.read()
    if former is not None and farm is not None:
        print_line(f"Moved          from {former.path}: the queues are created again, measurements are kept")
        if not former.is_there:  # else it was copied, and what runs there is another farm
            backend_of(former, farm.backend).down()
        deadline = time.monotonic() + MOVED_SECONDS
        while backend_of(directory, farm.backend).running() and time.monotonic() < deadline:
            time.sleep(0.2)
        if backend_of(directory, farm.backend).running():  # one place under two paths looks like a move, too
            raise UserError(f"the farm still runs from {former.path}; run `make down` there first")
        shutil.rmtree(directory.broker_files / "data", ignore_errors=True)
        names = [search.name for search in farm.searches]
        directory.write(farm.with_preparing(names).without(names))
    directory.record_place()


def _with_changes(directory: FarmDirectory, name: BackendName, changes: dict[str, object]) -> FarmSpec:
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
        farm = farm.with_preparing(names).without(names)
    return farm


def _searches_to_begin(
    directory: FarmDirectory, farm: FarmSpec, backend: Backend, search_file: Path | None
) -> list[str]:
    """Names of the searches that are to begin, of which the farm's directory has the files.

    Searches that are running are not among them; nor are, if no file is given, those that have finished.
    """
    ended = backend.ended()
    running_searches = {search.name for search in farm.searches if search.name not in ended}
    if search_file is None:
        failed = [name for name, code in ended.items() if code]
        names = list(dict.fromkeys((*farm.preparing, *failed)))
        if names or running_searches:
            return names
        example = example_search(Environment.read())
        for line in example.choice:
            print_line(line)
        search_file = example.file
    settings, text = read_search_file(search_file), search_file.read_bytes()
    copy = directory.search_file(settings.name)
    RunDirectory(directory.runs / settings.name).check_name()
    if (named := settings.files_of_tasks) is not None:
        raise UserError(f"{search_file}: {named}: evaluators of a farm read no tasks from files; use `nasfarm search`")
    if settings.name in running_searches and copy.is_file():
        if copy.read_bytes() == text:
            return []
        if backend.running():
            raise UserError(f"{search_file}: {settings.name} is being searched with other settings; `make down` first")
    write_atomically(copy, text)
    return [settings.name]


def _prepare_search(directory: FarmDirectory, farm: FarmSpec, backend: Backend, name: str) -> None:
    """Provide what a search needs, super-network and queues, and record that it can run."""
    settings, run = read_search_file(directory.search_file(name)), RunDirectory(directory.runs / name)
    environment = Environment.read()
    supernet = find_supernet(settings, run, directory.store, environment)
    if supernet is None:
        backend.train(farm, name)
        supernet = find_supernet(settings, run, directory.store, environment)
    else:
        clear_workspace(supernet.directory)
        print_line(f"Super-network  {supernet.directory}, there already")
    if supernet is None:
        raise UserError(f"{name}: its super-network is not in {directory.store.path} after the fine-tuning")
    run.path.mkdir(exist_ok=True)
    run.link(supernet.directory)
    digest = supernet.manifest.digest
    add_queues(operator_address(directory, farm), [requests_queue(digest), results_queue(name)])
    time.sleep(SETTLE_SECONDS)
    with directory.state_lock():
        directory.write((directory.read() or farm).with_search(name, digest))


def _print_summary(directory: FarmDirectory, farm: FarmSpec) -> None:
    """Print what the farm searches, and the commands to use next."""
    for search in farm.searches:
        print_line(f"Search         {search.name}, super-network {search.supernet}, evaluators: {farm.evaluators}")
        print_line(f"Report         {directory.runs / search.name / 'report.html'}, when it is done")
    print_line("Progress       make status; make logs")
    print_line("Evaluators     make scale EVALUATORS=n")
    print_line(f"Stop           make down; {UP[farm.backend]} continues from there")


def scale(directory: FarmDirectory, evaluators: int) -> None:
    """Change the number of evaluators of each super-network."""
    with directory.process_lock("make scale"):
        farm = directory.read()
        if farm is None:
            raise UserError(NO_FARM)
        backend = _running_backend(directory, farm, None)
        with directory.state_lock():
            farm = (directory.read() or farm).model_copy(update={"evaluators": evaluators})
            directory.write(farm)
        backend.apply(farm)
    print_line(f"Evaluators     {evaluators} of each super-network; those that are too many finish what they measure")


def status(directory: FarmDirectory) -> None:
    """Show the services, and how far the searches are."""
    farm, damage = _read(directory)
    print_services(_running_backend(directory, farm, damage).states())
    if farm is None:
        remedy = "`make destroy` removes what is left of the farm"
        return print_line(str(damage or f"{directory.farm_file}: isn't there; {remedy}"))
    return print_searches(directory, farm)


def logs(directory: FarmDirectory) -> None:
    """Follow the logs, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        _running_backend(directory, *_read(directory)).follow_logs()


def down(directory: FarmDirectory) -> None:
    """Stop the farm; data are kept."""
    farm, damage = _read(directory)
    backends = _possible_backends(directory, farm)
    if farm is None and not any(backend.running() for backend in backends):
        if damage is not None:
            raise damage
        return print_line("There is no farm.")
    with directory.process_lock("make down", shared=True):
        finished = {name for backend in backends for name, code in backend.ended().items() if code == 0}
        print_line("Evaluators finish what they measure; `make down` once more leaves at once")
        for backend in backends:
            backend.down()
        with directory.state_lock():
            farm, damage = _read(directory)
            if farm is not None:
                directory.write(farm.without(finished))
    if damage is not None:
        raise damage
    up = "make farm" if farm is None else UP[farm.backend]
    return print_line(f"The farm is down; `{up}` resumes it, `make destroy` removes its data")


def destroy(directory: FarmDirectory) -> None:
    """End the farm at once and remove its data, whatever is left of them; runs and super-networks stay."""
    farm, _ = _read(directory)
    problems: list[UserError] = []
    with ExitStack() as turn:
        with suppress(UserError):  # not even that need be possible
            turn.enter_context(directory.process_lock("make destroy", shared=True, patience=DESTROY_WAIT_SECONDS))
        for place in _farm_directories(directory):
            for name in UP:
                if name == "containers" and farm is not None and not _may_have_containers(directory, farm):
                    continue
                try:
                    backend_of(place, name).destroy()
                except UserError as error:
                    if name == "processes":
                        problems.append(error)
                    elif _may_have_containers(directory, farm):
                        problems.append(UserError(f"containers may be left ({error}); then `make destroy` again"))
        try:
            directory.remove()
        except UserError as error:
            problems.append(error)
    if problems:
        raise UserError("; ".join(map(str, problems)))
    print_line(f"The farm and its data are removed; {directory.runs} and {directory.store.path} are kept")


def _farm_directories(directory: FarmDirectory) -> list[FarmDirectory]:
    """Where processes of the farm may think that it is."""
    former = directory.previous_place()
    return [directory] if former is None or former.is_there else [directory, former]


def _may_have_containers(directory: FarmDirectory, farm: FarmSpec | None) -> bool:
    """Whether containers may be left of a farm."""
    return (directory.path / "containers").exists() or (farm is not None and farm.backend == "containers")


def _read(directory: FarmDirectory) -> tuple[FarmSpec | None, UserError | None]:
    """The farm, if there is one, and what is wrong with its file, if that is damaged."""
    try:
        return directory.read(), None
    except UserError as error:
        return None, error


def _possible_backends(directory: FarmDirectory, farm: FarmSpec | None) -> list[Backend]:
    """What runs the farm, or might where its file doesn't say."""
    if farm is not None:
        return [backend_of(directory, farm.backend)]
    found = [backend_of(directory, "processes")]
    if _may_have_containers(directory, None):
        with suppress(UserError):  # where nothing runs containers, none are up
            found.append(backend_of(directory, "containers"))
    return found


def _running_backend(directory: FarmDirectory, farm: FarmSpec | None, damage: UserError | None) -> Backend:
    """What runs the farm that is up. Raises UserError if none is."""
    for backend in _possible_backends(directory, farm):
        if backend.running():
            return backend
    raise damage or UserError(NO_FARM)
