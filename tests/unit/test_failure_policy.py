"""Failure policy: its numbers agree with one another, and with the files in which others read them."""

from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from shared import failure_policy as policy
from shared.backoff import Backoff, BackoffLimits
from shared.environment import Environment
from shared.messages import FailureKind
from tests.support.data import ROOT
from tests.support.kubernetes import KUBERNETES

COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text())["services"]
DEPLOYMENT, *_ = yaml.safe_load_all((KUBERNETES / "supernet" / "evaluator.yaml").read_text())
POD = DEPLOYMENT["spec"]["template"]["spec"]
BROKER, *_ = yaml.safe_load_all((KUBERNETES / "base" / "rabbitmq.yaml").read_text())


def seconds(duration: str) -> int:
    """A duration as Compose writes it, in whole minutes."""
    return 60 * int(duration.removesuffix("m"))


def test_an_evaluator_answers_or_requeues_before_anybody_takes_its_request_away_or_kills_it() -> None:
    assert policy.EVALUATION_LIMIT_SECONDS < policy.CONSUMER_TIMEOUT_SECONDS
    assert policy.NO_PROGRESS_SECONDS < policy.EVALUATION_LIMIT_SECONDS
    assert policy.DRAIN_SECONDS < policy.EVALUATOR_CONTAINER_STOP_SECONDS
    assert Environment.model_fields["drain_limit"].default == policy.DRAIN_SECONDS


def test_a_request_counts_as_lost_only_when_an_announcement_would_have_shown_otherwise() -> None:
    assert 2 * policy.ANNOUNCE_SECONDS <= policy.IDLE_SECONDS < policy.LOST_SECONDS
    assert policy.PRESENT_SECONDS <= policy.LOST_SECONDS


def test_the_files_of_compose_and_kubernetes_have_the_numbers_of_the_policy() -> None:
    evaluator = COMPOSE["evaluator"]
    assert seconds(evaluator["stop_grace_period"]) == policy.EVALUATOR_CONTAINER_STOP_SECONDS
    assert evaluator["environment"]["NASFARM_DRAIN_LIMIT"] == policy.DRAIN_SECONDS
    assert seconds(COMPOSE["rabbitmq"]["stop_grace_period"]) == policy.CONTAINER_STOP_SECONDS
    assert COMPOSE["coordinator"]["restart"] == f"on-failure:{policy.MOST_CONTAINER_RESTARTS}"
    (container,) = POD["containers"]
    drain = {"name": "NASFARM_DRAIN_LIMIT", "value": str(policy.DRAIN_SECONDS)}
    assert POD["terminationGracePeriodSeconds"] == policy.EVALUATOR_CONTAINER_STOP_SECONDS and drain in container["env"]
    assert (
        f"consumer_timeout = {policy.CONSUMER_TIMEOUT_SECONDS * 1000}" in BROKER["spec"]["rabbitmq"]["additionalConfig"]
    )


def test_every_kind_of_failure_has_its_handling_and_none_that_lasts_is_tried_again() -> None:
    assert set(policy.FAILURES) == set(get_args(FailureKind))
    assert not [kind for kind, handling in policy.FAILURES.items() if handling.lasting and handling.retried]


def test_pauses_double_from_the_first_to_the_longest_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(BackoffLimits(1.0, 60.0))
    assert backoff.seconds == 0
    assert [backoff.failed() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60] and backoff.seconds == 60
    backoff.reset()
    assert backoff.seconds == 0 and backoff.failed() == 1


@given(st.floats(0.001, 10), st.floats(1, 100), st.lists(st.booleans(), max_size=30))
def test_no_pause_is_outside_its_limits(first: float, factor: float, tries: list[bool]) -> None:
    backoff = Backoff(BackoffLimits(first, first * factor))
    for succeeded in tries:
        before = backoff.seconds
        if succeeded:
            backoff.reset()
            assert backoff.seconds == 0
        else:
            assert first <= backoff.failed() <= first * factor and backoff.seconds >= before


@pytest.mark.parametrize("limits", [policy.EVALUATOR_PAUSE, policy.RESTART_PAUSE, policy.RECONNECT_PAUSE])
def test_every_back_off_grows(limits: BackoffLimits) -> None:
    assert 0 < limits.first_seconds < limits.last_seconds
