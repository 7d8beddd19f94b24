"""What an operator is told of a farm in plain words."""

import io
import json
import time

import pytest

from services.application import farm_status as application
from services.application.farm_status import FarmStatus
from services.cli import farm_status_view as farm_status
from services.cli.console import PlainConsole
from services.cli.farm_status_view import show_farm
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement
from shared.broker.address import BrokerAddress

NOW = time.time()


def search(requests: int) -> SearchAnnouncement:
    return SearchAnnouncement(
        requests=requests, sent_at=NOW, name="one", supernet="abc", state="searching", planned=9, measured=4
    )


def evaluator(requests: int, ago: float = 0) -> EvaluatorAnnouncement:
    return EvaluatorAnnouncement(
        requests=requests, sent_at=NOW - ago, name="e", supernet="abc", device="none", state="idle", since=NOW
    )


@pytest.mark.parametrize(
    ("evaluators", "said"),
    [
        ((), "No evaluator of super-network abc is there: its searches wait for one."),
        ((evaluator(2, ago=1e6),), "No evaluator of super-network abc is there: its searches wait for one."),
        ((evaluator(2),), ""),
        ((evaluator(1), evaluator(2)), ""),
        (
            (evaluator(1), evaluator(3)),
            "The evaluators of super-network abc are of another release; searches wait for their own.",
        ),
    ],
)
def test_a_search_without_evaluators_of_its_own_release_is_said_to_wait(
    evaluators: tuple[EvaluatorAnnouncement, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    monkeypatch.setattr(farm_status, "console", PlainConsole(file=output, width=500))
    farm_status._say_who_is_missing(FarmStatus(NOW, (search(2),), evaluators, {}))
    assert output.getvalue().strip() == said


def test_a_long_name_that_somebody_announces_fills_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(farm_status, "console", PlainConsole(file=output, width=500))
    one = search(2).model_copy(update={"supernet": "x" * 100_000})
    other = evaluator(1).model_copy(update={"supernet": one.supernet})
    for evaluators in ((), (other,)):
        farm_status._say_who_is_missing(FarmStatus(NOW, (one,), evaluators, {}))
    assert output.getvalue().count("x" * 80 + "...") == 2 and len(output.getvalue()) < 500


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_programs_are_told_is_json_whatever_numbers_are_announced(
    number: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = search(2).model_copy(update={"hypervolume": number, "eta_seconds": number, "sent_at": number})
    monkeypatch.setattr(
        application, "farm_status", lambda _: FarmStatus(NOW, (one,), (evaluator(2, ago=1e6),), {"q": None})
    )
    show_farm(BrokerAddress.parse("amqp://user:secret@127.0.0.1/farm", None, None), as_json=True)

    def no_json(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    told = json.loads(capsys.readouterr().out, parse_constant=no_json)
    (seen,), (silent,) = told["searches"], told["evaluators"]
    assert {seen[key] for key in ("hypervolume", "eta_seconds", "sent_at", "silent_seconds")} == {None}
    assert seen["name"] == "one" and seen["measured"] == 4 and silent["silent_seconds"] == pytest.approx(1e6)
