"""What an operator is told of a farm in plain words."""

import io
import time

import pytest

from services.cli import watching
from services.cli.console import PlainConsole
from services.cli.watching import FarmStatus
from shared.announcements import EvaluatorAnnouncement, SearchAnnouncement

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
    monkeypatch.setattr(watching, "console", PlainConsole(file=output, width=500))
    watching._say_who_is_missing(FarmStatus(NOW, (search(2),), evaluators, {}))
    assert output.getvalue().strip() == said
