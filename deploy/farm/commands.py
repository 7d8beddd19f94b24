"""What the commands of a farm do, whatever runs it."""

import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path

from deploy.farm.backend import Backend
from deploy.farm.preparing import broker_url, operator_address
from deploy.farm.programs import nasfarm
from deploy.farm.state import BackendName, Farm, FarmDirectory
from services.cli.example import example_search_file
from services.cli.run import RunDirectory
from services.cli.supernets import clear_workspace, find_supernet
from shared.announcements import ANNOUNCE_SECONDS, present
from shared.broker import requests_queue, results_queue
from shared.broker.__main__ import SETTLE_SECONDS
from shared.broker.rabbitmq import RabbitBroker, add_queues
from shared.environment import Environment
from shared.errors import UserError
from shared.files import write_atomically
from shared.settings import read_search_file

UP = {"processes": "make farm", "containers": "make deploy"}
"""The command that brings each kind of farm up."""
BEGIN_SECONDS = 60
"""How long a search is watched as it begins: what is wrong with it mostly shows then."""


def backend_of(directory: FarmDirectory, name: BackendName) -> Backend:
    """What runs the farm."""
    if name == "processes":
        from deploy.farm.processes import Processes

        return Processes(directory)
    from deploy.farm.compose import Compose

    return Compose(directory)


def bring_up(directory: FarmDirectory, name: BackendName, search_file: Path | None, **changes: object) -> None:
    """Bring a farm up, or have one that is up search something else too.

    Args:
        directory: the farm's.
        name: what is to run it.
        search_file: what to search; None for what it had still to do, or else the example.
        changes: fields of Farm; those that are None stay as they were.
    """
    backend = backend_of(directory, name)
    directory.make()
    with directory.locked():
        farm = _changed(directory, name, {key: value for key, value in changes.items() if value is not None})
        backend.check(farm)
        names = _asked(directory, farm, backend, search_file)
        farm = farm.preparing_for(names)
        directory.write(farm)
    print(f"Broker         {broker_url(farm)}", flush=True)
    backend.start_broker(farm)
    for each in farm.searches:  # those that go on: another release may have queues of other names
        add_queues(operator_address(directory, farm), [requests_queue(each.supernet), results_queue(each.name)])
    began = time.time()
    for search in names:
        farm = _begin(directory, farm, backend, search)
    backend.apply(farm)
    _tell(directory, farm)
    _watch(directory, farm, backend, names, began)


def _changed(directory: FarmDirectory, name: BackendName, changes: dict[str, object]) -> Farm:
    """The farm that is wanted now. Raises UserError if it doesn't go with the one that is up."""
    former = directory.read()
    if former is None:
        return Farm.model_validate({"backend": name, **changes})
    farm = Farm.model_validate({**former.model_dump(), "backend": name, **changes})
    moved = farm.backend != former.backend or farm.port != former.port
    if moved and backend_of(directory, former.backend).running():
        raise UserError(f"a farm is up on port {former.port} by `{UP[former.backend]}`; `make down` ends it first")
    if farm.backend != former.backend:  # whose broker knows none of the searches' queues
        names = [search.name for search in farm.searches]
        farm = farm.preparing_for(names).without(names)
    return farm


def _asked(directory: FarmDirectory, farm: Farm, backend: Backend, search_file: Path | None) -> list[str]:
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
        search_file = example_search_file(Environment.read())
    settings, text = read_search_file(search_file), search_file.read_bytes()
    copy = directory.search_file(settings.name)
    if settings.name in under_way:
        if copy.read_bytes() == text:
            return []
        if backend.running():
            raise UserError(f"{search_file}: {settings.name} is being searched with other settings; `make down` first")
    write_atomically(copy, text)
    return [settings.name]


def _begin(directory: FarmDirectory, farm: Farm, backend: Backend, name: str) -> Farm:
    """Have what a search needs, super-network and queues, and note that it can run. Returns the farm."""
    settings, run = read_search_file(directory.search_file(name)), RunDirectory(directory.runs / name)
    environment = Environment.read()
    supernet = find_supernet(settings, run, directory.store, environment)
    if supernet is None:
        backend.train(farm, name)
        supernet = find_supernet(settings, run, directory.store, environment)
    else:
        clear_workspace(supernet.directory)
        print(f"Super-network  {supernet.directory}, there already", flush=True)
    if supernet is None:
        raise UserError(f"{name}: its super-network is not in {directory.store.path} after the fine-tuning")
    run.path.mkdir(exist_ok=True)
    run.link(supernet.directory)
    digest = supernet.manifest.digest
    add_queues(operator_address(directory, farm), [requests_queue(digest), results_queue(name)])
    time.sleep(SETTLE_SECONDS)
    with directory.locked():
        farm = (directory.read() or farm).with_search(name, digest)  # it may have been scaled while we trained
        directory.write(farm)
    return farm


def _tell(directory: FarmDirectory, farm: Farm) -> None:
    """Say what there is, and what one can do with it."""
    for search in farm.searches:
        print(f"Search         {search.name}, super-network {search.supernet}, evaluators: {farm.evaluators}")
        print(f"Report         {directory.runs / search.name / 'report.html'}, when it is done")
    print("How far it is  make status; make logs")
    print("More, fewer    make scale EVALUATORS=n")
    print(f"End            make down; {UP[farm.backend]} goes on from there", flush=True)


def _watch(directory: FarmDirectory, farm: Farm, backend: Backend, names: list[str], began: float) -> None:
    """See the searches begin. Raises UserError with what is wrong with one that ends instead."""
    waiting = set(names)
    deadline = time.monotonic() + BEGIN_SECONDS
    with closing(RabbitBroker(operator_address(directory, farm), "nasfarm farm")) as broker:
        while waiting and time.monotonic() < deadline:
            heard = present(broker.announced(ANNOUNCE_SECONDS))
            waiting -= {each.name for each in heard if each.kind == "search" and each.sent_at > began}
            for name, code in backend.ended().items():
                if name in waiting and code:
                    raise UserError(f"{name} ended: {backend.last_line(name)}")
                waiting.discard(name)
            time.sleep(0.3)


def scale(directory: FarmDirectory, evaluators: int) -> None:
    """Change the number of evaluators of each super-network."""
    farm, backend = _up(directory)
    with directory.locked():
        farm = (directory.read() or farm).model_copy(update={"evaluators": evaluators})
        directory.write(farm)
    backend.apply(farm)
    print(f"Evaluators     {evaluators} of each super-network; those that are too many finish what they measure")


def status(directory: FarmDirectory) -> None:
    """Show the services, and how far the searches are."""
    farm, backend = _up(directory)
    states = backend.states()
    for each in states:
        print(f"{each.name:<32} {each.state:<10} {each.detail}")
    for name in farm.preparing:
        print(f"{name:<32} {'preparing':<10} its super-network isn't there yet")
    print(flush=True)
    credentials = str(directory.credentials / "operator")
    subprocess.run([nasfarm(), "status", "--broker", broker_url(farm), "--credentials", credentials], check=False)


def logs(directory: FarmDirectory) -> None:
    """Follow the logs."""
    _up(directory)[1].follow_logs()


def down(directory: FarmDirectory) -> None:
    """Stop the farm; data are kept."""
    farm = directory.read()
    if farm is None:
        print("There is no farm.")
        return
    backend = backend_of(directory, farm.backend)
    finished = {name for name, code in backend.ended().items() if code == 0}
    print("Evaluators finish what they measure; `make down` once more leaves at once", flush=True)
    backend.down()
    with directory.locked():
        directory.write((directory.read() or farm).without(finished))
    print(f"The farm is down; `{UP[farm.backend]}` goes on from here, `make destroy` removes its data")


def destroy(directory: FarmDirectory) -> None:
    """Stop the farm and remove its data; runs and super-networks stay."""
    farm = directory.read()
    if farm is not None:
        backend = backend_of(directory, farm.backend)
        backend.down()
        backend.destroy()
    shutil.rmtree(directory.path, ignore_errors=True)
    print(f"The farm and its data are gone; {directory.runs} and {directory.store.path} stay")


def _up(directory: FarmDirectory) -> tuple[Farm, Backend]:
    """The farm that is up. Raises UserError if none is."""
    farm = directory.read() if directory.path.exists() else None
    if farm is not None:
        backend = backend_of(directory, farm.backend)
        if backend.running():
            return farm, backend
    raise UserError("no farm is up; `make farm` or `make deploy` brings one up")
