import math
import time
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry

from shared.broker import InProcessBroker
from shared.messages import Failure, FailureKind, ItemScores, Measurement
from shared.telemetry.metrics import MINUTES, STAGES, CoordinatorMetrics, EvaluatorMetrics


def measurement(**seconds: float) -> Measurement:
    scores = ItemScores(task="t", items=(3, 1, 2), items_digest="d", metrics={}, values={}, margins=())
    return Measurement(
        parameters=1, bytes=2, scores=(scores, scores), seconds=seconds, tokens=70, worker="w", versions={}
    )


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_an_evaluator_has_every_outcome_and_stage_before_anything_happens() -> None:
    registry = EvaluatorMetrics(InProcessBroker()).registry
    for outcome in ("measurement", *get_args(FailureKind)):
        assert value(registry, "nasfarm_evaluator_evaluations_total", outcome=outcome) == 0
    for stage in STAGES:
        assert value(registry, "nasfarm_evaluator_stage_duration_seconds_count", stage=stage) == 0
    for state, expected in (("idle", 1), ("computing", 0), ("draining", 0)):
        assert value(registry, "nasfarm_evaluator_state", state=state) == expected


def test_a_measurement_counts_its_stages_items_and_tokens() -> None:
    metrics = EvaluatorMetrics(InProcessBroker())
    metrics.answered(measurement(prepare=0.5, cut=0.005, score=8.0), seconds=9.0)
    registry = metrics.registry
    assert value(registry, "nasfarm_evaluator_evaluations_total", outcome="measurement") == 1
    assert value(registry, "nasfarm_evaluator_evaluation_duration_seconds_sum") == 9
    assert value(registry, "nasfarm_evaluator_stage_duration_seconds_sum", stage="score") == 8
    assert value(registry, "nasfarm_evaluator_stage_duration_seconds_count", stage="speed") == 0
    assert value(registry, "nasfarm_evaluator_items_total") == 6
    assert value(registry, "nasfarm_evaluator_tokens_total") == 70


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_a_failure_counts_under_its_kind_and_has_a_duration(kind: FailureKind) -> None:
    metrics = EvaluatorMetrics(InProcessBroker())
    metrics.answered(Failure(kind=kind, reason="r"), seconds=6000)
    assert value(metrics.registry, "nasfarm_evaluator_evaluations_total", outcome=kind) == 1
    assert value(metrics.registry, "nasfarm_evaluator_evaluations_total", outcome="measurement") == 0
    assert value(metrics.registry, "nasfarm_evaluator_evaluation_duration_seconds_bucket", le="3600.0") == 0
    assert value(metrics.registry, "nasfarm_evaluator_evaluation_duration_seconds_bucket", le="7200.0") == 1


def test_an_evaluator_is_in_one_state() -> None:
    metrics = EvaluatorMetrics(InProcessBroker())
    for state in ("computing", "draining", "idle"):
        metrics.is_in(state)
        samples = [
            sample.labels["state"]
            for metric in metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "nasfarm_evaluator_state" and sample.value
        ]
        assert samples == [state]


def test_progress_is_a_timestamp() -> None:
    metrics = EvaluatorMetrics(InProcessBroker())
    before = time.time()
    metrics.progressed()
    progress = value(metrics.registry, "nasfarm_evaluator_progress_timestamp_seconds")
    assert progress is not None and before <= progress <= time.time()


def test_a_wait_in_the_queue_is_never_negative_and_not_counted_where_it_isn_t_known() -> None:
    metrics = EvaluatorMetrics(InProcessBroker())
    metrics.message_received(-0.3)
    metrics.message_received(None)
    metrics.message_received(40.0)
    assert value(metrics.registry, "nasfarm_evaluator_queue_wait_seconds_count") == 2
    assert value(metrics.registry, "nasfarm_evaluator_queue_wait_seconds_sum") == 40


def test_what_a_coordinator_doesn_t_know_yet_is_nan_and_not_zero() -> None:
    metrics = CoordinatorMetrics(InProcessBroker())
    unknown = (
        "nasfarm_coordinator_hypervolume",
        "nasfarm_coordinator_predictor_kendall_tau",
        "nasfarm_coordinator_predictor_mean_absolute_error",
        "nasfarm_coordinator_last_result_timestamp_seconds",
        "nasfarm_coordinator_candidates_planned",
    )
    assert all(math.isnan(value(metrics.registry, name) or 0) for name in unknown)
    metrics.predicted(0.8, 0.02)
    assert value(metrics.registry, "nasfarm_coordinator_predictor_kendall_tau") == 0.8
    assert value(metrics.registry, "nasfarm_coordinator_predictor_mean_absolute_error") == 0.02
    metrics.predicted(None, None)
    assert math.isnan(value(metrics.registry, "nasfarm_coordinator_predictor_kendall_tau") or 0)


def test_a_coordinator_counts_candidates_results_and_dead_letters() -> None:
    metrics = CoordinatorMetrics(InProcessBroker())
    metrics.candidates(asked=4, measured=30, failed=2)
    metrics.stored(0.004)
    metrics.dead_lettered("delivery_limit")
    registry = metrics.registry
    for state, number in (("asked", 4), ("measured", 30), ("failed", 2)):
        assert value(registry, "nasfarm_coordinator_candidates", state=state) == number
    assert value(registry, "nasfarm_coordinator_result_handling_seconds_bucket", le="0.005") == 1
    assert value(registry, "nasfarm_coordinator_dead_letters_total", reason="delivery_limit") == 1
    assert value(registry, "nasfarm_coordinator_dead_letters_total", reason="unreadable") == 0
    assert (value(registry, "nasfarm_coordinator_last_result_timestamp_seconds") or 0) > time.time() - 60


def test_a_broker_s_own_counters_are_read_when_they_are_asked_for() -> None:
    broker = InProcessBroker()
    metrics = EvaluatorMetrics(broker)
    broker.publish("q", b"1")
    delivery = broker.receive("q", 5)
    assert delivery is not None
    delivery.requeue()
    again = broker.receive("q", 5)
    assert again is not None
    again.reject("nonsense")
    assert value(metrics.registry, "nasfarm_broker_connected") == 1
    assert value(metrics.registry, "nasfarm_broker_messages_published_total") == broker.counters.published > 0
    assert value(metrics.registry, "nasfarm_broker_redeliveries_total") == 1
    assert value(metrics.registry, "nasfarm_broker_dead_letters_total") == 1
    assert value(metrics.registry, "nasfarm_broker_reconnects_total") == 0


def test_buckets_reach_from_seconds_to_hours() -> None:
    assert MINUTES[0] == 5 and MINUTES[-1] == 7200 and list(MINUTES) == sorted(MINUTES)


@pytest.mark.parametrize("service", [EvaluatorMetrics, CoordinatorMetrics])
def test_two_services_of_a_process_share_no_registry(service: type[EvaluatorMetrics | CoordinatorMetrics]) -> None:
    broker = InProcessBroker()
    assert service(broker).registry is not service(broker).registry


@pytest.mark.parametrize("service", [EvaluatorMetrics, CoordinatorMetrics])
def test_labels_are_few_and_name_neither_search_nor_candidate(
    service: type[EvaluatorMetrics | CoordinatorMetrics],
) -> None:
    for metric in service(InProcessBroker()).registry.collect():
        if metric.name.startswith("nasfarm_"):
            assert len(metric.documentation) > 20
            for sample in metric.samples:
                assert set(sample.labels) <= {"outcome", "stage", "state", "reason", "le"}
