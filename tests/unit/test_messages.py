"""What crosses the queue."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from shared.architecture import Architecture
from shared.digest import digest_json
from shared.failure_policy import FAILURES
from shared.messages import (
    MOST_TOGETHER,
    CheckpointRef,
    CoordinatorMessage,
    CostTable,
    EvaluationRequest,
    EvaluationResult,
    EvaluationSpec,
    EvaluatorMessage,
    Failure,
    FailureKind,
    ItemScores,
    JointRequest,
    Measurement,
    PhaseCosts,
    Speed,
    StopSearch,
    TaskItems,
    Workload,
    correct,
)

words = st.text(min_size=1, max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**53)


@st.composite
def requests(draw: st.DrawFn) -> EvaluationRequest:
    layers = sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=3)))
    tasks = draw(
        st.lists(
            st.builds(
                TaskItems,
                task=words,
                num_fewshot=st.none() | st.integers(0, 5),
                split=st.none() | words,
                start=st.integers(0, 5),
                stop=st.integers(1, 9),
                apply_chat_template=st.booleans() | words,
                fewshot_as_multiturn=st.booleans(),
                limit=st.none() | st.integers(1, 9),
            ),
            max_size=2,
        )
    )
    return EvaluationRequest(
        search=draw(words),
        checkpoint=CheckpointRef(location=draw(words), digest=draw(words)),
        architecture=Architecture(layers=tuple(layers), mlp_widths=tuple(draw(st.integers(1, 9)) for _ in layers)),
        spec=EvaluationSpec(tasks=tuple(tasks), dtype=draw(st.sampled_from(["float32", "bfloat16"]))),
    )


@st.composite
def item_scores(draw: st.DrawFn) -> ItemScores:
    items = draw(st.lists(st.integers(0, 999), max_size=4))
    some = st.lists(numbers, min_size=len(items), max_size=len(items)).map(tuple)
    return ItemScores(
        task=draw(words),
        items=tuple(items),
        items_digest=draw(words),
        metrics=draw(st.dictionaries(words, some, max_size=2)),
        values=draw(st.dictionaries(words, numbers, max_size=2)),
        margins=draw(some),
        margins_by_metric=draw(st.dictionaries(words, some, max_size=1)),
        clusters=draw(st.sampled_from([(), tuple(range(len(items)))])),
        even=draw(st.lists(words, max_size=2).map(tuple)),
    )


repeats = st.lists(numbers, max_size=3).map(tuple)
workloads = st.builds(Workload, batch=st.integers(1, 9), prompt_tokens=st.integers(1, 9), generated_tokens=st.just(3))
dtypes = st.sampled_from(["float32", "bfloat16"])
speeds = st.builds(
    Speed,
    engine=st.sampled_from(["torch", "vllm"]),
    engine_version=words,
    device=words,
    dtype=dtypes,
    workload=workloads,
    prefill_tokens_per_second=repeats,
    decode_tokens_per_second=repeats,
)
phases = st.builds(
    PhaseCosts, fixed=numbers, attention=numbers, mlp=st.dictionaries(st.integers(1, 99), numbers, max_size=3)
)
tables = st.builds(
    CostTable,
    quantization=st.sampled_from(["none", "int8"]),
    engine=st.just("torch"),
    engine_version=words,
    device=words,
    dtype=dtypes,
    workload=workloads,
    prefill=phases,
    decode=phases,
)
measurements = st.builds(
    Measurement,
    parameters=counts,
    bytes=counts,
    speed=st.none() | speeds,
    speeds=st.lists(speeds | st.builds(Failure), max_size=2).map(tuple),
    costs=st.lists(tables, max_size=2).map(tuple),
    scores=st.lists(item_scores(), max_size=2).map(tuple),
    seconds=st.dictionaries(words, numbers, max_size=2),
    tokens=counts,
    worker=words,
    versions=st.dictionaries(words, words, max_size=2),
)
failures = st.builds(Failure)
stops = st.builds(StopSearch, search=words)
MESSAGE: TypeAdapter[EvaluationResult | StopSearch] = TypeAdapter(CoordinatorMessage)
results = st.builds(
    EvaluationResult, identity=words, search=words, outcome=measurements | failures, together=st.integers(1, 8)
)
ASKED: TypeAdapter[EvaluationRequest | JointRequest] = TypeAdapter(EvaluatorMessage)


@given(requests())
def test_a_request_survives_json(request_: EvaluationRequest) -> None:
    restored = EvaluationRequest.model_validate_json(request_.model_dump_json())
    assert restored == request_
    assert restored.identity == request_.identity


@given(requests(), st.integers(2, MOST_TOGETHER))
def test_requests_that_are_sent_together_are_the_same_when_they_arrive(first: EvaluationRequest, number: int) -> None:
    networks = [Architecture(layers=(layer,), mlp_widths=(7,)) for layer in range(number)]
    sent = [first.model_copy(update={"architecture": network}) for network in networks]
    arrived = ASKED.validate_json(JointRequest.of(sent).model_dump_json())
    assert isinstance(arrived, JointRequest) and list(arrived.each) == sent
    assert len({request.identity for request in arrived.each}) == number
    assert ASKED.validate_json(first.model_dump_json()) == first


@given(results)
def test_a_result_survives_json_to_the_last_bit(result: EvaluationResult) -> None:
    assert EvaluationResult.model_validate_json(result.model_dump_json()) == result


@given(results | stops)
def test_what_a_coordinator_receives_is_told_apart_by_its_kind(message: EvaluationResult | StopSearch) -> None:
    assert MESSAGE.validate_json(message.model_dump_json()) == message
    assert MESSAGE.validate_python(message.model_dump() | {"kind": message.kind}) == message


def as_of_version_2(content: Any) -> Any:
    """JSON values as the release before wrote them: without `kind`, but in failures."""
    if isinstance(content, list):
        return [as_of_version_2(each) for each in content]
    if not isinstance(content, dict):
        return content
    failure = "reason" in content and "kind" in content
    former = {name: as_of_version_2(each) for name, each in content.items() if failure or name != "kind"}
    if "version" in former:
        former["version"] = 2
    if failure:
        former["kind"], former["retry_may_help"] = FORMER.get(former["kind"], (former["kind"], True))
    return former


FORMER = {
    "unsupported": ("infeasible", True),
    "unavailable": ("bad_request", True),
    "dead_lettered": ("crashed", False),
}
FORMER |= {kind: (kind, False) for kind in ("infeasible", "bad_request", "timed_out")}


@given(results)
def test_a_result_of_the_release_before_is_read_with_its_kinds_of_today(result: EvaluationResult) -> None:
    former = as_of_version_2(json.loads(result.model_dump_json()))
    assert "kind" not in former
    read = MESSAGE.validate_json(json.dumps(former))
    assert read == result.model_copy(update={"version": 2})
    if isinstance(result.outcome, Measurement):
        assert read == EvaluationResult.model_validate_json(json.dumps(former))


@pytest.mark.parametrize(
    ("kind", "retry_may_help", "now"),
    [
        ("out_of_memory", True, "out_of_memory"),
        ("infeasible", False, "infeasible"),
        ("infeasible", True, "unsupported"),
        ("bad_request", False, "bad_request"),
        ("bad_request", True, "unavailable"),
        ("crashed", True, "crashed"),
        ("crashed", False, "dead_lettered"),
        ("timed_out", False, "timed_out"),
        ("invalid_result", True, "invalid_result"),
    ],
)
def test_a_failure_of_earlier_releases_has_the_kind_that_says_what_it_meant(
    kind: str, retry_may_help: bool, now: FailureKind
) -> None:
    former = {"kind": kind, "reason": "r", "retry_may_help": retry_may_help}
    outcome = EvaluationResult.model_validate({"version": 1, "identity": "i", "search": "s", "outcome": former}).outcome
    assert outcome == Failure(kind=now, reason="r")
    # As it was decided before: tried again in the run, and by the next one.
    assert FAILURES[now].retried == retry_may_help
    assert FAILURES[now].lasting == (not retry_may_help and kind in ("infeasible", "bad_request"))
    assert FAILURES[now].ends_search == (kind == "bad_request")
    assert FAILURES[now].backs_off == (retry_may_help and kind != "invalid_result")  # which no evaluator says


def test_a_request_to_stop_is_one_that_the_release_before_understands_and_the_other_way_round() -> None:
    former = b'{"stop":true,"version":1,"search":"s"}'
    assert StopSearch(search="s").model_dump_json().encode() == former
    assert MESSAGE.validate_json(former) == StopSearch(search="s")


@pytest.mark.parametrize(
    "outcome",
    [
        {"kind": "infeasible", "reason": "r", "retry_may_help": "yes"},
        {"kind": ["crashed"], "reason": "r", "retry_may_help": True},
        {"kind": "unlucky", "reason": "r", "retry_may_help": True},
        {"kind": "measurement", "reason": "r"},
        {"kind": "speed"},
        {"retry_may_help": True},
        [],
        None,
    ],
)
def test_an_outcome_of_no_known_kind_is_refused(outcome: object) -> None:
    with pytest.raises(ValidationError):
        EvaluationResult.model_validate({"identity": "i", "search": "s", "outcome": outcome})


@given(requests(), words, words)
def test_the_identity_does_not_depend_on_who_asks_or_where_the_checkpoint_lies(
    request_: EvaluationRequest, search: str, location: str
) -> None:
    checkpoint = CheckpointRef(location=location, digest=request_.checkpoint.digest)
    other = request_.model_copy(update={"search": search, "checkpoint": checkpoint})
    assert EvaluationRequest.model_validate(other.model_dump()).identity == request_.identity


def _request(**changes: Any) -> EvaluationRequest:
    values: dict[str, Any] = {
        "search": "s",
        "checkpoint": {"location": "/x", "digest": "d"},
        "architecture": {"layers": (0, 1), "mlp_widths": (8, 4)},
        "spec": {"tasks": ({"task": "arc_easy", "stop": 10},), "dtype": "float32"},
    }
    return EvaluationRequest.model_validate({**values, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpoint": {"location": "/x", "digest": "e"}},
        {"architecture": {"layers": (0, 1), "mlp_widths": (4, 8)}},
        {"architecture": {"layers": (0, 2), "mlp_widths": (8, 4)}},
        {"spec": {"tasks": ({"task": "arc_easy", "stop": 10},), "dtype": "bfloat16"}},
        {"spec": {"tasks": ({"task": "arc_easy", "stop": 11},), "dtype": "float32"}},
        {"spec": {"tasks": ({"task": "arc_easy", "stop": 10, "start": 1},), "dtype": "float32"}},
        {"spec": {"tasks": ({"task": "arc_easy", "stop": 10, "split": "test"},), "dtype": "float32"}},
        {"spec": {"tasks": ({"task": "arc_easy", "stop": 10, "num_fewshot": 0},), "dtype": "float32"}},
        {"spec": {"tasks": ({"task": "winogrande", "stop": 10},), "dtype": "float32"}},
    ],
)
def test_whatever_changes_the_answer_changes_the_identity(changes: dict[str, Any]) -> None:
    assert _request(**changes).identity != _request().identity


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 6},
        {"kind": "result"},
        {"extra": 1},
        {"spec": {"tasks": (), "dtype": "float16"}},
        {"spec": {"tasks": ({"task": "arc_easy", "stop": 0},), "dtype": "float32"}},
        {"architecture": {"layers": (1, 0), "mlp_widths": (8, 4)}},
    ],
)
def test_a_message_of_another_kind_or_version_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _request(**changes)


def test_an_outcome_must_be_a_measurement_or_a_failure() -> None:
    with pytest.raises(ValidationError):
        EvaluationResult.model_validate({"identity": "i", "search": "s", "outcome": {"reason": "none"}})


def test_scores_of_earlier_releases_load() -> None:
    scores = ItemScores.model_validate_json(
        '{"task":"t","items":[3],"items_digest":"d","metrics":{"acc":[1.0]},"values":{"acc":1.0},"margins":[]}'
    )
    assert (scores.clusters, scores.even) == ((), ())


def test_the_items_of_several_tasks_follow_one_another_each_with_its_own_metric() -> None:
    scores = [
        ItemScores(
            task=name,
            items=(0, 1),
            items_digest="d",
            metrics={"acc": first, "acc_norm": second},
            values={"acc": sum(first) / 2, "acc_norm": sum(second) / 2},
            margins=(0.0, 0.0),
        )
        for name, first, second in [("a", (1.0, 0.0), (0.0, 0.0)), ("b", (0.0, 0.0), (0.0, 1.0))]
    ]
    assert correct(scores, ["acc", "acc_norm"]) == [1.0, 0.0, 0.0, 1.0]
    with pytest.raises(ValueError, match="argument"):
        correct(scores, ["acc"])


def test_the_time_of_a_network_is_the_sum_of_its_parts() -> None:
    costs = PhaseCosts(fixed=1.0, attention=0.5, mlp={8: 2.0, 4: 0.25})
    assert costs.seconds(Architecture(layers=(0, 2, 3), mlp_widths=(8, 4, 8))) == 1.0 + 3 * 0.5 + 2.0 + 0.25 + 2.0
    with pytest.raises(KeyError):
        costs.seconds(Architecture(layers=(0,), mlp_widths=(6,)))


def test_a_quantised_network_is_another_one_and_an_unquantised_one_has_the_digest_it_always_had() -> None:
    plain = Architecture(layers=(0, 1), mlp_widths=(4, 8))
    assert plain.quantized("int8").digest != plain.digest == plain.quantized("int8").quantized("none").digest
    assert plain.digest == digest_json({"layers": [0, 1], "mlp_widths": [4, 8]})
