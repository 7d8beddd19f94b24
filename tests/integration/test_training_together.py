"""Several processes that train together do what one does, and one of them may be killed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from services.trainer import training_state
from services.trainer.fine_tuning import StepReport
from shared.manifest import SupernetManifest
from shared.supernet.device import preferred_dtype
from tests.support.checkpoints import LAYERS
from tests.support.data import ROOT
from tests.support.tiny_training import run, tiny_plan, train_in

STEPS, KILLED_AT = 6, 4
# Where gradients are next to nothing, AdamW makes steps of float noise: the smaller they are, the less that matters.
USUAL: dict[str, Any] = {"steps": STEPS, "learning_rate": 1e-4, "warmup_steps": 0}
SAVING = {**USUAL, "checkpoint_every_seconds": 1e-6}
EACH = {**USUAL, "subnets_per_step": 3, "refit": True}
LEVERS = {"sampling": "stratified", "distillation": "full"}
TAUGHT = {**EACH, **LEVERS}
ALONE = {**LEVERS, "distillation": "all", "full_every": 3}
LEAN = {memory: {**USUAL, **ALONE, "memory": memory} for memory in ("lean", "leanest")}
SAVING_LEAN = {**LEAN["lean"], **SAVING}
SAVING_LEANEST = {**LEAN["leanest"], **SAVING}
UNDIVIDED = {**USUAL, "steps": 0}
ORDERED = {**USUAL, "steps": 2, "importance_on": "responses", "space": {"depth_rule": ["divergence", "first"]}}
TWO = {"two": USUAL, "two-each": EACH, "two-ordered": ORDERED}
NOISE = 2e-5 if preferred_dtype() == "float32" else 2e-2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[list[int]]]]:
    """A directory of fine-tunings, by one process and by several, and the exit codes of each group of the latter, by
    number of the process in the order in which they ended."""
    directory = tmp_path_factory.mktemp("together")
    run(directory, "one", **USUAL)
    run(directory, "one-each", **EACH)
    run(directory, "one-taught", **TAUGHT)
    run(directory, "one-undivided", **UNDIVIDED)
    run(directory, "one-ordered", **ORDERED)
    for recipe, training in LEAN.items():
        run(directory, f"one-{recipe}", **training)
    interrupted_alone(directory)
    groups = [
        {"size": 2, "runs": {**TWO, **{f"two-{recipe}": LEAN[recipe] for recipe in LEAN}}},
        {"size": 2, "runs": {"killed": SAVING}, "killed_at": KILLED_AT, "copied": {"killed": "to-one"}},
        {"size": 2, "runs": {"killed": SAVING}},
        {"size": 2, "runs": {"killed-lean": SAVING_LEAN}, "killed_at": KILLED_AT},
        {"size": 2, "runs": {"killed-lean": SAVING_LEAN}},
        {"size": 3, "runs": {"three-each": EACH, "three-taught": TAUGHT, "from-one": SAVING}},
        {"size": 2, "runs": {"spoiled": SAVING_LEANEST}, "spoiled_at": KILLED_AT},
        {"size": 2, "runs": {"spoiled": SAVING_LEANEST}},
        {"size": 2, "runs": {"refused": USUAL}, "refused_at": 0},
        {"size": 2, "runs": {"two-undivided": UNDIVIDED}, "undivided": True},
    ]
    program = [sys.executable, "-m", "tests.support.tiny_training_together", str(directory), json.dumps(groups)]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=ROOT, timeout=550, check=False)
    assert ended.returncode == 0, ended.stderr
    run(directory, "to-one", **SAVING)
    return directory, json.loads(ended.stdout)


def interrupted_alone(directory: Path) -> None:
    """A fine-tuning by one process that ends after KILLED_AT steps, with its state."""

    def ends(report: StepReport) -> None:
        if report.step == KILLED_AT + 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(training_state, "WAITING_SHARE", 1.0)
        with pytest.raises(KeyboardInterrupt):
            train_in(directory / "from-one", tiny_plan(directory, **SAVING), ends)


def log_of(directory: Path) -> list[dict[str, Any]]:
    """What was logged of each step last."""
    lines = (directory / "supernet" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    return list({line["step"]: line for line in map(json.loads, lines)}.values())


@pytest.mark.parametrize("several", ["two", "killed", "from-one", "to-one", "two-each", "three-each", "three-taught"])
def test_losses_and_gradients_are_those_of_one_process(trained: tuple[Path, Any], several: str) -> None:
    kind = several.partition("-")[2]
    expected = log_of(trained[0] / (f"one-{kind}" if kind in ("each", "taught") else "one"))
    found = log_of(trained[0] / several)
    assert [(line["step"], line["network"], line["tokens"]) for line in found] == [
        (line["step"], line["network"], line["tokens"]) for line in expected
    ]
    for name, noise in (("loss", NOISE), ("gradient_norm", 50 * NOISE)):
        assert [line[name] for line in found] == pytest.approx([line[name] for line in expected], rel=noise)


@pytest.mark.parametrize("recipe", LEAN)
def test_so_are_those_of_lean_recipes_within_the_noise_of_bfloat16(trained: tuple[Path, Any], recipe: str) -> None:
    one, two = (log_of(trained[0] / f"{several}-{recipe}") for several in ("one", "two"))
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=5e-3)


def test_the_super_network_s_weights_are_those_of_one_process(trained: tuple[Path, Any]) -> None:
    one, two = (load_file(trained[0] / name / "supernet" / "model.safetensors") for name in ("one", "two"))
    assert list(one) == list(two)
    furthest = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert furthest < 2 * STEPS * USUAL["learning_rate"], "further than any update goes"
    moved = load_file(trained[0] / "base" / "model.safetensors")["model.norm.weight"] - one["model.norm.weight"]
    assert float((one["model.norm.weight"] - two["model.norm.weight"]).abs().max()) < 0.1 * float(moved.abs().max())


def test_more_sub_networks_in_a_step_are_another_training(trained: tuple[Path, Any]) -> None:
    one, each = (log_of(trained[0] / name) for name in ("one", "one-each"))
    assert one[0] == each[0] and one[1]["loss"] != each[1]["loss"]


def test_a_teacher_and_other_sub_networks_are_another_training_too(trained: tuple[Path, Any]) -> None:
    each, taught = (log_of(trained[0] / name) for name in ("one-each", "one-taught"))
    assert each[0] == taught[0] and each[1]["loss"] != taught[1]["loss"]


def test_the_first_process_finds_the_order_for_all(trained: tuple[Path, Any]) -> None:
    one, two = (SupernetManifest.read(trained[0] / f"{several}-ordered" / "supernet") for several in ("one", "two"))
    assert one.drop_order == two.drop_order and one.plan == two.plan
    assert len(one.drop_order) == 2
    logs = [log_of(trained[0] / f"{several}-ordered") for several in ("one", "two")]
    assert [line["loss"] for line in logs[1]] == pytest.approx([line["loss"] for line in logs[0]], rel=NOISE)


def test_the_first_process_refits_and_the_others_wait(trained: tuple[Path, Any]) -> None:
    """The weights differ by their rounding, and what is fitted to them not by much more."""
    for layer in range(LAYERS):
        one, two = (
            load_file(trained[0] / name / "supernet" / "refitted" / f"layer-{layer:03}.safetensors")
            for name in ("one-each", "two-each")
        )
        assert list(one) == list(two) != []
        assert all(float((one[name] - two[name]).abs().max()) < 0.1 * float(one[name].std()) for name in one)
    files = SupernetManifest.read(trained[0] / "two-each" / "supernet").files
    assert sum(name.startswith("refitted/") for name in files) == LAYERS


def test_a_killed_process_ends_the_others_and_the_same_number_goes_on_to_the_last_bit(
    trained: tuple[Path, list[list[list[int]]]],
) -> None:
    directory, codes = trained
    assert [dict(codes[group]) for group in (0, 2, 4)] == [{0: 0, 1: 0}] * 3 and all(not code for _, code in codes[5])
    assert codes[1] == codes[3] == [[1, -9], [0, 1]]
    for pair in (("two", "killed"), ("two-lean", "killed-lean")):
        two, killed = (directory / name / "supernet" / "model.safetensors" for name in pair)
        assert two.read_bytes() == killed.read_bytes()
    lines = (directory / "killed" / "supernet" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(STEPS)), "it didn't go on where it was killed"


def test_a_loss_that_is_not_finite_in_one_process_ends_all_before_any_weight_is_updated(
    trained: tuple[Path, list[list[list[int]]]],
) -> None:
    directory, codes = trained
    assert dict(codes[6]) == {0: 2, 1: 2} and dict(codes[7]) == {0: 0, 1: 0}
    two, spoiled = (directory / name / "supernet" / "model.safetensors" for name in ("two-leanest", "spoiled"))
    assert two.read_bytes() == spoiled.read_bytes(), "what was saved before isn't what it was"


def test_a_process_that_says_what_is_wrong_ends_before_those_that_lose_it(
    trained: tuple[Path, list[list[list[int]]]],
) -> None:
    assert trained[1][8] == [[0, 2], [1, 1]]


def test_without_steps_nothing_is_divided(trained: tuple[Path, list[list[list[int]]]]) -> None:
    directory, codes = trained
    assert dict(codes[9]) == {0: 0, 1: 0}
    one, two = (directory / name / "supernet" / "model.safetensors" for name in ("one-undivided", "two-undivided"))
    assert one.read_bytes() == two.read_bytes()
