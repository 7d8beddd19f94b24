import errno
import gc
import threading
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from services.evaluator import evaluator as module
from services.evaluator import scoring
from services.evaluator.batch_size import MOST_TOKENS
from services.evaluator.cost_tables import REPEATS, SWEEPS
from services.evaluator.evaluator import Evaluator
from services.evaluator.host_lock import HostLock
from services.evaluator.locations import AllowedLocations
from services.evaluator.placement import to_device
from shared.architecture import Architecture
from shared.environment import Environment
from shared.identity import INT8_VERSION
from shared.messages import (
    CheckpointRef,
    CostSpec,
    EvaluationRequest,
    EvaluationResult,
    EvaluationSpec,
    Failure,
    FailureKind,
    Measurement,
    Speed,
    SpeedSpec,
    TaskItems,
    Workload,
)
from shared.supernet.checkpoint import Checkpoint
from tests.support.checkpoints import WIDTH, write_checkpoint
from tests.support.content import digest_of

WORKLOAD = Workload(batch=2, prompt_tokens=5, generated_tokens=3)
SUBNET = Architecture(layers=(0, 2, 3), mlp_widths=(WIDTH, 6, 12))
FACTS = TaskItems(task="plain_facts", split="test", stop=12)
EVERYTHING = EvaluationSpec(
    tasks=(FACTS,),
    dtype="float32",
    speed=SpeedSpec(engine="torch", workload=WORKLOAD, repeats=4),
    costs=CostSpec(engine="torch", workload=WORKLOAD, mlp_widths=(WIDTH, 6)),
)


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    return Evaluator(Environment(data=None, cache=tmp_path / "cache", threads=1))


def request_of(
    directory: Path, spec: EvaluationSpec = EVERYTHING, architecture: Architecture = SUBNET, **changes: str
) -> EvaluationRequest:
    if not directory.exists():
        write_checkpoint(directory, "llama-grouped-tied")
    reference = {"location": str(directory), "digest": digest_of(directory), **changes}
    return EvaluationRequest(
        search="test",
        checkpoint=CheckpointRef(**reference),
        architecture=architecture,
        spec=spec.computing(architecture),
    )


def measured(result: EvaluationResult) -> Measurement:
    assert isinstance(result.outcome, Measurement), result.outcome
    return result.outcome


def failed(result: EvaluationResult, kind: FailureKind) -> str:
    assert isinstance(result.outcome, Failure)
    assert result.outcome.kind == kind
    return result.outcome.reason


def test_all_that_can_be_asked_for_is_measured_at_once(evaluator: Evaluator, tmp_path: Path) -> None:
    result = evaluator.evaluate(request_of(tmp_path / "model"))
    assert EvaluationResult.model_validate_json(result.model_dump_json()) == result
    measurement = measured(result)
    assert measurement.bytes == 4 * measurement.parameters
    assert len(measurement.scores[0].items) == 12 and measurement.tokens > 0
    speed, (costs,) = measurement.speed, measurement.costs
    assert speed is not None and speed.engine_version == torch.__version__ and speed.workload == WORKLOAD
    assert len(speed.prefill_tokens_per_second) == len(speed.decode_tokens_per_second) == 4
    assert costs.workload == WORKLOAD and set(costs.decode.mlp) == {WIDTH, 6}
    assert set(measurement.seconds) == {"prepare", "cut", "score", "speed", "costs"}
    assert set(measurement.versions) == {"torch", "transformers", "lm_eval", "bitsandbytes", "nasfarm", "device"}


def test_an_evaluation_says_at_each_step_that_it_gets_on(evaluator: Evaluator, tmp_path: Path) -> None:
    steps: list[str] = []

    def steps_of(spec: EvaluationSpec) -> int:
        steps.clear()
        measured(evaluator.evaluate(request_of(tmp_path / "model", spec), lambda: steps.append("")))
        return len(steps)

    scored = steps_of(EVERYTHING.model_copy(update={"speed": None, "costs": None}))
    assert scored >= 4  # the task and the checkpoint are prepared, the network is cut, a wave is scored
    warming = 1
    assert steps_of(EVERYTHING.model_copy(update={"costs": None})) == scored + warming + 4
    networks, repeats = 2 * 2, REPEATS
    assert steps_of(EVERYTHING) >= scored + warming + 4 + SWEEPS * networks * (warming + repeats)


def test_what_isnt_asked_for_isnt_measured(evaluator: Evaluator, tmp_path: Path) -> None:
    only_speed = EVERYTHING.model_copy(update={"tasks": (), "costs": None})
    measurement = measured(evaluator.evaluate(request_of(tmp_path / "model", only_speed)))
    assert measurement.scores == () and measurement.costs == () and measurement.speed is not None
    assert set(measurement.seconds) == {"prepare", "speed"}


def test_networks_that_are_compared_are_timed_in_one_go_and_one_that_cant_be_run_says_why(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    others = (SUBNET.quantized("int8"), Architecture(layers=(0, 99), mlp_widths=(WIDTH, 6)), SUBNET)
    speed = SpeedSpec(engine="torch", workload=WORKLOAD, repeats=2, networks=others)
    request = request_of(tmp_path / "model", EvaluationSpec(dtype="float32", speed=speed))
    assert request.spec.int8_version == INT8_VERSION
    result = evaluator.evaluate(request)
    assert EvaluationResult.model_validate_json(result.model_dump_json()) == result
    measurement = measured(result)
    small, impossible, again = measurement.speeds
    assert isinstance(impossible, Failure) and "layers: 99" in impossible.reason
    for each in (measurement.speed, small, again):
        assert isinstance(each, Speed) and len(each.decode_tokens_per_second) == 2
        assert each.device == measurement.versions["device"]


def test_a_farm_s_evaluator_runs_no_code_of_a_task_that_a_request_names_by_file(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n\n\ndef text(doc):\n    return ''\n")
    (tmp_path / "mine.yaml").write_text("task: mine\ndataset_path: json\ndoc_to_text: !function code.text\n")
    items = TaskItems(task=str(tmp_path / "mine.yaml"), stop=1)
    farms = Evaluator(Environment(data=None, cache=tmp_path / "cache", threads=1), task_files=False)
    result = farms.evaluate(request_of(tmp_path / "model", EvaluationSpec(tasks=(items,), dtype="float32")))
    assert "evaluators of a farm read no tasks from files" in failed(result, "bad_request")
    assert not (tmp_path / "ran").exists()


def test_a_farm_s_evaluator_opens_no_checkpoint_but_what_it_was_started_for(tmp_path: Path) -> None:
    network, other = request_of(tmp_path / "nets" / "one"), request_of(tmp_path / "other")

    def started(locations: AllowedLocations) -> Evaluator:
        environment = Environment(data=None, cache=tmp_path / "cache", threads=1)
        return Evaluator(environment, task_files=False, locations=locations)

    measured(started(AllowedLocations([str(tmp_path / "nets")], {})).evaluate(network))
    refusing = started(AllowedLocations([str(tmp_path / "another")], {}))
    reason = failed(refusing.evaluate(other), "unavailable")
    assert reason.startswith(f"{tmp_path}/other: this evaluator may open no checkpoint there")
    measured(started(AllowedLocations([], {other.checkpoint.digest: str(tmp_path / "other")})).evaluate(network))
    misled = started(AllowedLocations([], {other.checkpoint.digest: str(tmp_path / "moved")}))
    reason = failed(misled.evaluate(other), "unavailable")
    assert f"{tmp_path}/moved" in reason and reason.endswith(
        f"or allow {tmp_path}/other, which the request names, by NASFARM_LOCATIONS"
    )


@pytest.mark.parametrize("name", ["a\0b", "circle", "n" * 5000])
def test_a_location_that_can_be_no_directory_is_answered_with_a_failure(name: str, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    request = request_of(tmp_path / "model")
    reference = request.checkpoint.model_copy(update={"location": f"{tmp_path}/{name}"})
    for locations in (None, AllowedLocations([str(tmp_path)], {})):
        environment = Environment(data=None, cache=tmp_path / "cache", threads=1)
        answering = Evaluator(environment, task_files=False, locations=locations)
        failed(answering.evaluate(request.model_copy(update={"checkpoint": reference})), "unavailable")


def test_a_checkpoint_whose_files_can_not_be_read_is_answered_with_a_failure(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    request = request_of(tmp_path / "model")
    monkeypatch.setattr(module.FileDigests, "content", refuse)
    reason = failed(evaluator.evaluate(request), "unavailable")
    assert reason == f"{tmp_path}/model: can't be read (Permission denied); check its files"


def test_speed_is_measured_alone_on_the_machine_and_accuracy_beside_others(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    timed = request_of(tmp_path / "model", EVERYTHING.model_copy(update={"tasks": (), "costs": None}))
    scored = request_of(tmp_path / "model", EvaluationSpec(tasks=(FACTS,), dtype="float32"))
    host, released = HostLock(tmp_path / "cache" / "gpus"), threading.Event()
    waited: list[int] = []
    steps: list[int] = []

    def wait() -> None:
        waited.append(len(steps))
        released.set()

    with host.shared(lambda: None):
        measured(evaluator.evaluate(scored))
        thread = threading.Thread(target=lambda: measured(evaluator.evaluate(timed, lambda: steps.append(1), wait)))
        thread.start()
        assert released.wait(60)  # it tells that it waits
    thread.join(60)
    assert not thread.is_alive()
    assert set(waited) == {0} and steps  # to wait is no step

    told: list[int] = []
    released.clear()

    def tell() -> None:
        told.append(1)
        released.set()

    with host.shared(lambda: None):
        thread = threading.Thread(target=lambda: measured(evaluator.evaluate(timed, tell)))
        thread.start()
        assert released.wait(60)  # who tells the two apart by nothing is told of both
    thread.join(60)
    assert len(told) > len(steps)


def test_int8_works_on_a_checkpoint_of_float32(evaluator: Evaluator, tmp_path: Path) -> None:
    plain = measured(evaluator.evaluate(request_of(tmp_path / "model")))
    small = measured(evaluator.evaluate(request_of(tmp_path / "model", architecture=SUBNET.quantized("int8"))))
    assert small.parameters == plain.parameters and small.bytes < plain.bytes
    assert small.scores[0].margins != plain.scores[0].margins


def test_one_converted_copy_of_a_checkpoint_is_held_at_most(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[Checkpoint]] = []

    def noted(*arguments: Any) -> Checkpoint:
        checkpoint = to_device(*arguments)
        made.append(weakref.ref(checkpoint))
        return checkpoint

    monkeypatch.setattr(module, "to_device", noted)
    write_checkpoint(tmp_path / "other", "llama", seed=1)
    spec = EvaluationSpec(tasks=(FACTS,), dtype="bfloat16")
    first, second = request_of(tmp_path / "model", spec), request_of(tmp_path / "other", spec)
    scores = []
    for request in (first, first, second, first):
        scores.append(measured(evaluator.evaluate(request)).scores)
        gc.collect()
        assert sum(checkpoint() is not None for checkpoint in made) == 1
    assert scores[0] == scores[1] == scores[3] != scores[2]
    assert len(made) == 3


def test_tasks_are_in_batches_of_as_many_tokens_as_the_placed_weights_leave_room_for(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(tmp_path / "model", EvaluationSpec(tasks=(FACTS,), dtype="float32"))
    before = measured(evaluator.evaluate(request))
    assert evaluator.prepared(request.checkpoint, FACTS).batch_tokens == MOST_TOKENS["cpu"]
    monkeypatch.setattr(module, "batch_tokens", lambda network, dtype, device: 128)
    evaluator.release()
    after = measured(evaluator.evaluate(request))
    task = evaluator.prepared(request.checkpoint, FACTS)
    assert task.batch_tokens == 128 and evaluator.prepared(request.checkpoint, FACTS) is task
    assert after.scores[0].margins == pytest.approx(before.scores[0].margins, abs=1e-4)


def test_a_request_for_nothing_is_a_bad_one(evaluator: Evaluator, tmp_path: Path) -> None:
    result = evaluator.evaluate(request_of(tmp_path / "model", EvaluationSpec(dtype="float32")))
    assert "nothing" in failed(result, "bad_request")


def test_a_network_that_the_checkpoint_doesnt_hold_is_infeasible_everywhere(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    for architecture in (
        Architecture(layers=(9,), mlp_widths=(1,)),
        Architecture(layers=(0,), mlp_widths=(WIDTH + 1,)),
    ):
        result = evaluator.evaluate(request_of(tmp_path / "model", architecture=architecture))
        assert "model" in failed(result, "infeasible")


def test_a_checkpoint_that_is_missing_or_another_may_be_right_elsewhere(evaluator: Evaluator, tmp_path: Path) -> None:
    missing = evaluator.evaluate(request_of(tmp_path / "model", location=str(tmp_path / "nowhere")))
    assert "nowhere" in failed(missing, "unavailable")
    other = evaluator.evaluate(request_of(tmp_path / "model", digest="of another"))
    assert "digest differs" in failed(other, "unavailable")


def test_a_checkpoint_at_a_url_is_fetched_and_measured_like_one_in_a_directory(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    spec = EvaluationSpec(tasks=(FACTS,), dtype="float32")
    request = request_of(tmp_path / "model", spec)
    there = measured(evaluator.evaluate(request_of(tmp_path / "model", spec, location=f"file://{tmp_path}/model")))
    assert (tmp_path / "cache" / "checkpoints" / request.checkpoint.digest).is_dir()
    here = measured(Evaluator(Environment(data=None, cache=tmp_path / "other", threads=1)).evaluate(request))
    assert not (tmp_path / "other" / "checkpoints").exists()
    assert there.scores == here.scores


def test_a_task_that_doesnt_exist_is_a_bad_request(evaluator: Evaluator, tmp_path: Path) -> None:
    spec = EvaluationSpec(tasks=(TaskItems(task="no_such_task", stop=1),), dtype="float32")
    reason = failed(evaluator.evaluate(request_of(tmp_path / "model", spec)), "bad_request")
    assert "no_such_task" in reason


def test_scores_that_are_no_numbers_are_no_measurement(evaluator: Evaluator, tmp_path: Path) -> None:
    model = write_checkpoint(tmp_path / "model", "llama")
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "model")
    spec = EvaluationSpec(tasks=(FACTS,), dtype="float32")
    result = evaluator.evaluate(request_of(tmp_path / "model", spec))
    assert "finite" in failed(result, "infeasible")


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_an_engine_that_isnt_installed_here_may_be_elsewhere(evaluator: Evaluator, tmp_path: Path) -> None:
    spec = EvaluationSpec(dtype="float32", speed=SpeedSpec(engine="vllm", workload=WORKLOAD))
    reason = failed(evaluator.evaluate(request_of(tmp_path / "model", spec)), "unsupported")
    assert "pip install 'nasfarm[vllm]'" in reason


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore words."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: 2 GB"),
        MemoryError(),
    ],
)
def test_a_machine_that_is_too_small_says_so(
    evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*_: object) -> None:
        raise error

    monkeypatch.setattr(scoring, "_score", exhausted)  # at the first try and at the second, of half the size
    result = evaluator.evaluate(request_of(tmp_path / "model"))
    assert "\n" not in failed(result, "out_of_memory")


def test_a_bug_is_no_failure(evaluator: Evaluator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "score_together", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        evaluator.evaluate(request_of(tmp_path / "model"))
