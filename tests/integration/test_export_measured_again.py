"""`nasfarm export` of what is written in another quantisation than it was searched in: measured again, and told so."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import metadata_load

from services.application.export import remeasurement
from services.application.export.searched_run import SearchedRun
from services.evaluator.preparation import PreparedTask
from services.evaluator.scoring import score
from shared.architecture import Architecture
from shared.messages import ItemScores
from shared.supernet.decoder import Decoder
from shared.supernet.w8a8 import W8A8Linear
from tests.support.command import Ended, Run, refused
from tests.support.exports import nothing_is_left, record_of

pytestmark = pytest.mark.usefixtures("finished_runs")


def measured_line(ended: Ended) -> str:
    (line,) = [line for line in ended.output.splitlines() if line.startswith("Measured")]
    return line


def test_int8_for_vllm_is_measured_again_as_what_is_written_and_told_beside_what_was_searched(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = [each for each in json.loads(Path("runs/served/front.json").read_text())["front"] if each["name"] == "N5"]
    scored: list[Decoder] = []

    def with_three_other_answers(network: Decoder, task: PreparedTask, progressed: Callable[[], None]) -> ItemScores:
        """Of the network in W8A8 what the one in INT8 answered, but for the first three items."""
        scored.append(network)
        found = score(network, task, progressed)
        known = SearchedRun.read(Path("runs/served"))
        (before,) = known.answers([known.plan.request(Architecture(**row["architecture"]), "report")])
        assert before is not None
        values = [1 - value if index < 3 else value for index, value in enumerate(before.values)]
        return found.model_copy(update={"metrics": {"acc": tuple(values)}, "values": {"acc": sum(values) / 20}})

    monkeypatch.setattr(remeasurement, "score", with_three_other_answers)
    ended = run("export", "runs/served", "N5", "--to", "vllm", "-o", "out")
    assert ended.code == 0, ended
    assert all(isinstance(one, W8A8Linear) for layer in scored[0].layers for one in layer.projections)
    found = record_of(Path("out"))
    again, (task,) = found["measured_again"], found["measured_again"]["tasks"]
    assert again["quantization"] == "INT8 (W8A8)" and again["items_answered_otherwise"] == 3
    assert (task["task"], task["metric"], task["items"]) == ("plain_facts", "acc", 20)
    assert task["as_searched"] == row["report_accuracy"] != task["accuracy"]
    assert abs(task["accuracy"] - row["report_accuracy"]) in (pytest.approx(0.05), pytest.approx(0.15))
    low, high = task["interval"]
    assert low < task["accuracy"] < high
    assert found["bytes_on_disk"] == Path("out/model.safetensors").stat().st_size
    assert found["bytes_in_memory"] == row["bytes"]
    shown = [f"{100 * share:.1f}" for share in (task["accuracy"], low, high, row["report_accuracy"])]
    line, card = measured_line(ended), Path("out/README.md").read_text()
    assert all(number in line for number in shown) and "3 of 20 items are answered otherwise" in line
    assert "kB on disk" in line and "kB in memory" in line
    assert f"| 20 | {shown[0]} ({shown[1]} to {shown[2]}) | {shown[3]} |" in card
    assert "3 of the 20 items above are answered otherwise" in card
    results = metadata_load(Path("out/README.md"))["model-index"][0]["results"]  # type: ignore[index]
    assert results[0]["metrics"][0]["value"] == 100 * task["accuracy"]


def test_what_is_written_as_it_was_measured_is_not_measured_again(run: Run) -> None:
    assert run("export", "runs/plain", "dense", "--no-verify", "--no-measure", "-o", "out").code == 0
    assert record_of(Path("out"))["measured_again"] is None
    assert "Measured with the weights as they are here." in Path("out/README.md").read_text()


def test_where_measuring_takes_long_it_is_left_out_unless_it_is_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remeasurement, "computing_seconds", lambda *_: 600.0)
    ended = run("export", "runs/served", "N5", "--to", "vllm", "-o", "out")
    assert ended.code == 0
    assert "none as INT8 (W8A8), as it would take about 10 minutes; --measure does it" in ended.output
    assert record_of(Path("out"))["measured_again"] is None
    assert "before the weights were written as INT8 (W8A8)" in Path("out/README.md").read_text()
    asked = run("export", "runs/served", "N5", "--to", "vllm", "-o", "out", "--force", "--measure")
    assert "of 20 items are answered otherwise" in measured_line(asked)
    assert "Measure" not in run("export", "runs/served", "N5", "--to", "vllm", "-o", "again", "--no-measure").output


@pytest.mark.usefixtures("without_data")
def test_without_the_tasks_data_nothing_is_measured_again_and_one_line_says_so(run: Run) -> None:
    asked = ("export", "runs/served", "N5", "--to", "vllm")
    refused(run(*asked, "--measure"), "--measure: tasks.plain_facts: the data are on another machine")
    assert nothing_is_left()
    ended = run(*asked)
    assert ended.code == 0, ended
    (line,) = [line for line in ended.output.splitlines() if line.startswith("Measure")]
    assert line.endswith("none as INT8 (W8A8): tasks.plain_facts: the data are on another machine")
    assert record_of(Path("exports/served-N5-vllm"))["measured_again"] is None


def out_of_memory(*_: object) -> ItemScores:
    raise MemoryError


def not_finite(network: Decoder, task: PreparedTask, progressed: Callable[[], None]) -> ItemScores:
    return score(network, task, progressed).model_copy(update={"margins": (float("nan"),)})


@pytest.mark.parametrize(
    ("scored", "words"),
    [(out_of_memory, "not enough memory to measure it as INT8 (W8A8)"), (not_finite, "are not finite")],
)
def test_what_can_not_be_measured_again_is_not_exported_unless_it_is_said_to(
    run: Run, monkeypatch: pytest.MonkeyPatch, scored: Callable[..., ItemScores], words: str
) -> None:
    monkeypatch.setattr(remeasurement, "score", scored)
    refused(run("export", "runs/served", "N5", "--to", "vllm"), words, "--no-measure")
    assert nothing_is_left()
    assert run("export", "runs/served", "N5", "--to", "vllm", "--no-measure").code == 0


def test_items_that_have_changed_since_the_run_are_not_compared_with_its_answers(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_other_items(network: Decoder, task: PreparedTask, progressed: Callable[[], None]) -> ItemScores:
        return score(network, task, progressed).model_copy(update={"items_digest": "another"})

    monkeypatch.setattr(remeasurement, "score", of_other_items)
    ended = run("export", "runs/served", "N5", "--to", "vllm", "-o", "out")
    assert "otherwise" not in measured_line(ended) and "% on plain_facts" in measured_line(ended)
    again = record_of(Path("out"))["measured_again"]
    assert again["items_answered_otherwise"] is None and again["tasks"][0]["as_searched"] is None
    assert "as searched" not in Path("out/README.md").read_text()
