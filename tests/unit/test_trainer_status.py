"""What a fine-tuning reports about itself."""

import logging
import math

import pytest

from services.trainer.fine_tuning import StepReport
from services.trainer.status import TrainerStatus
from shared.failure_policy import NO_PROGRESS_SECONDS


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def value(status: TrainerStatus, name: str, **labels: str) -> float:
    found = status.metrics.registry.get_sample_value(f"nasfarm_trainer_{name}", labels)
    assert found is not None, name
    return found


def report(step: int, subnet_loss: float | None = 2.5) -> StepReport:
    return StepReport(step, 10, full_loss=2.0, subnet_loss=subnet_loss, tokens=500, memory=3 * 10**9)


def test_what_isn_t_known_before_the_first_step_is_nan_and_not_zero() -> None:
    status = TrainerStatus(processes=4)
    unknown = ("step", "steps_planned", "remaining_seconds", "memory_bytes")
    assert all(math.isnan(value(status, name)) for name in unknown)
    assert all(math.isnan(value(status, "loss", network=network)) for network in ("full", "subnet"))
    assert value(status, "processes") == 4 and value(status, "tokens_total") == 0
    assert value(status, "progress_timestamp_seconds") > 0


def test_steps_are_counted_from_where_it_was_resumed_and_the_time_left_is_at_their_pace() -> None:
    clock = Clock()
    status = TrainerStatus(1, clock)
    clock.now += 3600  # of preparation, which says nothing about steps
    status.began()
    for step in (5, 6):
        clock.now += 10
        status.stepped(report(step, None if step == 5 else 2.5))
    assert (value(status, "step"), value(status, "steps_planned")) == (6, 10)
    assert value(status, "remaining_seconds") == pytest.approx(40)
    assert value(status, "tokens_total") == 1000 and value(status, "memory_bytes") == 3e9
    assert value(status, "loss", network="full") == 2.0 and value(status, "loss", network="subnet") == 2.5


def test_its_health_fails_where_no_step_ends() -> None:
    clock = Clock()
    status = TrainerStatus(1, clock)
    clock.now += 10 * NO_PROGRESS_SECONDS
    assert status.hung() is None, "a model may be fetched for as long as that takes"
    status.began()
    clock.now += NO_PROGRESS_SECONDS - 1
    status.stepped(report(1))
    clock.now += NO_PROGRESS_SECONDS - 1
    assert status.hung() is None
    clock.now += 2
    assert "fine-tuning: nothing for" in (status.hung() or "")
    status.ended()
    assert status.hung() is None


def test_the_log_has_an_event_a_minute_and_the_last_step(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    status = TrainerStatus(1, clock)
    status.began()
    with caplog.at_level(logging.INFO, "services.trainer.status"):
        for step in range(1, 11):
            clock.now += 25
            status.stepped(report(step))
    told = [vars(record)["nasfarm_fields"] for record in caplog.records]
    assert [each["step"] for each in told] == [3, 6, 9, 10]
    assert told[0] == {
        "step": 3,
        "steps": 10,
        "full_loss": 2.0,
        "subnet_loss": 2.5,
        "tokens_per_second": 20.0,
        "seconds_left": 175,
        "memory_bytes": 3 * 10**9,
    }
