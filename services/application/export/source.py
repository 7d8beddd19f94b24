"""Where an exported network comes from: a run, of whose super-network it is cut out, or a network that was finished,
which has a checkpoint of its own. What exporting needs to know of either, before and after its weights are opened."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.application.checkpoint_content import content_of
from services.application.export.choice import ChosenNetwork
from services.application.export.search_facts import search_facts
from services.application.export.searched_run import SearchedRun
from services.application.export.supernet import supernet_of
from services.application.finish.record import Answers, FinishedRecord
from services.exporter.card.facts import FinishedFacts, SearchFacts
from services.reporting.comparisons import task_rows
from services.reporting.item_answers import ItemAnswers
from services.reporting.report_data import TaskRow
from services.trainer.recipe import SingleRecord
from shared.architecture import Architecture, dense
from shared.checkpoint_files import FileDigests, content_digest
from shared.environment import Environment
from shared.errors import UserError
from shared.events import Events
from shared.manifest import RECIPE, SupernetManifest, read_network
from shared.messages import Dtype
from shared.network.shape import NetworkShape
from shared.settings import SearchSettings
from shared.text import printable

Rows = Mapping[str, TaskRow]
"""A network on each task, by the task's name."""


@dataclass(frozen=True)
class OpenedSource:
    """The checkpoint that a network is cut out of; how the super-network was made that it goes back to; and what all of
    it was trained on, as pairs of what settings call the data and where they came from."""

    directory: Path
    manifest: SupernetManifest
    data: tuple[tuple[str, str], ...]


KnownAnswers = tuple[ItemAnswers | None, ItemAnswers | None, ItemAnswers | None]
"""What a network, the dense one and the base model answered."""


@dataclass(frozen=True)
class ExportSource:
    """A network to be exported.

    `run` and `network` are their names, `title` what the export is called; `architecture` is cut out of the checkpoint
    that `opened` gives, looked for at a place that may be named; `searched` is what the search measured, of the
    super-network with the digest `supernet` and the layers `whole`. `settings` and `dtype` are the search's, `search`
    says how it was found (None: by no search). `rows`, `dense` and `base` are accuracies on the report items, as far as
    they are known, of it, of the dense network and of the base model; `answers` gives what these three answered, item
    by item. `finished` is None for a network of a run.
    """

    title: str
    run: str
    network: str
    architecture: Architecture
    searched: Architecture
    supernet: str
    whole: NetworkShape
    settings: SearchSettings
    dtype: Dtype
    search: SearchFacts | None
    rows: Rows
    dense: Rows
    base: Rows
    answers: Callable[[], KnownAnswers]
    opened: Callable[[str | None, Environment, Events], OpenedSource]
    finished: FinishedFacts | None = None


def of_run(run: SearchedRun, chosen: ChosenNetwork) -> ExportSource:
    """A network of a run."""
    plan, content = run.plan, run.content

    def answers() -> KnownAnswers:
        whole = plan.request(dense(plan.space.network), "report")
        own, of_dense, of_base = run.answers(
            (plan.request(chosen.architecture, "report"), whole, plan.base_request("report"))
        )
        return own, of_dense, of_base

    def opened(location: str | None, environment: Environment, events: Events) -> OpenedSource:
        supernet = supernet_of(run, location, environment, events)
        return OpenedSource(supernet.directory, supernet.manifest, (_trained_on(supernet.manifest),))

    return ExportSource(
        title=printable(f"{run.name}-{chosen.name.replace(' ', '-')}"),
        run=run.name,
        network=chosen.name,
        architecture=chosen.architecture,
        searched=chosen.architecture,
        supernet=plan.supernet.digest,
        whole=plan.space.network,
        settings=plan.settings,
        dtype=plan.dtype,
        search=search_facts(run, chosen),
        rows={} if chosen.row is None else chosen.row.by_task,
        dense={} if content is None else content.dense.by_task,
        base={} if content is None else content.base.by_task,
        answers=answers,
        opened=opened,
    )


def of_finished(directory: Path) -> ExportSource:
    """A network that was finished, of its directory alone: the run and the super-network may be gone. Raises UserError
    where it is damaged."""
    record = FinishedRecord.read(directory)
    settings = record.searched(directory)
    known = Answers.read(directory, settings.metrics)
    results = record.results

    def opened(location: str | None, environment: Environment, events: Events) -> OpenedSource:
        if location is not None:
            raise UserError("--supernet: a finished network has its own weights; leave it out")
        made = SingleRecord.read(directory)
        files = content_of(directory, FileDigests(environment.cache), events)
        if content_digest(files) != content_digest(made.files):
            changed = next((name for name, digest in made.files.items() if files.get(name) != digest), "a file")
            raise UserError(
                f"{directory}: {changed} has changed since it was measured, or is missing; copy the directory again"
            )
        manifest = SupernetManifest.parse(json.dumps(made.source).encode(), str(directory / RECIPE))
        return OpenedSource(directory, manifest, (_trained_on(manifest), (record.training.data, made.data["origin"])))

    return ExportSource(
        title=printable(f"{record.run}-{record.network.replace(' ', '-')}-finished"),
        run=record.run,
        network=record.network,
        architecture=dense(read_network(directory)).quantized(record.architecture.quantization),
        searched=record.architecture,
        supernet=record.supernet,
        whole=record.whole(directory),
        settings=settings,
        dtype=record.dtype,
        search=record.search,
        rows=results.finished.by_task,
        dense=results.dense.by_task,
        base={} if known.base is None else task_rows(known.base, None, None),
        answers=lambda: (known.finished, known.dense, known.base),
        opened=opened,
        finished=FinishedFacts(
            steps=record.training.steps,
            items=results.items,
            before=results.before.accuracy,
            after=results.finished.accuracy,
            interval=results.versus_before.interval,
        ),
    )


def _trained_on(manifest: SupernetManifest) -> tuple[str, str]:
    return manifest.training.data, manifest.data["origin"]
