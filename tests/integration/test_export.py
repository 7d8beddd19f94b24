"""`nasfarm export` as a person uses it: what it lists, chooses, writes and refuses."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.application.export import export_network, place, report_items
from services.application.export.push import Pushed
from shared.architecture import Architecture
from shared.errors import UserError
from shared.machine_memory import Memory
from shared.supernet.checkpoint import Checkpoint
from tests.support.command import Run, environment, refused
from tests.support.exports import nothing_is_left, record_of
from tests.support.faulty_formats import (
    BEGUN,
    EmptyFormat,
    FullDiskFormat,
    UnreadableFormat,
    WrongFormat,
    export_endlessly,
    exporting_with,
)
from tests.support.forked import Forked

FIXTURES = Path(__file__).parents[1] / "fixtures"


pytestmark = pytest.mark.usefixtures("finished_runs")


def shallow(directory: Path = Path()) -> Path:
    """The file of an architecture of which all layers are alike."""
    file = directory / "shallow.json"
    file.write_text(Architecture(layers=(0, 1, 3), mlp_widths=(24, 24, 24)).model_dump_json())
    return file


def test_without_a_network_the_front_is_listed_with_its_sizes_and_how_to_go_on(run: Run) -> None:
    ended = run("export", "runs/served")
    assert ended.code == 0, ended
    front = json.loads(Path("runs/served/front.json").read_text())["front"]
    lines = {line.split()[0]: line for line in ended.output.splitlines() if line.strip()}
    for row in front:
        shown = lines[row["name"]]
        assert f"{100 * row['search_accuracy']:.1f}" in shown and f"{row['ratio']:.2f}" in shown
        assert ("yes" in shown) == (row["architecture"]["quantization"] == "int8")
    assert "dense" in lines
    assert "nasfarm export runs/served N1" in ended.output and "--at-most bytes=" in ended.output


def test_the_front_is_listed_without_loading_torch() -> None:
    code = "import sys; sys.argv[1:] = ['export', 'runs/served']; from services.cli.main import main\n"
    code += (
        "try: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "N1" in done.stdout


def test_the_whole_network_is_exported_verified_and_described(run: Run) -> None:
    ended = run("export", "runs/plain", "dense")
    assert ended.code == 0, ended
    directory = Path("exports/plain-dense-hf")
    assert sorted(path.name for path in Path("exports").iterdir()) == [directory.name]
    assert "Verified" in ended.output and "report items of plain_facts" in ended.output
    assert "30 of 30 items are answered alike" in ended.output
    assert "Writing" not in ended.error
    record = record_of(directory)
    assert record["network"] == "dense" and record["format"] == "hf"
    assert "30 of 30 items" in record["verified"]
    card = (directory / "README.md").read_text()
    assert "plain-dense" in card and "plain_facts" in card and record["verified"] in card
    assert str(Path.cwd()) not in card


def test_what_is_exported_are_the_weights_of_the_network_that_is_cut_out(run: Run) -> None:
    ended = run("export", "runs/plain", "--architecture", shallow(), "--no-verify", "-o", "out")
    assert ended.code == 0, ended
    assert "Verified" not in ended.output
    checkpoint, architecture = (
        Checkpoint.open(Path("runs/plain/supernet")),
        json.loads(Path("shallow.json").read_text()),
    )
    cut = dict(checkpoint.cut(Architecture(**{key: architecture[key] for key in ("layers", "mlp_widths")})).weights())
    written = Checkpoint.open(Path("out"))
    assert set(written.weights) == set(cut)
    assert all(torch.equal(written.weights[name], tensor) for name, tensor in cut.items())
    assert AutoModelForCausalLM.from_pretrained("out").config.num_hidden_layers == 3


def test_by_need_the_most_accurate_network_of_the_front_that_fits_is_chosen_and_it_is_said_why(run: Run) -> None:
    front = json.loads(Path("runs/served/front.json").read_text())["front"]
    sizes = sorted(row["bytes"] for row in front)
    fitting = [row for row in front if row["bytes"] <= sizes[2]]
    best = max(fitting, key=lambda row: row["search_accuracy"])
    ended = run("export", "runs/served", "--at-most", f"bytes={sizes[2] / 1000}kB", "--no-verify")
    (chosen,) = [line for line in ended.output.splitlines() if line.startswith("Chosen")]
    assert best["name"] in chosen and f"of the {len(fitting)} of {len(front)} networks" in chosen
    assert f"{100 * best['search_accuracy']:.1f}" in chosen
    assert ended.error.count("\n") <= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["runs/plain", "N9"], ["no network 'N9'", "N1, N2, N3, dense"]),
        (["runs/plain", "base"], ["no network 'base'", "N1, N2, N3, dense"]),
        (["runs/plain", "\x1b[31m"], ["no network"]),
        (["runs"], ["runs: not a run"]),
        (["nowhere"], ["nowhere: not a run"]),
        (["runs/plain", "N1", "--at-most", "bytes=1GB"], ["NETWORK and --at-most", "one of them"]),
        (["runs/plain", "N1", "--architecture", "x.json"], ["NETWORK and --architecture"]),
        (["runs/plain", "--architecture", "x.json"], ["x.json: can't be read"]),
        (["runs/plain", "--at-most", "bytes=1kB"], ["no network of the front", "the smallest, N3, has 65.5"]),
        (["runs/plain", "--at-most", "weight=1kB"], ["--at-most 'weight=1kB'", "parameters, bytes"]),
        (["runs/plain", "--at-most", "decode_seconds=1"], ["this run knows its networks' parameters, bytes"]),
        (["runs/plain", "--at-most", "bytes=1parsec"], ["'parsec' is no unit of bytes; there are TB, GB, MB, kB, B"]),
        (["runs/plain", "--at-most", "bytes=-1"], ["'-1' is no amount"]),
        (["runs/plain", "--at-most", "bytes=1e999"], ["so little or so much"]),
        (["runs/plain", "--at-most", "bytes=0"], ["so little or so much"]),
        (["runs/plain", "--output", "x"], ["--output: of which network?"]),
        (["runs/plain", "--no-verify"], ["--verify: of which network?"]),
        (["runs/plain", "--measure"], ["--measure: of which network?"]),
        (["runs/plain", "dense", "--measure"], ["--measure: the network isn't written in another quantisation"]),
        (["runs/plain", "dense", "--type", "q8_0"], ["--type q8_0: means nothing without --to gguf"]),
        (["runs/plain", "dense", "--to", "vllm", "--verify"], ["--verify: vLLM, which loads the export, needs a GPU"]),
        (["runs/plain", "dense", "--output", "runs/plain"], ["lies in the run"]),
        (["runs/plain", "dense", "--output", "runs/plain/a/b"], ["lies in the run"]),
        (["runs/plain", "dense", "--output", "runs/served/x"], ["lies in the run"]),
        (["runs/plain", "dense", "--output", "runs/plain/supernet/x"], ["lies in the super-network"]),
        (["runs/plain", "dense", "--output", "runs/plain/supernet"], ["lies in the super-network"]),
        (["runs/plain", "dense", "--output", "plain.yaml"], ["plain.yaml: is a file"]),
        (["runs/plain", "dense", "--output", "plain.yaml/x"], ["plain.yaml/x: can't be written"]),
        (["runs/plain", "dense", "--output", "x" * 300], ["can't be written (File name too long)"]),
        (["runs/plain", "dense", "--output", "runs", "--force"], ["runs: holds something else than an export"]),
        (["runs/plain", "dense", "--output", "."], [".: exists already"]),
        (["runs/plain", "dense", "--supernet", "nowhere"], ["nowhere", "no such directory"]),
        (["runs/plain", "dense", "--supernet", "file:///nowhere"], ["file:///nowhere"]),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_nothing_is_written(
    run: Run, finished_runs: Path, arguments: list[str], words: list[str]
) -> None:
    before = sorted(finished_runs.rglob("*"))
    refused(run("export", *arguments), *words)
    assert [path for path in sorted(finished_runs.rglob("*")) if path not in before] == []


def test_a_run_without_a_front_yet_is_refused_until_there_is_one(run: Run) -> None:
    Path("runs/plain/history.sqlite").unlink()
    refused(run("export", "runs/plain"), "runs/plain: no front yet", "nasfarm search")


def test_a_network_that_an_architecture_does_not_fit_is_refused(run: Run) -> None:
    Path("wide.json").write_text(Architecture(layers=(0,), mlp_widths=(10**6,)).model_dump_json())
    refused(run("export", "runs/plain", "--architecture", "wide.json"), "above the model's")
    assert nothing_is_left()


def weights_of_supernet() -> Path:
    return Path("runs/plain/supernet").resolve() / "model.safetensors"


def test_a_super_network_whose_files_changed_is_refused(run: Run) -> None:
    file = weights_of_supernet()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    refused(run("export", "runs/plain", "dense"), "model.safetensors has changed")
    assert nothing_is_left()


def test_a_coordinator_without_the_weights_is_told_where_to_get_them(run: Run) -> None:
    weights_of_supernet().unlink()
    refused(run("export", "runs/plain", "dense"), "model.safetensors is missing", "--supernet")


def test_a_super_network_that_is_gone_can_be_named_by_a_url_and_is_then_fetched(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NASFARM_CACHE", str(tmp_path / "cache"))
    Path("runs/plain/supernet").resolve().rename(tmp_path / "elsewhere")
    refused(run("export", "runs/plain", "dense"), "isn't here", "--supernet")
    ended = run("export", "runs/plain", "dense", "--supernet", f"file://{tmp_path / 'elsewhere'}", "--no-verify")
    assert ended.code == 0, ended
    assert run("export", "runs/plain", "dense", "--no-verify", "-o", "again").code == 0  # from the cache now


def test_another_super_network_than_the_run_s_is_refused(run: Run) -> None:
    another = FIXTURES / "format-1/runs/plain/supernet"
    refused(run("export", "runs/plain", "dense", "--supernet", another), "is another super-network")


@pytest.mark.parametrize("release", ["format-1", "format-2", "format-3"])
def test_networks_of_runs_of_earlier_releases_are_exported(run: Run, release: str) -> None:
    shutil.copytree(FIXTURES / release, "earlier", symlinks=True)
    ended = run("export", "earlier/runs/plain", "dense", "--no-verify")
    assert ended.code == 0, ended
    assert Path("exports/plain-dense-hf/model.safetensors").is_file()


def test_odd_names_stay_one_line_and_what_is_to_be_typed_can_be_typed(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for output, made in {"a\nb": "a\nb", "-dash": "-dash", "x[/y]": "x[/y]", "~/mine": tmp_path / "mine"}.items():
        ended = run("export", "runs/plain", "dense", "--no-verify", f"--output={output}")
        assert ended.code == 0 and Path(made, "config.json").is_file(), ended
        (told,) = [line for line in ended.output.splitlines() if line.startswith("Exported")]
        assert told.endswith("its README.md says how to load and serve it") and ended.error == ""
    Path("runs/plain").rename("runs/-plain")
    monkeypatch.chdir("runs")
    assert "nasfarm export ./-plain N1" in run("export", "./-plain").output
    Path("one\nlayer.json").write_text(Architecture(layers=(0,), mlp_widths=(5,)).model_dump_json())
    ended = run("export", "./-plain", "--architecture", "one\nlayer.json", "--to", "HF", "--no-verify", "-o", "out")
    assert ended.code == 0 and "Exported       one layer for hf: out" in ended.output, ended
    assert "# -plain-one layer" in Path("out/README.md").read_text()


def test_names_with_spaces_and_unicode_work(run: Run) -> None:
    Path("runs/plain").rename("runs/mein lauf ü 🦙")
    ended = run("export", "runs/mein lauf ü 🦙", "dense")
    assert ended.code == 0, ended
    assert (Path("exports") / "mein lauf ü 🦙-dense-hf" / "model.safetensors").is_file()
    listed = run("export", "runs/mein lauf ü 🦙")
    assert "nasfarm export 'runs/mein lauf ü 🦙' N1" in listed.output
    assert run("export", "runs/mein lauf ü 🦙", "dense", "-o", "oben/unter wegs/模型").code == 0
    assert (Path("oben/unter wegs/模型") / "config.json").is_file()


@pytest.fixture
def writing() -> Iterator[Forked]:
    """An export of another process that has begun to write and never ends."""
    arguments = ["export", "runs/plain", "dense", "--no-verify", "-o", "out"]
    process = Forked(export_endlessly, arguments, variables=environment())
    while BEGUN not in process.output:
        assert process.poll() is None, process.output
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_while_it_is_written_an_export_is_not_there_and_the_same_command_writes_it(
    run: Run, writing: Forked, number: signal.Signals
) -> None:
    ended = run("export", "runs/plain", "dense", "-o", "out", "--no-verify")
    refused(ended, "another export is being written there")
    writing.send_signal(number)
    writing.wait(60)
    assert not Path("out").exists() and Path(".out.unfinished").is_dir()
    assert run("export", "runs/plain", "dense", "-o", "out", "--no-verify").code == 0
    assert Path("out/export.json").is_file() and not Path(".out.unfinished").exists()


def test_an_earlier_export_is_replaced_only_by_force_and_anything_else_never(run: Run) -> None:
    assert run("export", "runs/plain", "dense", "-o", "out", "--no-verify").code == 0
    refused(run("export", "runs/plain", "dense", "-o", "out"), "out: exists already", "--force")
    with exporting_with(FullDiskFormat):
        refused(run("export", "runs/plain", "dense", "-o", "out", "--force"), "No space left")
    (Path("out") / "mine").write_text("mine")
    refused(run("export", "runs/plain", "dense", "-o", "out", "--force"), "out: holds mine, which is no part")
    assert (Path("out") / "mine").read_text() == "mine"
    (Path("out") / "mine").unlink()
    assert run("export", "runs/plain", "N2", "-o", "out", "--force", "--no-verify").code == 0
    assert record_of(Path("out"))["network"] == "N2"
    (Path("out") / "export.json").unlink()
    refused(run("export", "runs/plain", "dense", "-o", "out", "--force"), "something else than an export")
    assert [path.name for path in Path().glob(".*")] == []


def test_an_empty_directory_takes_an_export(run: Run) -> None:
    Path("out").mkdir()
    assert run("export", "runs/plain", "dense", "-o", "out", "--no-verify").code == 0
    assert (Path("out") / "config.json").is_file()


def test_a_full_disk_leaves_nothing(run: Run) -> None:
    with exporting_with(FullDiskFormat):
        refused(run("export", "runs/plain", "dense"), "exports/plain-dense-hf", "No space left on device", "--output")
    assert nothing_is_left()


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(place.shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    refused(run("export", "runs/plain", "dense"), "needs", "1.00", "free")
    assert not Path("exports").exists()


@pytest.mark.parametrize(
    ("writer", "words"),
    [(WrongFormat, "is not the network that was measured"), (UnreadableFormat, "is not the network")],
)
def test_an_export_that_is_not_what_was_measured_fails_loudly_and_is_removed(
    run: Run, writer: type[WrongFormat], words: str
) -> None:
    with exporting_with(writer):
        refused(run("export", "runs/plain", "dense"), words)
        assert nothing_is_left()
        assert run("export", "runs/plain", "dense", "--no-verify").code == 0


WITHOUT = """
import sys
from services.cli.main import main

for package, run, network in (("huggingface_hub", "plain", "dense"), ("gguf", "plain", "dense"),
                              ("bitsandbytes", "served", "N5")):
    sys.modules[package] = None
    sys.argv[1:] = ["export", f"runs/{run}", network, "--no-verify"]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
    del sys.modules[package]
"""


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], env=environment(), capture_output=True, text=True, check=False
    )
    packages = ("huggingface_hub", "gguf", "bitsandbytes")
    told = [f"nasfarm: {package} isn't installed here: pip install 'nasfarm[models]'\n2\n" for package in packages]
    assert done.stderr == "".join(told)
    assert nothing_is_left()


def test_where_verification_takes_long_it_is_left_out_unless_it_is_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = "services.application.export.export_network.verification_seconds"
    monkeypatch.setattr(seconds, lambda *_: 600.0)
    ended = run("export", "runs/plain", "dense")
    assert ended.code == 0 and "about 10 minutes; --verify does it" in ended.output
    assert "Verified" not in ended.output
    assert json.loads(Path("exports/plain-dense-hf/export.json").read_text())["verified"] is None
    assert "Verified" in run("export", "runs/plain", "dense", "--verify", "--force").output


def test_where_there_is_too_little_memory_for_it_nothing_is_verified_and_one_line_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLaMA2-7B takes 54 GB in float32, here and in transformers: the command would be killed."""
    monkeypatch.setattr(
        "services.application.export.export_network.host_memory", lambda: Memory(total=10**6, free=10**5)
    )
    ended = run("export", "runs/plain", "dense")
    (line,) = [line for line in ended.output.splitlines() if line.startswith("Verification")]
    assert ended.code == 0 and re.search(r"none: it takes [\d.]+\s[kM]B of memory, and 100\skB are free$", line)
    assert json.loads(Path("exports/plain-dense-hf/export.json").read_text())["verified"] is None
    refused(run("export", "runs/plain", "dense", "--verify", "-o", "other"), "--verify: it takes", "are free; leave it")
    assert not Path("other").exists()


@pytest.mark.usefixtures("without_data")
def test_without_the_tasks_data_a_fixed_text_is_compared_and_it_says_so(run: Run) -> None:
    ended = run("export", "runs/plain", "dense")
    assert ended.code == 0, ended
    (told,) = [line for line in ended.output.splitlines() if line.startswith("Verified")]
    assert "on a fixed text, " in told and "items" not in told
    assert "as the report items can't be had: tasks.plain_facts: the data are on another machine" in ended.output
    with exporting_with(WrongFormat):
        refused(run("export", "runs/plain", "dense", "-o", "wrong"), "is not the network that was measured")


def test_what_goes_to_the_hub_is_the_whole_export_and_where_the_hub_refuses_nothing_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(run("export", "runs/plain", "dense", "--push", "no name"), "--push 'no name': not a repository's name")
    assert nothing_is_left()
    pushed: list[tuple[Path, str, bool]] = []

    def push(directory: Path, repository: str, force: bool) -> Pushed:
        assert (directory / "README.md").is_file() and (directory / "export.json").is_file()
        pushed.append((directory, repository, force))
        return Pushed("https://hub/me/N1", private=True)

    monkeypatch.setattr(export_network, "require_pushable", lambda *_: None)
    monkeypatch.setattr(export_network, "push", push)
    ended = run("export", "runs/plain", "dense", "--push", "me/N1", "--no-verify")
    assert ended.code == 0 and "https://hub/me/N1, which only you see" in ended.output, ended
    assert pushed == [(Path("exports/plain-dense-hf").resolve(), "me/N1", False)]
    assert "me/N1" in Path("exports/plain-dense-hf/README.md").read_text()


def test_formats_that_can_not_be_loaded_here_say_that_they_were_not_verified(run: Run) -> None:
    ended = run("export", "runs/plain", "dense", "--to", "vllm")
    assert ended.code == 0 and "none: vLLM, which loads the export, needs a GPU" in ended.output
    assert Path("exports/plain-dense-vllm/config.json").is_file()


def test_zeros_in_int8_are_not_what_was_measured_even_where_there_are_no_items(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise UserError("no data")

    monkeypatch.setattr(report_items, "load_items", missing)
    with exporting_with(EmptyFormat):
        refused(run("export", "runs/served", "N5"), "is not the network that was measured")
    assert nothing_is_left()


def test_the_base_s_card_gives_its_license_and_way_to_the_network_s_own(run: Run) -> None:
    (Path("runs/plain/supernet") / "README.md").write_text("---\nlicense: mit\n---\n\n# The base's own words\n")
    ended = run("export", "runs/plain", "dense", "--no-verify", "-o", "out")
    assert ended.code == 0, ended
    card = Path("out/README.md").read_text()
    assert "license: mit" in card and "# plain-dense" in card and "own words" not in card
