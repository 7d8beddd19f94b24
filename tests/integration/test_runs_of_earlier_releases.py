"""Runs that earlier releases left behind: opened, continued with a raised budget, and reported."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from services.coordinator.history import History
from services.coordinator.plan import plan_of
from services.coordinator.results import evaluated_so_far, front
from shared.checkpoint_files import FileDigests, has_digest
from shared.identity import INT8_VERSION
from shared.manifest import SupernetManifest
from shared.messages import EvaluationRequest
from shared.settings import read_search_file
from tests.support.command import Run

FIXTURES = Path(__file__).parents[1] / "fixtures"
RUNS = [
    (f"format-{number}", name)
    for number in (1, 2, 3, 4, 5)
    for name in ("plain", "served")
    if (number, name) not in ((1, "served"), (5, "served"))
]
ROWS = "select identity, kind from measurements order by sequence"


@pytest.fixture(params=RUNS, ids="/".join)
def left(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run in the directory in which its commands were given, which is the working directory."""
    release, name = request.param
    shutil.copytree(FIXTURES / release, tmp_path, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(FIXTURES / "base", tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / str(name)


def made_supernets(run: Path) -> list[str]:
    """The super-networks beside the runs, where they lie since format 3."""
    return sorted(path.name for path in run.parents[1].glob("supernets/*"))


def rows(run: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(run / "history.sqlite")) as connection:
        return connection.execute(ROWS).fetchall()


def test_status_and_report_show_what_was_there_and_leave_the_history_as_it_is(run: Run, left: Path) -> None:
    former, history = json.loads((left / "front.json").read_text()), (left / "history.sqlite").read_bytes()
    budget = read_search_file(left / "search.yaml").search.evaluations
    assert f"{budget} of {budget} networks measured" in run("status", left).output
    ended = run("report", left)
    assert ended.code == 0, ended
    assert "</html>" in (left / "report.html").read_text()
    now = json.loads((left / "front.json").read_text())
    for group in ("front", "int8"):
        networks = [{"quantization": "none", **row["architecture"]} for row in former.get(group, [])]
        assert [row["architecture"] for row in now[group]] == networks
    for before, after in zip([*former["front"], former["dense"]], [*now["front"], now["dense"]], strict=True):
        assert before["report_accuracy"] == after["report_accuracy"] and before["parameters"] == after["parameters"]
    assert (left / "history.sqlite").read_bytes() == history


def test_a_raised_budget_is_searched_with_the_same_super_network_and_nothing_measured_again(
    run: Run, left: Path
) -> None:
    former, manifest = rows(left), (left / "supernet" / "supernet.json").read_bytes()
    supernets = made_supernets(left)
    path = left.parents[1] / f"{left.name}.yaml"
    values = yaml.safe_load(path.read_text())
    values["search"]["evaluations"] += 4
    path.write_text(yaml.safe_dump(values))
    ended = run("search", path.name)
    assert ended.code == 0, ended
    assert "Super-network" in ended.output and "there already" in ended.output
    assert (left / "supernet" / "supernet.json").read_bytes() == manifest
    assert made_supernets(left) == supernets
    assert f"{values['search']['evaluations']} of {values['search']['evaluations']}" in run("status", left).output
    found = rows(left)
    assert len(found) == len(set(found)) >= len(former) + 4
    settings = read_search_file(left / "search.yaml")
    with closing(History.read(left / "history.sqlite")) as history:
        plan = plan_of(history, settings)
        chosen = {network.digest for network in front(evaluated_so_far(plan, history))}
        assert [row.generation for row in history.generations()] == list(range(len(history.generations())))
        assert {candidate.architecture.digest for candidate in history.candidates()} >= chosen


def test_the_same_search_run_again_measures_only_what_is_measured_in_another_way_now(run: Run, left: Path) -> None:
    former = rows(left)
    assert run("search", f"{left.name}.yaml").code == 0
    with closing(sqlite3.connect(left / "history.sqlite")) as connection:
        texts = connection.execute("select request from measurements order by sequence").fetchall()
    requests = [EvaluationRequest.model_validate_json(text) for (text,) in texts]
    before, again = requests[: len(former)], requests[len(former) :]
    known = {(request.architecture, request.spec.tasks) for request in before}
    # Networks in INT8, costs and speeds; and, as costs that are timed anew may change the front, what is new there.
    assert all(
        request.spec.int8_version == INT8_VERSION or (request.architecture, request.spec.tasks) not in known
        for request in again
    )
    # What format 3 holds was measured as it is today.
    assert bool(again) == (left.name == "served" and not made_supernets(left))
    assert run("search", f"{left.name}.yaml").code == 0
    assert len(rows(left)) == len(former) + len(again)


def spoil(history: Path, change: str) -> str:
    """Change the first network's measurement in a history by an SQL expression; its identity."""
    with closing(sqlite3.connect(history, isolation_level=None)) as connection:
        trigger, statement = connection.execute(
            "select name, sql from sqlite_master where type = 'trigger' and name = 'measurements_update'"
        ).fetchone()
        connection.execute(f"drop trigger {trigger}")
        (identity,) = connection.execute("select identity from candidates where number = 1").fetchone()
        connection.execute(f"update measurements set outcome = {change} where identity = ?", (identity,))
        connection.execute(statement)
    return str(identity)


@pytest.mark.parametrize(
    "change",
    ["json_remove(outcome, '$.scores[0].metrics.acc')", "json_set(outcome, '$.scores[0].metrics.acc[0]', null)"],
    ids=["no metric", "not finite"],
)
@pytest.mark.parametrize("left", [("format-2", "plain")], ids="/".join, indirect=True)
@pytest.mark.parametrize("now", [False, True], ids=["as it was", "migrated"])
def test_a_bad_measurement_that_a_history_holds_is_ignored_and_measured_again(
    run: Run, left: Path, change: str, now: bool
) -> None:
    """Earlier releases stored what they were answered before they looked at it."""
    if now:
        assert run("search", "plain.yaml").code == 0
    budget = read_search_file(left / "search.yaml").search.evaluations
    whole = rows(left)
    spoilt = spoil(left / "history.sqlite", change)
    assert f"{budget - 1} of {budget} networks measured" in run("status", left).output
    ended = run("search", "plain.yaml")
    assert ended.code == 0, ended
    assert f"{budget} of {budget} networks measured" in run("status", left).output
    assert [row for row in rows(left)[len(whole) :] if row[0] == spoilt] == [(spoilt, "measurement")]
    assert run("report", left).code == 0


def test_what_earlier_releases_called_a_checkpoint_is_still_its_digest(left: Path, tmp_path: Path) -> None:
    manifest, digests = SupernetManifest.read(left / "supernet"), FileDigests(tmp_path / "cache")
    assert has_digest(digests.content(left / "supernet"), manifest.digest)
    assert has_digest(digests.content(FIXTURES / "base"), manifest.base_digest)


@pytest.mark.parametrize("name", ["plain", "served"])
def test_what_was_asked_two_formats_ago_still_has_its_identity(name: str) -> None:
    with closing(sqlite3.connect(FIXTURES / "format-2" / "runs" / name / "history.sqlite")) as connection:
        found = connection.execute("select identity, request from measurements").fetchall()
    assert len(found) > 10
    for identity, text in found:
        assert EvaluationRequest.model_validate_json(text).identity == identity
