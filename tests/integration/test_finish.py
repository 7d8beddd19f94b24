"""`nasfarm finish` as a person uses it: what it makes, measures, says and refuses, and that it can be killed."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from services.application.export.searched_run import SearchedRun
from services.application.finish.record import Answers, FinishedRecord
from services.cli.finish import verdict
from services.trainer import single_fine_tuning, training_state
from services.trainer.fine_tuning import StepReport
from services.trainer.recipe import SingleRecord
from shared.locks import locked
from shared.manifest import FINISHED, FINISHED_ANSWERS
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.support.checkpoints import logits_one_by_one, random_sequences
from tests.support.command import Run, refused
from tests.support.exports import record_of, transformers_model
from tests.support.forked import command, killed_after
from tests.support.instructions import few_instructions

pytestmark = pytest.mark.usefixtures("finished_runs")


@pytest.fixture
def finish(run: Run, finished_runs: Path) -> Callable[..., Any]:
    """Finish a network of a run in a few steps, on data that are read in no time."""
    data = few_instructions(finished_runs)
    return lambda *arguments, steps=4: run("finish", *arguments, "--steps", steps, "--data", data)


def test_without_a_network_the_front_is_listed_and_nothing_is_made(run: Run) -> None:
    ended = run("finish", "runs/served")
    assert ended.code == 0, ended
    assert "N6" in ended.output and "--at-most" in ended.output
    assert "nasfarm finish runs/served N2" in ended.output  # its N1 is the whole network
    assert not Path("finished").exists()


def test_where_the_front_is_the_whole_network_alone_none_is_proposed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SearchedRun.read(Path("runs/served"))
    whole = found.report.model_copy(update={"front": found.report.front[:1]})
    monkeypatch.setattr(SearchedRun, "read", lambda _: replace(found, content=whole))
    ended = run("finish", "runs/served")
    assert ended.code == 0 and "no network of this run can be taken by nasfarm finish" in ended.output, ended
    assert "--at-most" not in ended.output


def test_a_network_is_finished_compared_counted_exported_and_loaded(run: Run, finish: Callable[..., Any]) -> None:
    before = SearchedRun.read(Path("runs/served")).report.networks_on_report_items
    ended = finish("runs/served", "N2")
    assert ended.code == 0, ended
    directory = Path("finished/served-N2")
    record, made = FinishedRecord.read(directory), SingleRecord.read(directory)
    assert (record.run, record.network, record.plan) == ("served", "N2", made.plan)
    assert made.recipe.tuning is not None and made.recipe.tuning.teacher == "base"
    assert record.training.steps == 4 and record.search is not None
    front = json.loads(Path("runs/served/front.json").read_text())["front"]
    (row,) = [row for row in front if row["name"] == "N2"]
    assert record.results.before.accuracy == row["report_accuracy"]
    answers = Answers.read(directory, record.searched(directory).metrics)
    assert answers.results(record.results.used_before) == record.results
    assert record.results.items == 20 and record.results.used_before == before
    for words in ("dense", "N2, as it was", "N2, finished", verdict("N2", record.results), "the run's report counts"):
        assert words in ended.output, words
    assert SearchedRun.read(Path("runs/served")).report.networks_on_report_items == before + 1

    again = finish("runs/served", "N2")
    assert again.code == 0 and "is there already: finished in 4 steps" in again.output, again
    assert "Fine-tuning" not in again.output and verdict("N2", record.results) in again.output
    assert [path.name for path in Path("finished").iterdir() if not path.name.startswith(".")] == ["served-N2"]

    Path("runs").rename("elsewhere")
    shutil.rmtree("supernets")
    ended = run("export", directory)
    assert ended.code == 0, ended
    out = Path("exports/served-N2-finished-hf")
    assert record_of(out)["finished"]["steps"] == 4
    assert not (out / FINISHED).exists() and not (out / FINISHED_ANSWERS).exists()
    card = (out / "README.md").read_text()
    assert "Then it was finished: fine-tuned further by itself for 4 steps" in card and "served-N2-finished" in card
    sequences = random_sequences(20)
    network = Checkpoint.open(directory).cut().map(lambda tensor: tensor.float())
    with torch.no_grad():
        own = network.logits(network.hidden(pack([Tree.plain(sequences[0])])))
        (loaded,) = logits_one_by_one(transformers_model(out), sequences)
    torch.testing.assert_close(loaded, own, atol=1e-3, rtol=1e-3)


def test_a_network_in_int8_is_finished_as_it_was_before_and_measured_in_int8(
    run: Run, finish: Callable[..., Any]
) -> None:
    ended = finish("runs/served", "N5", "-o", "mine")
    assert ended.code == 0, ended
    record, made = FinishedRecord.read(Path("mine")), SingleRecord.read(Path("mine"))
    assert record.architecture.quantization == "int8" and made.recipe.architecture.quantization == "none"
    assert all(tensor.is_floating_point() for tensor in load_file("mine/model.safetensors").values())
    ended = run("export", "mine", "--to", "vllm", "--no-measure")
    assert ended.code == 0 and record_of(Path("exports/served-N5-finished-vllm"))["type"] is None, ended


class KilledError(BaseException):
    """What nothing handles."""


def finish_and_tell(arguments: list[str], tell: Connection) -> None:
    """Run the command, and send the number of each step that is done."""
    training_state.WAITING_SHARE = 1.0  # a state after each step, though its steps are shorter than the writing
    trainer: Any = single_fine_tuning
    fine_tune = trainer.fine_tune

    def told(*given: Any) -> None:
        def report(step: StepReport) -> None:
            given[6](step)
            tell.send(step.step)

        often = given[2].model_copy(update={"checkpoint_every_seconds": 1e-6})
        fine_tune(*given[:2], often, *given[3:6], report, *given[7:])

    trainer.fine_tune = told
    command(arguments)


def test_killed_amid_its_fine_tuning_it_is_resumed_to_bitwise_the_same_weights(
    run: Run, finish: Callable[..., Any], finished_runs: Path
) -> None:
    arguments = ["finish", "runs/plain", "N2", "--steps", "12", "--data", few_instructions(finished_runs)]
    killed_after(5, finish_and_tell, [*arguments, "-o", "killed"])
    assert not Path("killed").exists() and Path("killed.unfinished").is_dir()
    refused(run(*arguments[:3], "--steps", 11, *arguments[5:], "-o", "killed"), "unfinished fine-tuning with other")
    assert run(*arguments, "-o", "killed").code == 0
    assert run(*arguments, "-o", "undisturbed").code == 0
    files = [Path(name) / "model.safetensors" for name in ("killed", "undisturbed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    found, undisturbed = (FinishedRecord.read(Path(name)).results for name in ("killed", "undisturbed"))
    assert found == undisturbed.model_copy(update={"used_before": found.used_before})
    steps = [json.loads(line)["step"] for line in Path("killed/training.jsonl").read_text().splitlines()]
    assert set(steps) == set(range(12)) and steps.count(0) == 1, "it started over instead of resuming"
    assert not list(Path().glob("*.unfinished"))


def test_killed_after_measuring_it_measures_nothing_again(
    run: Run, finish: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KilledError

    used = SearchedRun.read(Path("runs/plain")).report.networks_on_report_items
    with monkeypatch.context() as patched:
        patched.setattr(FinishedRecord, "write", killed)
        with pytest.raises(KilledError):
            finish("runs/plain", "N2")
    monkeypatch.setattr("services.evaluator.evaluator.Evaluator.evaluate", killed)
    assert finish("runs/plain", "N2").code == 0
    results = FinishedRecord.read(Path("finished/plain-N2")).results
    assert (results.items, results.used_before) == (30, used)
    assert SearchedRun.read(Path("runs/plain")).report.networks_on_report_items == used + 1


def test_while_another_nasfarm_works_in_the_run_it_is_left_alone_and_that_is_said(finish: Callable[..., Any]) -> None:
    with locked(Path("runs/plain/.lock")):
        before = Path("runs/plain/history.sqlite").read_bytes()
        ended = finish("runs/plain", "N2")
        assert ended.code == 0 and "report can't count" in ended.output and "another nasfarm" in ended.output, ended
        assert Path("runs/plain/history.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs/plain", "dense"], ["dense: is the whole super-network"]),
        (["runs/served", "N1"], ["N1: is the whole super-network", "ask for a smaller one"]),
        (["runs/plain", "N9"], ["no network 'N9'"]),
        (["runs/plain", "--steps", "3"], ["--steps: of which network?"]),
        (["runs/plain", "--at-most", "bytes=1kB"], ["no network of the front"]),
        (["runs/plain", "N2", "--learning-rate", "2"], ["--learning-rate 2: must be above 0 and below 1"]),
        (["runs/plain", "N2", "--data", "nowhere.jsonl"], ["--data: 'nowhere.jsonl'"]),
        (["runs/plain", "N2", "-o", "runs/plain/mine"], ["lies in the run"]),
        (["runs/plain", "N2", "-o", "runs/plain/supernet/mine"], ["lies in the super-network"]),
        (["runs/plain", "N2", "-o", "plain.yaml"], ["exists already, and is no finished network"]),
        (["runs/plain", "N2", "--supernet", "nowhere"], ["nowhere"]),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(run: Run, arguments: list[str], words: list[str]) -> None:
    refused(run("finish", *arguments), *words)
    assert not Path("finished").exists()


def test_several_processes_are_refused_by_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.finish.started_together", lambda: True)
    refused(run("finish", "runs/plain", "N2"), "finish: trains in one process")


def test_what_lies_there_is_neither_replaced_nor_taken_for_another(run: Run, finish: Callable[..., Any]) -> None:
    assert finish("runs/plain", "N2", "-o", "mine").code == 0
    refused(run("finish", "runs/plain", "N2", "--steps", 9, "-o", "mine"), "--steps 9: ", "was finished with 4")
    refused(run("finish", "runs/plain", "N3", "-o", "mine"), "holds another network, N2 of the run plain")
    refused(run("export", "mine", "N2"), "NETWORK: mine is one finished network")
    refused(run("export", "mine", "-o", "mine/out"), "lies in the finished network")
    refused(run("export", "mine", "--supernet", "x"), "--supernet: a finished network has its own weights")
    weights = Path("mine/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    refused(run("export", "mine"), "model.safetensors has changed")


@pytest.mark.parametrize("asked", [[], ["--memory", "lean"]])
def test_memory_that_runs_out_is_told_of_in_one_line_with_what_to_do(
    finish: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, asked: list[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("too little\nof a long story")

    with monkeypatch.context() as patched:
        patched.setattr("services.application.finish.finish_network.make_shown", full)
        ended = finish("runs/plain", "N2", *asked)
    taken, leaner = ("lean", "leanest") if asked else ("full", "lean")
    refused(ended, f"--memory {taken}: memory ran out (too little)", f"give --memory {leaner}, or lower --tokens-per")
    assert finish("runs/plain", "N2", "--memory", leaner).code == 0, "nothing was saved that could be lost"
