"""A whole study of a tiny network: kill -9 at any moment, the same command again, and the same comes out."""

import json
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.application.study.reading import read_study
from services.application.study.study_directory import StudyDirectory
from services.coordinator.read_only import open_to_read
from services.coordinator.results import evaluated_so_far
from services.coordinator.study.measurement import candidate_requests, missing_requests
from services.coordinator.study.networks import Study, StudyNetwork, of_kind
from shared.broker import requests_queue, results_queue
from shared.checkpoint_files import REFITTED
from shared.manifest import SupernetManifest
from shared.messages import Measurement
from tests.support.command import nasfarm, search_file
from tests.support.farm import broker_of
from tests.support.forked import ForkedCommand
from tests.support.rabbitmq import Node
from tests.support.tiny_study import own_task, study_file, study_values

PATIENCE_SECONDS = 240
SEARCHES = ("tiny.paper.plain_facts", "tiny.ours.plain_facts")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the study's file, and its runs."""
    directory = tmp_path_factory.mktemp("study")
    run_to_the_end(study_file(directory), directory / "runs")
    return directory


def test_a_study_measures_all_that_it_compares(undisturbed: Path) -> None:
    with read_study(StudyDirectory(undisturbed / "runs" / "tiny")) as study:
        assert missing_requests(study) == []
        kinds = Counter(network.kind for network in study.networks)
        # Heuristics: one of each search, one of the file; alone and baselines: as they are, and fine-tuned.
        assert kinds == {
            "base": 1,
            "dense": 2,
            "chosen": 2,
            "random": 2,
            "heuristic": 3,
            "baseline": 4,
            "alone": 4,
        }
        assert len(study.candidates) == 2 * 2  # of each search
        outcomes = [study.history.outcome(request.identity) for request in candidate_requests(study)]
        assert all(isinstance(outcome, Measurement) for outcome in outcomes)
        assert [(each.name, each.fine_tuning) for each in of_kind(study.networks, "baseline")] == [
            ("magnitude", "none"),
            ("magnitude", "full"),
            ("slicegpt", "none"),
            ("slicegpt", "lora"),
        ]
        (base,) = of_kind(study.networks, "base")
        most = measured(study, base).parameters / study.settings.sizes[0]
        for network in of_kind(study.networks, "chosen", "random", "baseline", "alone"):
            assert measured(study, network).parameters <= most
            assert network.times_smaller == study.settings.sizes[0]


def test_a_network_alone_is_the_chosen_one_cut_out_of_the_untouched_model(undisturbed: Path) -> None:
    with read_study(StudyDirectory(undisturbed / "runs" / "tiny")) as study:
        for supernet in ("paper", "ours"):
            (chosen,) = (each for each in of_kind(study.networks, "chosen") if each.supernet == supernet)
            plain, tuned = (each for each in of_kind(study.networks, "alone") if each.supernet == supernet)
            assert (plain.fine_tuning, plain.tuned_tokens) == ("none", 0)
            assert (tuned.fine_tuning, tuned.tuned_tokens) == ("full", chosen.tuned_tokens)
            assert measured(study, plain).parameters == measured(study, chosen).parameters
            assert len({plain.checkpoint.digest, tuned.checkpoint.digest, chosen.checkpoint.digest}) == 3
    supernets = undisturbed / "runs" / "tiny" / "supernets"
    assert (supernets / "ours" / REFITTED).is_dir() and not (supernets / "ours.untuned" / REFITTED).exists()


def test_a_study_that_is_killed_again_and_again_ends_like_an_undisturbed_one(undisturbed: Path, tmp_path: Path) -> None:
    file, runs = undisturbed / "study.yaml", tmp_path / "runs"
    moments: list[Callable[[], bool]] = [
        lambda: any(runs.glob("tiny/searches/*/history.sqlite")),
        lambda: any(runs.glob(f"tiny/searches/{SEARCHES[0]}/report.html")) or any(runs.glob("tiny/networks/*")),
        (runs / "tiny" / "candidates.json").exists,
        lambda: len(list(runs.glob("tiny/networks/*"))) >= 3,
        (runs / "tiny" / "networks.json").exists,
    ]
    for moment in moments:
        kill_when(moment, file, runs)
    run_to_the_end(file, runs)
    assert answers(runs / "tiny") == answers(undisturbed / "runs" / "tiny")
    assert {path.name for path in (runs / "tiny" / "networks").iterdir()} == {
        path.name for path in (undisturbed / "runs" / "tiny" / "networks").iterdir()
    }
    assert measured_twice(runs / "tiny") == []


def test_a_study_that_a_farm_measures_ends_like_one_in_a_single_process(
    undisturbed: Path, node: Node, tmp_path: Path
) -> None:
    farm, runs = node.farm(), tmp_path / "runs"
    shutil.copytree(undisturbed / "supernets", tmp_path / "supernets")
    supernets = [link.resolve() for link in (undisturbed / "runs" / "tiny" / "supernets").glob("[!.]*")]
    places = {each: tmp_path / "supernets" / each.name for each in supernets}
    queues = [requests_queue(SupernetManifest.read(place).digest) for place in places.values()]
    farm.add_queues(*queues, *map(results_queue, ("tiny", *SEARCHES)))
    evaluators = [
        ForkedCommand(
            *("evaluator", *broker_of(farm, "evaluator", tmp_path), "--supernet", place),
            NASFARM_TELEMETRY_PORT="0",
            NASFARM_LOCATIONS=str(runs / "tiny" / "networks"),
        )
        for place in places.values()
        if SupernetManifest.read(place).training.steps
    ]
    try:
        run_to_the_end(undisturbed / "study.yaml", runs, *broker_of(farm, "coordinator", tmp_path))
    finally:
        for evaluator in evaluators:
            evaluator.kill()
            evaluator.communicate()
    assert answers(runs / "tiny") == answers(undisturbed / "runs" / "tiny")


def test_a_finished_study_makes_and_measures_nothing_again(undisturbed: Path) -> None:
    run = undisturbed / "runs" / "tiny"
    before, made = answers(run), changed(run / "networks")
    run_to_the_end(undisturbed / "study.yaml", undisturbed / "runs")
    assert (answers(run), changed(run / "networks")) == (before, made)


def test_a_size_and_a_baseline_may_be_added_later(undisturbed: Path, tmp_path: Path) -> None:
    run, former = undisturbed / "runs" / "tiny", changed(undisturbed / "runs" / "tiny" / "networks")
    before = answers(run)
    file = study_file(undisturbed, sizes=[1.1, 1.2], baselines=[*BASELINES, {"baseline": "shortgpt"}])
    try:
        run_to_the_end(file, undisturbed / "runs")
        assert former.items() <= changed(run / "networks").items()
        assert before.items() <= answers(run).items()
        assert measured_twice(run) == []
    finally:
        study_file(undisturbed)


SMALL: dict[str, Any] = {"baselines": [], "fine_tuning": {"alone": False, "full": [], "lora": []}, "heuristics": []}


def test_a_task_may_be_added_later_and_only_what_is_new_is_measured(tmp_path: Path) -> None:
    runs, facts = tmp_path / "runs", study_values(tmp_path)["tasks"][0]
    run_to_the_end(study_file(tmp_path, tasks=[facts, own_task(tmp_path)], **SMALL), runs)
    before, searched = answers(runs / "tiny"), histories(runs / "tiny")
    run_to_the_end(study_file(tmp_path, tasks=[own_task(tmp_path, "cats"), own_task(tmp_path), facts], **SMALL), runs)
    assert before.items() < answers(runs / "tiny").items()
    after = histories(runs / "tiny")
    assert searched.items() <= after.items()
    new = [name.removeprefix("tiny.ours.") for name in after.keys() - searched.keys() if "ours" in name]
    assert len(new) == 2 and {name[:8] for name in new} >= {"together"}
    assert measured_twice(runs / "tiny") == []
    with read_study(StudyDirectory(runs / "tiny")) as study:
        assert missing_requests(study) == []


def test_a_study_that_is_killed_while_it_searches_further_networks_searches_them_all(tmp_path: Path) -> None:
    runs, searches = tmp_path / "runs", tmp_path / "runs" / "tiny" / "searches"
    one = {**SMALL, "supernets": study_values(tmp_path)["supernets"][:1]}
    run_to_the_end(study_file(tmp_path, **one), runs)
    (history,) = searches.glob("*/history.sqlite")
    file = study_file(tmp_path, **one, search={"evaluations": 24, "population": 4})
    kill_when(lambda: candidates(history) > 8, file, runs)
    run_to_the_end(file, runs)
    assert candidates(history) == 24
    with read_study(StudyDirectory(runs / "tiny")) as study:
        assert missing_requests(study) == []
        assert len(evaluated_so_far(study.searches[0].plan, study.searches[0].history)) == 24


def test_status_shows_a_study_and_its_supernetworks_cannot_be_removed(
    undisturbed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = undisturbed / "runs"
    listed = nasfarm(capsys, monkeypatch, "status", "--runs", runs)
    assert listed.code == 0 and "study" in listed.output
    assert nasfarm(capsys, monkeypatch, "status", runs / "tiny").code == 0
    for directory in (undisturbed / "supernets").glob("[!.]*"):
        if directory.is_dir():
            refused = nasfarm(capsys, monkeypatch, "remove", directory.name, "--runs", runs)
            assert refused.code == 2 and str(runs / "tiny") in refused.error


def test_the_report_is_written_again_elsewhere_and_nothing_of_the_study_changes(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = undisturbed / "runs" / "tiny"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    written = nasfarm(capsys, monkeypatch, "report", run, "--output", tmp_path / "again")
    assert written.code == 0, written.error
    assert (tmp_path / "again" / "report.html").is_file() and (run / "report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_a_search_and_a_study_do_not_share_a_directory(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = undisturbed / "runs"
    refused = nasfarm(capsys, monkeypatch, "search", search_file(tmp_path, name="tiny"), "--runs", runs)
    assert refused.code == 2 and "is the directory of a study" in refused.error
    study_of_a_run = tmp_path / "runs" / "tiny"
    study_of_a_run.mkdir(parents=True)
    shutil.copy(runs / "tiny" / "searches" / SEARCHES[0] / "search.yaml", study_of_a_run)
    refused = nasfarm(capsys, monkeypatch, "study", undisturbed / "study.yaml", "--runs", tmp_path / "runs")
    assert refused.code == 2 and "is the run of a search" in refused.error
    assert [path.name for path in study_of_a_run.iterdir()] == ["search.yaml"]


BASELINES: list[dict[str, Any]] = [{"baseline": "magnitude"}, {"baseline": "slicegpt", "step": 2}]


def run_to_the_end(file: Path, runs: Path, *options: object) -> None:
    process = ForkedCommand("study", file, "--runs", runs, *options, NASFARM_TELEMETRY_PORT="0")
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output


def kill_when(moment: Callable[[], bool], file: Path, runs: Path) -> None:
    process = ForkedCommand("study", file, "--runs", runs)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not moment():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.002)
    time.sleep(0.1 * random.random())
    process.send_signal(signal.SIGKILL)
    process.communicate()


def measured(study: Study, network: StudyNetwork) -> Measurement:
    (measurement,) = study.measurements(network).values()
    return measurement


def rows(history: Path) -> list[tuple[str, str]]:
    connection = open_to_read(history)
    try:
        return connection.execute("select identity, outcome from measurements order by identity").fetchall()
    finally:
        connection.close()


def candidates(history: Path) -> int:
    connection = sqlite3.connect(f"file:{history}?mode=ro", uri=True)
    try:
        (number,) = connection.execute("select count(*) from candidates").fetchone()
    finally:
        connection.close()
    return int(number)


def histories(run: Path) -> dict[str, list[tuple[str, str]]]:
    """What each search has measured."""
    return {path.parent.name: rows(path) for path in run.glob("searches/*/history.sqlite")}


def answers(run: Path) -> dict[str, str]:
    """What was answered to each request of the study; times differ from run to run."""
    return {identity: json.dumps(json.loads(outcome)["scores"]) for identity, outcome in rows(run / "study.sqlite")}


def measured_twice(run: Path) -> list[str]:
    """Requests with two answers: in one history, or other ones in several."""
    found: dict[str, set[str]] = {}
    stored = [row for path in (run / "study.sqlite", *run.glob("searches/*/history.sqlite")) for row in rows(path)]
    for identity, outcome in stored:
        found.setdefault(identity, set()).add(outcome)
    in_study = Counter(identity for identity, _ in rows(run / "study.sqlite"))
    return [
        *(identity for identity in in_study if len(found[identity]) > 1),
        *(i for i, n in in_study.items() if n > 1),
    ]


def changed(directory: Path) -> dict[str, int]:
    """When each checkpoint was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in directory.glob("*/model.safetensors")}
