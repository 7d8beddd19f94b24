"""Finishing a network: options, what is said of it, and how the use of report items is counted."""

import json
from pathlib import Path

import pytest

from services.application.finish.options import FinishOptions, finish_settings, in_options, require_same
from services.application.finish.place import default_place
from services.application.finish.record import Answers, FinishedResults
from services.cli.finish import show_results, verdict
from services.coordinator.history import History
from services.reporting.item_answers import ItemAnswers
from services.reporting.report_item_use import record_use_by_finished
from shared.errors import UserError
from shared.messages import ItemScores
from shared.settings import TrainingSettings

MADE = TrainingSettings(steps=200, tokens_per_step=512, learning_rate=1e-4, subnets_per_step=2, refit=True)


def test_without_options_a_network_is_trained_as_its_super_network_was_but_alone() -> None:
    settings = finish_settings(MADE, FinishOptions())
    same = ("steps", "tokens_per_step", "learning_rate", "warmup_steps", "data", "seed", "memory")
    assert all(getattr(settings, name) == getattr(MADE, name) for name in same)
    assert (settings.subnets_per_step, settings.distillation, settings.refit) == (1, "full", False)
    assert finish_settings(MADE.model_copy(update={"distillation": "all"}), FinishOptions()).distillation == "all"


def test_options_replace_what_the_super_network_had_and_few_steps_warm_up_at_most_half_of_them() -> None:
    asked = FinishOptions(steps=10, learning_rate=2e-5, data="plain_facts", tokens_per_step=64, memory="lean")
    settings = finish_settings(MADE, asked)
    assert {name: getattr(settings, name) for name in asked.training} == asked.training
    assert settings.warmup_steps == 5


def test_a_super_network_that_was_not_fine_tuned_says_nothing_of_how_many_steps() -> None:
    untrained = MADE.model_copy(update={"steps": 0})
    with pytest.raises(UserError, match="--steps: the super-network was not fine-tuned"):
        finish_settings(untrained, FinishOptions())
    assert finish_settings(untrained, FinishOptions(steps=3)).steps == 3


@pytest.mark.parametrize("rate", [0.0, -1.0, 1.0, float("nan"), float("inf")])
def test_an_impossible_learning_rate_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match=r"--learning-rate .*: must be above 0 and below 1, such as 0\.0001"):
        finish_settings(MADE, FinishOptions(learning_rate=rate))


def test_what_is_said_about_settings_names_options() -> None:
    said = in_options("training.data: no row fits into training.tokens_per_step; raise it")
    assert said == "--data: no row fits into --tokens-per-step; raise it"


def test_what_is_there_is_the_same_unless_something_else_is_asked_for() -> None:
    for same in (FinishOptions(), FinishOptions(steps=200, memory="auto")):
        require_same(MADE, same, "it was finished")
    with pytest.raises(UserError, match="--steps 300: it was finished with 200; leave it out, or give another"):
        require_same(MADE, FinishOptions(steps=300), "it was finished")


def test_a_network_in_int8_has_a_place_that_can_be_typed() -> None:
    assert default_place("small", "N5 int8") == Path("finished/small-N5-int8")


def answers(right: int, of: int = 400, tasks: tuple[str, ...] = ("quiz",)) -> ItemAnswers:
    return ItemAnswers(tuple(scores(task, right, of) for task in tasks), ("acc",) * len(tasks))


def scores(task: str, right: int, of: int) -> ItemScores:
    values = tuple(float(item < right) for item in range(of))
    return ItemScores(
        task=task,
        items=tuple(range(of)),
        items_digest="d",
        metrics={"acc": values},
        values={"acc": right / of},
        margins=(0.0,) * of,
    )


def results(before: int, after: int) -> FinishedResults:
    return Answers(answers(after), answers(before), answers(300), answers(200)).results(used_before=9)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (200, 240, "N5 got better: +10.0 points (95 %: "),
        (240, 200, "N5 got worse: \N{MINUS SIGN}10.0 points (95 %: "),
        (200, 202, "N5 can't be told from what it was: +0.5 points (95 %: "),
        (200, 200, "N5 can't be told from what it was: 0.0 points (95 %: "),
    ],
)
def test_whether_it_got_better_is_said_plainly(before: int, after: int, words: str) -> None:
    said = verdict("N5", results(before, after))
    assert said.startswith(words) and "on 400 report items" in said and said.endswith("against dense"), said


def test_several_tasks_are_shown_one_by_one_and_in_the_mean(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = ("quiz", "riddles")
    finished, before, whole = (answers(right, tasks=tasks) for right in (220, 200, 300))
    show_results("N5", Answers(finished, before, whole, None).results(used_before=9))
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    told = [(line[0], line[1]) for line in lines if line[0] in (*tasks, "mean")]
    assert told == [(task, name) for task in (*tasks, "mean") for name in ("dense", "N5,", "N5,")]
    assert any({"mean", "finished", "55.0"} <= set(line) for line in lines)


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    for base in (answers(100), None):
        written = Answers(answers(220), answers(200), answers(300), base)
        written.write(tmp_path)
        assert Answers.read(tmp_path, ("acc",)) == written
    (tmp_path / "finished.answers.json").write_text(json.dumps({"finished": []}))
    with pytest.raises(UserError, match=r"finished\.answers\.json: can't be read; copy it again"):
        Answers.read(tmp_path, ("acc",))


def test_the_same_use_of_report_items_is_noted_once(tmp_path: Path) -> None:
    history = History.create_or_resume(tmp_path / "history.sqlite", {"recipe": {}})
    for asked in (["b", "a"], ["a", "b"], ["c"]):
        record_use_by_finished(asked, history)
    noted = [value for key, value in history.about().items() if key.startswith("report items looked at for a finished")]
    assert sorted(noted) == [["a", "b"], ["c"]]
    history.close()
