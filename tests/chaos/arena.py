"""A farm of real processes to do harm to: a RabbitMQ node, evaluators that only pretend to measure, and the coordinator
of one search after another."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy.farm.ports import free_port
from shared.broker import requests_queue, results_queue
from shared.digest import digest_json
from shared.identity import TOKENS_VERSION
from shared.manifest import SupernetManifest, base_location
from shared.settings import SearchSettings, parse_settings
from tests.support.command import NASFARM
from tests.support.content import content_of
from tests.support.data import ROOT
from tests.support.forked import Forked, command
from tests.support.forwarding import Forwarder
from tests.support.rabbitmq import Node
from tests.support.stand_in import start_stand_in

PATIENCE_SECONDS = 240
COUNTED = ("duplicate_results", "requests_resent")
CONFIG = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 16,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "tie_word_embeddings": True,
}


@dataclass
class Run:
    """A search: its file, the directory of its run, and what each of its coordinators, one after the other, was last
    heard to have counted."""

    name: str
    search_file: Path
    directory: Path
    counted: list[Counter[str]] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """Outcomes in its history."""
        path = self.directory / "history.sqlite"
        if not path.exists():
            return 0
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
        try:
            (number,) = connection.execute("select count(*) from measurements").fetchone()
        except sqlite3.OperationalError:  # it is just being begun
            return 0
        finally:
            connection.close()
        return int(number)

    @property
    def reported(self) -> bool:
        """Whether it has come to its end."""
        return (self.directory / "report.html").exists()


@dataclass
class Process:
    """A process of the farm and its own way to the broker."""

    link: Forwarder
    popen: subprocess.Popen[bytes] | Forked
    log: Path

    def end(self) -> None:
        """As `kill -9`."""
        self.popen.kill()
        self.popen.wait()
        self.link.close()


class Arena:
    """The farm. Evaluators that ended by themselves (a network that kills them) are replaced by `tend`."""

    def __init__(
        self,
        node: Node,
        directory: Path,
        evaluators: int,
        seconds: float,
        killers: float,
        changed: Sequence[str],
        forked: bool,
    ) -> None:
        """Begin it.

        Args:
            node: the broker's.
            directory: where everything is written.
            evaluators: how many.
            seconds: what an evaluation takes.
            killers: share of the networks that kill every evaluator that takes them.
            changed: the module that runs its programs with changes, if there is one (`tests.support.changed`).
            forked: whether its programs are forked (`tests.support.forked`), rather than those that are installed.
        """
        self.node = node
        self.farm = node.farm()
        self.directory = directory
        self.runs: list[Run] = []
        self.coordinator: Process | None = None
        self.supernet = write_supernet(directory / "supernet")
        self._seconds, self._killers, self._changed, self._forked = seconds, killers, changed, forked
        self._number = 0
        self.farm.add_queues(requests_queue(self.supernet))
        for user in ("coordinator", "evaluator"):
            (directory / user).write_text(f"{user}:{node.passwords[user]}\n")
        self.evaluators = [self._evaluator() for _ in range(evaluators)]

    @property
    def requests(self) -> str:
        """The queue of the super-network."""
        return requests_queue(self.supernet)

    @property
    def run(self) -> Run:
        """The search that was begun last."""
        return self.runs[-1]

    def begin(self, name: str, seed: int, evaluations: int, population: int) -> Run:
        """Begin a search, whose queue is added first."""
        self.runs.append(Run(name, self.directory / f"{name}.yaml", self.directory / "runs" / name))
        values = search_values(name, seed, evaluations, population)
        self.run.search_file.write_text(yaml.safe_dump(values))
        self.run.directory.mkdir(parents=True)
        (self.run.directory / "supernet").symlink_to(self.directory / "supernet")
        self.farm.add_queues(results_queue(name))
        self.start_coordinator()
        return self.run

    def start_coordinator(self) -> None:
        """Start the search, or go on with it."""
        self._number += 1
        self.run.counted.append(Counter())
        log = self.directory / f"coordinator-{self._number}.log"
        link, port = Forwarder(self.node.port), free_port()
        settings = {"NASFARM_TELEMETRY_PORT": str(port), "NASFARM_LOG_FORMAT": "json"}
        credentials = ["--credentials", self.directory / "coordinator"]
        asked = ["search", self.run.search_file, "--runs", self.directory / "runs", *self._broker(link), *credentials]
        self.coordinator = Process(link, self._started(list(map(str, asked)), {**os.environ, **settings}, log), log)
        self._port = port

    def kill_coordinator(self) -> None:
        """As `kill -9`."""
        assert self.coordinator is not None
        self.note_counts()
        self.coordinator.end()

    def note_counts(self) -> None:
        """Ask the coordinator what it has counted in its life."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:  # it isn't there yet, or no more
            return
        for name in COUNTED:
            found = re.search(rf"^nasfarm_coordinator_{name}_total (\S+)$", text, re.MULTILINE)
            if found:
                self.run.counted[-1][name] = int(float(found[1]))

    def replace_evaluator(self, index: int) -> None:
        """Another one in its place."""
        self.evaluators[index].end()
        self.evaluators[index] = self._evaluator()

    def tend(self) -> None:
        """What whoever supervises evaluators does: start again those that died. And keep the coordinator's counts."""
        for index, each in enumerate(self.evaluators):
            if each.popen.poll() is not None:
                self.replace_evaluator(index)
        if self.runs:
            self.note_counts()

    def wait(self, moment: Callable[[], bool], what: str) -> float:
        """Until something is so; the seconds that it took."""
        began = time.monotonic()
        while not moment():
            assert time.monotonic() - began < PATIENCE_SECONDS, f"{what}: never; {self._last_words()}"
            self.tend()
            time.sleep(0.05)
        return time.monotonic() - began

    def wait_for_results(self, more: int = 1) -> float:
        """Until so many outcomes more are stored, or the search is done."""
        run = self.run
        before = run.stored
        return self.wait(lambda: run.reported or run.stored >= before + more, f"{more} more results")

    def finish(self) -> None:
        """Let the search come to its end."""
        assert self.coordinator is not None
        run, coordinator = self.run, self.coordinator

        def reported() -> bool:
            if run.reported:
                return True
            assert coordinator.popen.poll() is None, self._last_words()
            return False

        self.wait(reported, "the report")
        coordinator.popen.wait(PATIENCE_SECONDS)
        assert coordinator.popen.returncode == 0, self._last_words()
        coordinator.link.close()

    def end_coordinator(self) -> None:
        """Have the search end, wherever it is."""
        if self.coordinator is not None:
            self.coordinator.end()
            self.coordinator = None

    def end(self) -> None:
        """Leave nothing behind but the files."""
        self.end_coordinator()
        for each in self.evaluators:
            each.end()

    def _started(self, arguments: list[str], variables: dict[str, str], log: Path) -> subprocess.Popen[bytes] | Forked:
        if self._forked:
            return Forked(command, arguments, variables=variables, output=log, directory=ROOT)
        changed = (sys.executable, "-m", *self._changed, "services.cli.main")
        with log.open("wb") as output:
            return subprocess.Popen(
                [*(changed if self._changed else (NASFARM,)), *arguments],
                env=variables,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _evaluator(self) -> Process:
        self._number += 1
        log = self.directory / f"evaluator-{self._number}.log"
        link = Forwarder(self.node.port)
        options = ["--digest", self.supernet, "--seconds", self._seconds, "--crash", self._killers]
        credentials = ["--credentials", self.directory / "evaluator"]
        asked = [*self._broker(link), *credentials, *options]
        popen = start_stand_in(*asked, log=log, changed=self._changed, forked=self._forked)
        return Process(link, popen, log)

    def _broker(self, link: Forwarder) -> Sequence[object]:
        return "--broker", f"amqp://127.0.0.1:{link.port}/{self.farm.vhost}"

    def _last_words(self) -> str:
        return "" if self.coordinator is None else self.coordinator.log.read_text()[-3000:]


@contextmanager
def arena(
    node: Node,
    directory: Path,
    evaluators: int = 3,
    seconds: float = 0.2,
    killers: float = 0.0,
    changed: Sequence[str] = (),
    forked: bool = False,
) -> Iterator[Arena]:
    """An Arena that is ended in any case."""
    made = Arena(node, directory, evaluators, seconds, killers, changed, forked)
    try:
        yield made
    finally:
        made.end()


def search_values(name: str, seed: int, evaluations: int, population: int) -> dict[str, object]:
    """A search file. NSGA-II: what it asks for depends on every result so far, and asking takes no time."""
    return {
        "name": name,
        "model": "somewhere",
        "space": {"depths": [8, 7, 6], "mlp_widths": [48, 32, 16], "depth_rule": "first"},
        "training": {"data": "plain_facts", "steps": 0},
        "tasks": [{"name": "plain_facts", "search": {"items": 40}, "report": {"items": 60}}],
        "search": {"strategy": "nsga2", "evaluations": evaluations, "population": population, "seed": seed},
        "dtype": "float32",
    }


def search_settings(**changes: Any) -> SearchSettings:
    """A search file as it is read; `changes` add to its sections."""
    values = search_values("any", 0, 8, 4)
    for key, value in changes.items():
        section = values.get(key)
        values[key] = {**section, **value} if isinstance(section, dict) else value
    return parse_settings(values, "test")


def write_supernet(directory: Path, settings: SearchSettings | None = None, base_digest: str = "0" * 32) -> str:
    """A super-network as far as a coordinator knows it, its shape and its manifest, by default that of all searches
    here; its digest."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    settings = settings or parse_settings(search_values("any", 0, 2, 2), "arena")
    manifest = SupernetManifest(
        base=base_location(settings.model),
        base_digest=base_digest,
        space=settings.space,
        drop_order=tuple(range(7, 0, -1)),
        influence=None,
        training=settings.training,
        tokens_version=TOKENS_VERSION,
        plan=digest_json("plan"),
        data={"origin": "nowhere", "digest": digest_json("data")},
        losses={},
        versions={},
        files=content_of(directory),
    )
    manifest.write(directory)
    return manifest.digest
