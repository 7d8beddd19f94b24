import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from services.coordinator.history import CANDIDATES, History
from services.coordinator.migrations import FORMAT
from shared.architecture import dense
from shared.errors import UserError
from shared.messages import CheckpointRef, Failure, Measurement
from tests.support.searches import SHAPE, pretend, small_plan

FIXTURES = Path(__file__).parents[1] / "fixtures"
PLAN = small_plan()
REQUEST = PLAN.request(dense(SHAPE), "search")


def store(history: History, outcome: Measurement | Failure | None = None) -> None:
    history.add_results([(REQUEST, outcome or pretend(REQUEST))])


def test_a_result_is_stored_once_and_read_back_whole(tmp_path: Path) -> None:
    history = History.create_or_resume(tmp_path / "history.sqlite", PLAN.about())
    assert history.outcome(REQUEST.identity) is None
    failed = Failure(kind="out_of_memory", reason="early")
    store(history, failed)
    assert history.outcome(REQUEST.identity) == failed
    store(history)
    store(history, pretend(REQUEST).model_copy(update={"worker": "another"}))
    store(history, Failure(kind="crashed", reason="late"))
    assert history.outcome(REQUEST.identity) == pretend(REQUEST)


def test_nothing_that_was_stored_can_be_changed_or_removed(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history = History.create_or_resume(path, PLAN.about())
    store(history)
    history.add_candidates(0, [(REQUEST, None)])
    with sqlite3.connect(path) as connection:
        for table in ("measurements", "candidates", "about"):
            for statement in (f"delete from {table}", f"update {table} set rowid = rowid + 7"):
                with pytest.raises(sqlite3.IntegrityError, match="append only"):
                    connection.execute(statement)
    connection.close()


def test_candidates_keep_their_order_and_their_predictions(tmp_path: Path) -> None:
    history = History.create_or_resume(tmp_path / "history.sqlite", PLAN.about())
    requests = [PLAN.request(PLAN.space.smallest(depth), "search") for depth in (6, 8, 7)]
    history.add_candidates(0, [(requests[0], None), (requests[1], 0.25)])
    history.add_candidates(1, [(requests[2], 0.5)])
    history.add_candidates(1, [(requests[0], 0.75)])
    assert [(c.number, c.generation, c.predicted) for c in history.candidates()] == [
        (1, 0, None),
        (2, 0, 0.25),
        (3, 1, 0.5),
    ]
    assert [c.architecture for c in history.candidates()] == [request.architecture for request in requests]


def test_what_arrived_is_read_in_its_order_and_what_was_known_of_it_when_a_network_was_asked_for(
    tmp_path: Path,
) -> None:
    history = History.create_or_resume(tmp_path / "history.sqlite", PLAN.about())
    other, failed = PLAN.request(PLAN.space.smallest(), "search"), Failure(kind="timed_out", reason="slow")
    history.add_candidates(0, [(REQUEST, None)])
    history.add_results([(other, failed), (REQUEST, pretend(REQUEST))])
    history.add_candidates(1, [(other, None)], known=2)
    history.add_results([(other, failed), (other, pretend(other))])
    assert [candidate.known for candidate in history.candidates()] == [None, 2]
    assert [(each.number, each.identity, each.outcome) for each in history.arrivals(0)] == [
        (1, other.identity, failed),
        (2, REQUEST.identity, pretend(REQUEST)),
        (3, other.identity, pretend(other)),
    ]
    assert [each.number for each in history.arrivals(2)] == [3]


def test_a_history_without_tasks_in_its_recipe_is_told_what_is_counted_of_each(tmp_path: Path) -> None:
    path, about = tmp_path / "study.sqlite", {"recipe": {"base": "0f12"}}
    request = PLAN.request(PLAN.space.largest(), "search")
    with closing(History.create_or_resume(path, about, {"plain_facts": "acc"})) as history:
        history.add_results([(request, pretend(request))])
        assert isinstance(history.outcome(request.identity), Measurement)
    for opened in (
        History.create_or_resume(path, about, {"plain_facts": "exact_match"}),
        History.read(path, {"plain_facts": "exact_match"}),
    ):
        with closing(opened) as history:
            assert "has no 'exact_match'" in str(history.flaw(request, pretend(request)))
            assert history.outcome(request.identity) is None


def test_a_generation_that_an_earlier_release_recorded_in_other_words_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with closing(History.create_or_resume(path, PLAN.about())) as history:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            network = REQUEST.architecture.model_dump(mode="json")
            del network["quantization"]  # format 1 knew none
            row = (0, json.dumps(network), REQUEST.identity)
            connection.execute("insert into candidates (generation, architecture, identity) values (?, ?, ?)", row)
        history.add_candidates(0, [(REQUEST, 0.5)])
        assert history.asked() == 1 and history.candidates()[0].architecture == REQUEST.architecture


def test_a_history_is_only_continued_by_the_search_it_belongs_to(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    History.create_or_resume(path, PLAN.about()).close()
    History.create_or_resume(path, small_plan(evaluations=99).about()).close()  # the budget may be raised
    others = {
        r"search\.seed was 0, now 1": small_plan(seed=1),
        "supernet was supernet, now other": replace(PLAN, supernet=CheckpointRef(location="there", digest="other")),
    }
    for words, other in others.items():
        with pytest.raises(UserError, match=rf"history\.sqlite: belongs to another search \({words}\)"):
            History.create_or_resume(path, other.about())


def begun_with_format(path: Path, text: str) -> None:
    History.create_or_resume(path, PLAN.about()).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("drop trigger about_update")
        connection.execute("update about set value = ? where key = 'format'", (text,))


@pytest.mark.parametrize(
    ("text", "words"), [(f'"{FORMAT + 1}"', "written by a newer release"), ('"x"', "not a history of nasfarm")]
)
def test_a_history_of_a_newer_release_or_of_none_is_refused_in_one_line_and_left_as_it_is(
    tmp_path: Path, text: str, words: str
) -> None:
    begun_with_format(tmp_path / "history.sqlite", text)
    former = (tmp_path / "history.sqlite").read_bytes()
    for opened in (History.read, lambda path: History.create_or_resume(path, PLAN.about())):
        with pytest.raises(UserError, match=words) as refusal:
            opened(tmp_path / "history.sqlite")
        assert "\n" not in str(refusal.value)
    assert (tmp_path / "history.sqlite").read_bytes() == former


def left_by_the_release_before(path: Path, outcomes: dict[str, str]) -> None:
    """A history of format 4 in which there are these outcomes, too, by identity."""
    shutil.copyfile(FIXTURES / "format-4" / "runs" / "served" / "history.sqlite", path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (request,) = connection.execute("select request from measurements limit 1").fetchone()
        for identity, outcome in outcomes.items():
            connection.execute(
                "insert into measurements (identity, request, outcome, kind, received) values (?, ?, ?, 'failure', '')",
                (identity, request, outcome),
            )


@pytest.mark.parametrize("continued", [False, True])
def test_failures_of_the_release_before_get_the_kinds_of_today_and_measurements_stay_as_they_are(
    tmp_path: Path, continued: bool
) -> None:
    path, former = tmp_path / "history.sqlite", {"infeasible": "unsupported", "crashed": "dead_lettered"}
    retried = {"infeasible": True, "crashed": False}
    left_by_the_release_before(
        path,
        {kind: json.dumps({"kind": kind, "reason": "r", "retry_may_help": retried[kind]}) for kind in former},
    )
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("select sequence, identity, outcome, received from measurements").fetchall()
    history = History.read(path)
    if continued:
        about = history.about()
        history.close()
        history = History.create_or_resume(path, about)
    assert {kind: history.outcome(kind) for kind in former} == {
        kind: Failure(kind=now, reason="r")  # type: ignore[arg-type]
        for kind, now in former.items()
    }
    after = history._connection.execute("select sequence, identity, kind, request, outcome, received from measurements")
    rows = after.fetchall()
    assert [(sequence, identity, received) for sequence, identity, _, _, _, received in rows] == [
        (sequence, identity, received) for sequence, identity, _, received in before
    ]
    timed = 0
    for (_, _, kind, request, text, _), (_, _, former_text, _) in zip(rows, before, strict=True):
        outcome, was = json.loads(text), json.loads(former_text)
        assert outcome["kind"] == kind and json.loads(request)["kind"] == "request"
        assert "retry_may_help" not in text
        if kind == "measurement":
            speeds = [speed for speed in (outcome["speed"], *outcome["speeds"]) if speed is not None]
            timed += len(speeds)
            for each in (outcome, *speeds):
                assert each.pop("kind") == ("measurement" if each is outcome else "speed")
            assert outcome == was
    assert timed > 1
    store(history, Failure(kind="unavailable", reason="elsewhere"))
    assert history.outcome(REQUEST.identity) == Failure(kind="unavailable", reason="elsewhere")
    with pytest.raises(sqlite3.IntegrityError, match="append only"):
        history._connection.execute("delete from measurements")
    history.close()


def test_a_history_that_was_killed_while_it_began_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.touch()
    assert History.create_or_resume(path, PLAN.about()).candidates() == []


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The history of a search that was killed, of which much is still in the log beside it."""
    with closing(History.create_or_resume(tmp_path / "begun.sqlite", PLAN.about())) as history:
        history.note("late", "fact")
        (tmp_path / "run").mkdir()
        for ending in ("", "-wal"):
            shutil.copyfile(f"{history.path}{ending}", tmp_path / "run" / f"history.sqlite{ending}")
    return tmp_path / "run" / "history.sqlite"


def test_a_history_that_a_link_leads_to_is_read_whole(killed: Path, tmp_path: Path) -> None:
    (tmp_path / "link.sqlite").symlink_to(killed)
    with closing(History.read(tmp_path / "link.sqlite")) as history:
        assert history.about()["late"] == "fact"


def test_a_history_whose_log_vanishes_while_it_is_looked_at_is_read(
    killed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile = shutil.copyfile

    def copied_at_the_end(source: Path, target: Path) -> None:
        if source == log:
            log.unlink()
        copyfile(source, target)

    with closing(sqlite3.connect(killed)) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    log = Path(f"{killed}-wal")
    log.touch()
    monkeypatch.setattr("shutil.copyfile", copied_at_the_end)
    with closing(History.read(killed)) as history:
        assert history.about()["late"] == "fact"
    assert not log.exists()


@pytest.mark.parametrize("good", [True, False])
def test_a_history_that_was_copied_while_it_changed_is_copied_once_more(
    killed: Path, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile, copied = shutil.copyfile, list[Path]()

    def torn(source: Path, target: Path) -> None:
        copyfile(source, target)
        if source == killed:
            copied.append(target)
        if len(copied) == 1 or not good:
            target.write_bytes(b"half of it" * 1000)

    monkeypatch.setattr("shutil.copyfile", torn)
    if good:
        with closing(History.read(killed)) as history:
            assert history.about()["late"] == "fact"
    else:
        with pytest.raises(UserError, match=r"history\.sqlite"):
            History.read(killed)
    assert len(copied) == 2


def test_a_file_that_is_no_history_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(UserError, match="not a history"):
        History.create_or_resume(path, PLAN.about())
    assert path.read_bytes() == b"something else entirely" * 100
    with pytest.raises(UserError, match="no such history"):
        History.read(tmp_path / "missing.sqlite")


def test_a_full_disk_loses_nothing_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history = History.create_or_resume(path, PLAN.about())
    store(history)
    history._connection.execute("pragma max_page_count = 1")  # SQLite's own full disk
    with pytest.raises(UserError, match=r"history\.sqlite: .*full; nothing stored so far is lost"):
        history.note("x" * 50000, "y" * 50000)
    history._connection.execute("pragma max_page_count = 1000000")
    history.note("room", "again")
    history.close()
    reopened = History.read(path)
    assert reopened.outcome(REQUEST.identity) == pretend(REQUEST)
    assert reopened.about()["room"] == "again" and "x" * 50000 not in reopened.about()


def test_a_generation_and_the_number_of_candidates_are_found_by_index(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history = History.create_or_resume(path, PLAN.about())
    requests = [PLAN.request(PLAN.space.smallest(depth), "search") for depth in (6, 8, 7)]
    for generation, request in enumerate(requests):
        history.add_candidates(generation, [(request, None)])
    assert [candidate.architecture for candidate in history.generation(1)] == [requests[1].architecture]
    assert history.asked() == 3
    for query in (f"{CANDIDATES} where generation = 1 order by number", "select count(*) from candidates"):
        plan = history._connection.execute(f"explain query plan {query}").fetchall()
        assert "INDEX candidates_by_generation" in str(plan)


def test_outcomes_that_are_stored_together_are_stored_all_or_not_at_all(tmp_path: Path) -> None:
    history = History.create_or_resume(tmp_path / "history.sqlite", PLAN.about())
    other = PLAN.request(PLAN.space.smallest(), "search")
    with pytest.raises(AttributeError):
        history.add_results([(REQUEST, pretend(REQUEST)), (other, None)])  # type: ignore[list-item]
    assert not history.knows(REQUEST.identity)
    history.add_results([(REQUEST, pretend(REQUEST)), (other, pretend(other))])
    assert history.knows(REQUEST.identity) and history.knows(other.identity)


def test_a_history_is_whole_from_its_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.sqlite"

    def killed(_: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("services.coordinator.history.forbid_changes", killed)
        with pytest.raises(KeyboardInterrupt):
            History.create_or_resume(path, PLAN.about())
    assert not path.exists()
    with closing(History.create_or_resume(path, PLAN.about())) as history:
        assert history.about()["recipe"] == json.loads(json.dumps(PLAN.recipe))
    assert [file.name for file in tmp_path.iterdir()] == ["history.sqlite"]
