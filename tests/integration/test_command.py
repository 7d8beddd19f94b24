"""The command as a person uses it: what it writes, and the one line that it says when something is wrong."""

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared import checkpoint_files as digests
from shared.digest import digest_file
from shared.messages import EvaluationResult, Failure, Measurement, Workload
from shared.network.sizes import parameters
from shared.settings import read_search_file
from tests.support.checkpoints import write_checkpoint
from tests.support.command import Ended, Run, quick_search_file, search_file
from tests.support.forked import ForkedCommand
from tests.support.instructions import few_instructions
from tests.support.tasks import CHATML, tokenizer_with_chat
from tests.support.uneven import write_uneven


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was searched to its end by a process of its own."""
    directory = tmp_path_factory.mktemp("finished")
    process = ForkedCommand("search", quick_search_file(directory), "--runs", directory / "runs")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "Altogether" in output and "Report" in output
    (directory / "output.txt").write_text(output)
    return directory / "runs" / "tiny"


@pytest.mark.parametrize(("stage", "steps"), [("Fine-tuning", "40"), ("Search", "40"), ("Report", r"\d+")])
def test_without_a_terminal_each_long_stage_is_told_in_a_few_lines(finished: Path, stage: str, steps: str) -> None:
    output = (finished.parents[1] / "output.txt").read_text()
    told = re.findall(rf"^{stage} +(\d+) of {steps} \((\d+) %\), .*$", output, re.MULTILINE)
    assert 1 <= len(told) <= 12
    assert told[-1][1] == "100"
    assert [int(share) for _, share in told] == sorted({int(share) for _, share in told})


def refused(ended: Ended, *words: str) -> None:
    """The command ended with exit code 2 and one line that holds these words."""
    assert ended.code == 2, ended
    assert ended.error.count("\n") == 1 and ended.error.startswith("nasfarm: "), ended.error
    for word in words:
        assert word in ended.error, ended.error


@pytest.mark.parametrize(
    "command", ["init", "schema", "train", "search", "report", "export", "evaluate", "status", "stop", "evaluator"]
)
def test_every_command_explains_itself_with_an_example(run: Run, command: str) -> None:
    ended = run(command, "--help")
    assert ended.code == 0
    assert f"Example: nasfarm {command}" in ended.output


def test_status_and_report_work_from_the_history_alone(run: Run, finished: Path) -> None:
    shutil.copytree(finished, copy := finished.parent / "copy", dirs_exist_ok=True)
    shutil.rmtree(copy / "supernet")
    (copy / "report.html").unlink()
    assert "40 of 40 networks measured" in run("status", copy).output
    assert run("report", copy).code == 0
    assert (copy / "front.json").read_text() == (finished / "front.json").read_text()
    assert "</html>" in (copy / "report.html").read_text()


def test_a_finished_search_run_again_measures_nothing_and_ends_the_same(run: Run, finished: Path) -> None:
    front, history = (finished / "front.json").read_text(), (finished / "history.sqlite").read_bytes()
    ended = run("search", finished.parents[1] / "search.yaml", "--runs", finished.parent)
    assert ended.code == 0, ended
    assert (finished / "front.json").read_text() == front
    assert (finished / "history.sqlite").read_bytes() == history


def test_a_network_of_the_front_measured_by_hand_has_the_accuracy_of_the_report(run: Run, finished: Path) -> None:
    row = json.loads((finished / "front.json").read_text())["front"][0]
    architecture = finished / "front" / "N1.json"
    ended = run("evaluate", "--architecture", architecture, "--task", "plain_facts", "--split", "test", "--items", 200)
    assert ended.code == 0, ended
    assert f"{row['parameters']:,}" in ended.output
    assert f"{row['report_accuracy']:.4f}" in ended.output
    assert "200 items" in ended.output


def test_several_tasks_speed_and_int8_are_measured_by_hand_and_written_down(run: Run, tmp_path: Path) -> None:
    search_file(tmp_path)
    network = ["--checkpoint", tmp_path / "base", "--int8", "--dtype", "bfloat16", "--json", tmp_path / "result.json"]
    tasks = ["--task", "plain_facts", "--items", 30]
    load = ["--speed", "torch", "--batch", 2, "--prompt-tokens", 9, "--generated-tokens", 3, "--repeats", 4]
    ended = run("evaluate", *network, *tasks, *load)
    assert ended.code == 0, ended
    measurement = EvaluationResult.model_validate_json((tmp_path / "result.json").read_bytes()).outcome
    assert isinstance(measurement, Measurement)
    assert len(measurement.scores[0].items) == 30
    assert measurement.speed is not None
    assert measurement.speed.workload == Workload(batch=2, prompt_tokens=9, generated_tokens=3)
    assert measurement.bytes < 2 * measurement.parameters
    for words in ("INT8 and bfloat16", "30 items of plain_facts", "acc_norm", "prefill", "decode"):
        assert words in ended.output
    assert "batch 2, 9 prompt tokens, 3 generated tokens, 4 repeats" in " ".join(ended.output.split())


@pytest.mark.parametrize("name", ["llm-pruner", "all-of-it"])
def test_a_checkpoint_whose_layers_differ_is_measured_by_hand_like_any_other(
    run: Run, tmp_path: Path, name: str
) -> None:
    shape = write_uneven(tmp_path / "pruned", name)
    ended = run("evaluate", "--checkpoint", tmp_path / "pruned", "--task", "plain_facts", "--items", 5)
    assert ended.code == 0, ended
    assert "5 items of plain_facts" in ended.output and f"({parameters(shape):,})" in ended.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--apply-chat-template", "--items", 5], "5 items of plain_facts (chat template)"),
        (["--items", 5, "--apply-chat-template"], "5 items of plain_facts (chat template)"),
        (["--items", 5, "--apply-chat-template", "short"], "(chat template short)"),
        (
            ["--items", 5, "--apply-chat-template=true", "--no-fewshot-as-multiturn"],
            "(chat template, examples in one turn)",
        ),
    ],
)
def test_a_chat_template_is_applied_by_hand(run: Run, tmp_path: Path, options: list[object], words: str) -> None:
    tokenizer = tokenizer_with_chat({"default": CHATML, "short": "{{ messages[-1].content }}"})
    write_checkpoint(tmp_path, "llama", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path)
    ended = run("evaluate", "--checkpoint", tmp_path, "--task", "plain_facts", *options)
    assert ended.code == 0, ended
    assert words in " ".join(ended.output.split())


def test_a_search_with_a_chat_template_that_is_not_there_is_refused_before_anything_is_trained(
    run: Run, tmp_path: Path
) -> None:
    part = {"items": 5}
    chat = {"name": "plain_facts", "apply_chat_template": True, "search": part, "report": part}
    ended = run("search", quick_search_file(tmp_path, tasks=[chat]), "--runs", tmp_path / "runs")
    refused(ended, "tasks.plain_facts", f"{tmp_path / 'base'} has no chat template")
    assert "Fine-tuning" not in ended.output and not (tmp_path / "supernets").exists()


def test_a_search_of_a_chat_model_measures_and_reports_chats(run: Run, tmp_path: Path) -> None:
    tokenizer = tokenizer_with_chat()
    write_checkpoint(tmp_path / "base", "llama", vocab_size=len(tokenizer))
    tokenizer.save_pretrained(tmp_path / "base")
    part = {"items": 5}
    task = {"name": "plain_facts", "num_fewshot": 1, "search": part, "report": part}
    few = {
        "search": {"evaluations": 4, "population": 2},
        "training": {"data": few_instructions(tmp_path), "steps": 0, "calibration_tokens": 512},
    }
    for apply in (True, False):
        tasks = [{**task, "apply_chat_template": apply}]
        search = search_file(tmp_path, name=f"chat-{apply}".lower(), tasks=tasks, **few)
        ended = run("search", search, "--runs", tmp_path / "runs")
        assert ended.code == 0, ended
        report = (tmp_path / "runs" / f"chat-{apply}".lower() / "report.html").read_text(encoding="utf-8")
        assert ("chat template, acc" in report) == apply


def test_speed_can_be_measured_without_a_task(run: Run, tmp_path: Path) -> None:
    search_file(tmp_path)
    ended = run("evaluate", "--checkpoint", tmp_path / "base", "--speed", "torch", "--repeats", 1)
    assert ended.code == 0, ended
    assert "decode" in ended.output and "metric" not in ended.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["--task", "--speed"]),
        (["--speed", "torch", "--items", 5], ["--items", "without --task"]),
        (["--speed", "torch", "--num-fewshot", 0], ["--num-fewshot", "without --task"]),
        (["--speed", "torch", "--apply-chat-template"], ["--apply-chat-template", "without --task"]),
        (["--task", "plain_facts", "--no-fewshot-as-multiturn"], ["multiturn", "without --apply-chat-template"]),
        (["--task", "plain_facts", "--items", 5, "--apply-chat-template"], ["base has no chat template"]),
        (
            ["--task", "plain_facts", "--apply-chat-template=false", "--no-fewshot-as-multiturn"],
            ["multiturn", "without --apply-chat-template"],
        ),
        *(
            (["--task", "plain_facts", f"--apply-chat-template={name}"], ["--apply-chat-template: should be true, fal"])
            for name in ("", " ")
        ),
        *(
            (["--task", "plain_facts", f"{option}=\udcff"], [f"{option}: � is not in UTF-8"])
            for option in ("--apply-chat-template", "--split", "--task")
        ),
        (["--task", "plain_facts", "--items", 5, "--batch", 2], ["--batch", "without --speed"]),
        (["--task", "plain_facts", "--items", 5, "--repeats", 2], ["--repeats", "without --speed"]),
        (["--task", "no_such_task", "--items", 5], ["no_such_task"]),
    ],
)
def test_options_that_make_no_sense_together_are_refused(
    run: Run, tmp_path: Path, options: list[object], words: list[str]
) -> None:
    search_file(tmp_path)
    refused(run("evaluate", "--checkpoint", tmp_path / "base", *options), *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "runs/x", "--broker", "amqp://user:word@127.0.0.1/"], ["RUN", "--broker"]),
        (["status", "runs/x", "--json"], ["--json", "of which broker"]),
        (["status", "runs/x", "--credentials", "x"], ["--credentials", "of which broker"]),
        (["search", "x.yaml", "--authority", "x"], ["--authority", "of which broker"]),
        (["stop", "one", "--broker", "http://127.0.0.1"], ["amqp://"]),
    ],
)
def test_a_farm_s_options_without_a_farm_are_refused(run: Run, arguments: list[object], words: list[str]) -> None:
    refused(run(*arguments), *words)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_an_engine_that_isnt_installed_is_named_with_what_installs_it(run: Run, tmp_path: Path) -> None:
    search_file(tmp_path)
    ended = run("evaluate", "--checkpoint", tmp_path / "base", "--speed", "vllm", "--json", tmp_path / "result.json")
    refused(ended, "vllm", "pip install 'nasfarm[vllm]'")
    failure = EvaluationResult.model_validate_json((tmp_path / "result.json").read_bytes()).outcome
    assert isinstance(failure, Failure) and failure.kind == "unsupported"


def test_init_writes_a_search_file_that_can_be_read_and_prints_its_profile(run: Run, tmp_path: Path) -> None:
    search_file(tmp_path)
    ended = run("init", tmp_path / "base", "-o", tmp_path / "new.yaml")
    assert ended.code == 0, ended
    settings = read_search_file(tmp_path / "new.yaml")
    assert settings.space.depths[0] == 5 and settings.space.mlp_widths[0] == 24
    assert "distinct networks" in ended.output and "Altogether" in ended.output
    refused(run("init", tmp_path / "base", "-o", tmp_path / "new.yaml"), "new.yaml", "--force")


def changed(section: str, **changes: Any) -> dict[str, Any]:
    """The test's search file with a section changed."""
    defaults = {
        "space": {"depths": [5, 4], "mlp_widths": [24, 12]},
        "training": {"data": "plain_facts", "steps": 1},
    }
    return {section: {**defaults[section], **changes}}


def one_task(**changes: Any) -> dict[str, Any]:
    return {"tasks": [{"name": "plain_facts", "search": {"items": 10}, "report": {"items": 10}, **changes}]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, ["search.yaml", "colour", "unknown key"]),
        (changed("space", widths=[1]), ["space.widths", "unknown key"]),
        (changed("space", mlp_widths=[25]), ["space.mlp_widths", "25", "24 neurons"]),
        (changed("space", depths=[6]), ["space.depths", "6", "5 layers"]),
        (changed("space", depths=[]), ["space.depths"]),
        (changed("space", mlp_widths=[]), ["space.mlp_widths"]),
        (changed("space", depths=[5, 5]), ["space.depths", "twice"]),
        (changed("training", steps=-1), ["training.steps"]),
        (changed("training", data="nowhere.jsonl"), ["training.data", "nowhere.jsonl"]),
        (one_task(name="no_such_task"), ["tasks.no_such_task", "lm-eval knows no such task"]),
        (one_task(name="wikitext"), ["tasks.wikitext"]),
        (
            one_task(name="winogrande", search={"items": 5, "split": "validation"}),
            ["tasks.0", "both parts or of neither"],
        ),
        (one_task(name="truthfulqa_mc2", metric="acc"), ["tasks.truthfulqa_mc2"]),
        (one_task(metric="bleu"), ["tasks.0.metric"]),
        (one_task(metric="exact_match"), ["tasks.plain_facts.metric", "acc, acc_norm"]),
        (one_task(search={"items": 9999}), ["tasks.plain_facts", "9999", "ask for fewer"]),
        (one_task(search={"items": 5, "split": "moon"}), ["tasks.plain_facts", "moon", "train, validation, test"]),
        ({"model": "nowhere"}, ["model 'nowhere'", "no such directory"]),
        ({"tasks": None}, ["tasks", "missing"]),
        ({"name": "../outside"}, ["name"]),
    ],
)
def test_a_search_file_that_makes_no_sense_is_refused_in_one_line(
    run: Run, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    refused(run("search", quick_search_file(tmp_path, **changes), "--runs", tmp_path / "runs"), *words)


def test_a_search_file_that_is_missing_or_no_yaml_is_refused(run: Run, tmp_path: Path) -> None:
    refused(run("search", tmp_path / "missing.yaml"), "missing.yaml", "nasfarm init")
    (tmp_path / "bad.yaml").write_text("name: [unclosed\nmodel: x")
    refused(run("search", tmp_path / "bad.yaml"), "bad.yaml", "not valid YAML")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    refused(run("search", tmp_path / "list.yaml"), "list.yaml", "mapping")


def test_a_checkpoint_that_is_truncated_foreign_or_of_another_family_is_refused(run: Run, tmp_path: Path) -> None:
    search, base = search_file(tmp_path), tmp_path / "base"
    weights, config = (base / "model.safetensors").read_bytes(), json.loads((base / "config.json").read_text())
    (base / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    refused(run("search", search, "--runs", tmp_path / "runs"), "model.safetensors", "truncated")
    (base / "model.safetensors").write_bytes(weights)
    (base / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 6}))
    refused(run("search", search, "--runs", tmp_path / "runs"), "model.layers.5", "don't belong")
    (base / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    refused(run("search", search, "--runs", tmp_path / "runs"), "gpt2", "not supported")
    (base / "config.json").unlink()
    refused(run("search", search, "--runs", tmp_path / "runs"), "config.json")


def test_an_empty_data_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    search = search_file(tmp_path, **changed("training", data=str(tmp_path / "empty.jsonl")))
    refused(run("search", search, "--runs", tmp_path / "runs"), "empty.jsonl", "no rows")


def test_a_run_of_another_search_is_neither_used_nor_harmed(run: Run, finished: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished.parent, runs)
    values = yaml.safe_load((finished.parents[1] / "search.yaml").read_text())
    history, manifest = (
        (runs / "tiny" / "history.sqlite").read_bytes(),
        (runs / "tiny" / "supernet" / "supernet.json").read_bytes(),
    )
    for section, change, words in (
        ("search", {"seed": 5}, ["history.sqlite", "another search"]),
        ("training", {"learning_rate": 0.5}, ["supernet", "other settings"]),
    ):
        (tmp_path / "other.yaml").write_text(yaml.safe_dump({**values, section: {**values[section], **change}}))
        refused(run("search", tmp_path / "other.yaml", "--runs", runs), *words)
    assert (runs / "tiny" / "history.sqlite").read_bytes() == history
    assert (runs / "tiny" / "supernet" / "supernet.json").read_bytes() == manifest
    assert read_search_file(runs / "tiny" / "search.yaml") == read_search_file(finished / "search.yaml")


@pytest.mark.parametrize("command", ["train", "search"])
def test_an_unfinished_fine_tuning_of_an_earlier_release_is_neither_used_nor_harmed(
    run: Run, tmp_path: Path, command: str
) -> None:
    directory = tmp_path / "runs" / "tiny"
    directory.mkdir(parents=True)
    (directory / "training.pt").write_bytes(b"what that release knew")
    former = (directory / "training.pt").read_bytes()
    search = search_file(tmp_path, **changed("training", calibration_tokens=512), search={"evaluations": 2})
    ended = run(command, search, "--runs", tmp_path / "runs")
    assert ended.code == 0, ended
    assert "starts again" in ended.output and "training.pt" in ended.output
    assert (directory / "training.pt").read_bytes() == former


def test_a_damaged_state_of_a_fine_tuning_is_refused_and_left_as_it_is(run: Run, tmp_path: Path) -> None:
    search = search_file(tmp_path, **changed("training", steps=0, calibration_tokens=512))
    assert run("train", search, "--runs", tmp_path / "runs").code == 0
    (supernet,) = (path for path in (tmp_path / "supernets").iterdir() if path.is_dir())
    shutil.rmtree(supernet)
    state = supernet.with_name(f"{supernet.name}.unfinished") / "training.pt"
    state.parent.mkdir()
    state.write_bytes(b"torn")
    refused(run("train", search, "--runs", tmp_path / "runs"), "training.pt", "not a readable training state")
    assert state.read_bytes() == b"torn"


def test_a_super_network_that_was_changed_afterwards_is_refused(run: Run, tmp_path: Path) -> None:
    search = search_file(tmp_path, **changed("training", steps=0, calibration_tokens=512))
    assert run("train", search, "--runs", tmp_path / "runs").code == 0
    (supernet,) = (path for path in (tmp_path / "supernets").iterdir() if path.is_dir())
    (supernet / "merges.txt").write_text("others")
    refused(run("search", search, "--runs", tmp_path / "runs"), "the files differ from those in supernet.json")


def test_large_files_are_read_for_their_digests_once_and_never_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NASFARM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "LARGE_BYTES", 100_000)
    monkeypatch.setattr(digests, "SETTLED_NANOSECONDS", 0)
    few = {"evaluations": 4, "population": 2}
    search = search_file(tmp_path, **changed("training", steps=0, calibration_tokens=512), search=few)
    read: list[Path] = []

    def noting(file: Path, *more: Any) -> str:
        read.append(file)
        return digest_file(file, *more)

    monkeypatch.setattr(digests, "digest_file", noting)
    assert run("search", search, "--runs", tmp_path / "runs").code == 0
    first = [file for file in read if file.suffix == ".safetensors"]
    assert len(first) == 2 and first[0].parent == tmp_path / "base"  # and the super-network when it is written
    read.clear()
    assert run("search", search, "--runs", tmp_path / "runs").code == 0
    assert read and not [file for file in read if file.suffix == ".safetensors"]


def test_a_search_over_a_super_network_that_it_names_needs_no_training_data(run: Run, tmp_path: Path) -> None:
    few = {"search": {"evaluations": 4, "population": 2}}
    training = changed("training", steps=0, calibration_tokens=512)
    named = {"supernet": str(tmp_path / "mine"), "space": {"depths": [5], "mlp_widths": [24, 12]}}
    search = search_file(tmp_path, **training, **few)
    missing = search_file(tmp_path, name="named", **training, **few, **named).rename(tmp_path / "named.yaml")
    refused(run("search", missing, "--runs", tmp_path / "runs"), "mine", "`nasfarm train` makes one")
    assert run("train", missing, "--runs", tmp_path / "runs").code == 0
    assert (tmp_path / "mine" / "supernet.json").is_file() and search.name == "search.yaml"
    for number, changes in enumerate(
        ({}, {"training": {"data": "nowhere.jsonl", "steps": 0, "calibration_tokens": 512}})
    ):
        values = {**few, **named, "training": None, "name": f"named{number}", **changes}
        ended = run("search", search_file(tmp_path, **values), "--runs", tmp_path / "runs")
        assert ended.code == 0, ended
        assert "there already" in ended.output and "Training data" not in ended.output
        assert (tmp_path / "runs" / f"named{number}" / "supernet").resolve() == tmp_path / "mine"
    (tmp_path / "base").rename(tmp_path / "other")
    write_checkpoint(tmp_path / "base", "llama-grouped-tied", seed=1)
    refused(run("search", missing, "--runs", tmp_path / "runs"), "is not the model that", "mine")


def test_two_commands_dont_work_in_one_run(run: Run, tmp_path: Path) -> None:
    from services.application.run_directory import RunDirectory

    with RunDirectory(tmp_path / "runs" / "tiny").claimed():
        refused(run("search", search_file(tmp_path), "--runs", tmp_path / "runs"), "another nasfarm works in this run")


def test_a_place_that_cant_be_written_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(
        run("search", search_file(tmp_path), "--runs", tmp_path / "file"), "can't be written", "choose another place"
    )


def test_an_architecture_that_doesnt_fit_is_refused(run: Run, tmp_path: Path) -> None:
    search_file(tmp_path)
    path = tmp_path / "architecture.json"
    for content, words in (
        ('{"layers": [0, 7], "mlp_widths": [3, 3]}', ["layers: 7", "layers 0 to 4"]),
        ('{"layers": [0], "mlp_widths": [99]}', ["mlp_widths: 99", "24 neurons"]),
        ('{"layers": [1, 0], "mlp_widths": [3, 3]}', ["architecture.json", "ascending"]),
        ('{"layers": [1]', ["architecture.json"]),
    ):
        path.write_text(content)
        arguments = ["--checkpoint", tmp_path / "base", "--architecture", path, "--task", "plain_facts", "--items", 5]
        refused(run("evaluate", *arguments), *words)
    refused(run("evaluate", "--architecture", path, "--task", "plain_facts"), "architecture.json", "--checkpoint")
    refused(run("evaluate", "--task", "plain_facts"), "--architecture")
