"""Failure policy: how often something is tried, how long it is waited for, and when it is given up.

All of it is here, with who reads it and what it protects, because the numbers depend on each other: a broker must
keep a request with its evaluator for longer than an evaluation may take, whoever stops an evaluator must wait for
longer than that evaluator waits, and a request counts as lost only when an announcement would have shown otherwise. How
often something is polled is written where it is polled.

Files that RabbitMQ, Compose and Kubernetes read repeat some of the numbers; `tests/unit/test_failure_policy.py`
compares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from shared.backoff import BackoffLimits
from shared.messages import FailureKind


@dataclass(frozen=True)
class FailureHandling:
    """What follows from a failure of some kind.

    Attributes:
        retried: the coordinator sends the request again, up to RETRIES times in one run: another evaluator may not meet
            this failure.
        lasting: the next run doesn't try it again. Of all others there may be more memory then, or a repaired
            evaluator.
        ends_search: it says nothing about the network, so that every other would fail likewise: the search ends with
            its reason once it isn't retried any more, and it is not stored. A failure like others for whoever tolerates
            it, as a report does that can be written without.
        backs_off: the evaluator pauses (EVALUATOR_PAUSE), as another may do better.
        is_crash: it counts towards MOST_CRASHES of the evaluator.
        of_any: of networks that were asked for together it may be the fault of any. The coordinator asks for each of
            them again, alone, which is no retry: only then it is known of which network this is true.
    """

    retried: bool = False
    lasting: bool = False
    ends_search: bool = False
    backs_off: bool = False
    is_crash: bool = False
    of_any: bool = False


FAILURES: Mapping[FailureKind, FailureHandling] = {
    "out_of_memory": FailureHandling(retried=True, backs_off=True),
    "timed_out": FailureHandling(of_any=True),
    "crashed": FailureHandling(retried=True, backs_off=True, is_crash=True),
    "dead_lettered": FailureHandling(of_any=True),
    "infeasible": FailureHandling(lasting=True),
    "unsupported": FailureHandling(retried=True, backs_off=True),
    "unavailable": FailureHandling(retried=True, ends_search=True, backs_off=True),
    "bad_request": FailureHandling(lasting=True, ends_search=True),
    "invalid_result": FailureHandling(retried=True),
}
"""What may be retried is a property of the kind of failure. The coordinator's dispatcher and search, and an evaluator's
worker read it."""

# Retries. A request is delivered and answered at least once; these bound how often.

RETRIES = 2
"""The coordinator: how often one run sends a request again whose failure another evaluator may not meet. Keeps one
unlucky network from holding up a search."""
DELIVERY_LIMIT = 3
"""The broker: how often a request that came back (its evaluator was lost, or returned it) is delivered again; after
that it is a dead letter. Keeps a request that kills evaluators from killing all of them; of several that were sent
together each is then sent alone, so that one may kill twice as many."""
RESULTS_DELIVERY_LIMIT = 20
"""The broker: the same of a result, so that many times a coordinator may be killed before it has stored one. More than
of a request, as results are what was paid for."""

# Prefetch: how many messages a consumer holds that it has not acknowledged. They come back when it is lost.

RESULTS_PREFETCH = 64
"""The coordinator: results that it stores in one transaction."""
REQUESTS_PREFETCH = 1
"""An evaluator: the message in progress and no other, whose networks another evaluator could be computing meanwhile."""
ANNOUNCEMENTS_PREFETCH = 500
"""Readers of announcements, which only acknowledge them: enough that a farm's are read in one go."""
IN_FLIGHT_PER_EVALUATOR = 2
"""The coordinator: messages sent and not answered, for each evaluator: the one in progress, and one that the evaluator
finds in the queue as soon as it has answered. More would only be in the way of other searches. What waits is divided
among these messages, so that every evaluator has work before any has much of it."""
TOGETHER_SECONDS = 10 * 60
"""The coordinator: what networks that are asked for in one message may take all together, judged by those that were
measured; as long as none was, each is asked for alone. So an evaluator that has to leave (DRAIN_SECONDS) has the time
to answer, and what is lost with one is little. A local farm waits for less (LOCAL_DRAIN_SECONDS): there a message that
takes longer is requeued."""

# Hard limits: what takes longer has failed.

EVALUATION_LIMIT_SECONDS = 2 * 3600
"""An evaluator: the most that NASFARM_EVALUATION_LIMIT may allow an evaluation; what takes longer is answered as
`timed_out`, and the process ends. Networks that are asked for together have the limit of each, but no more than this
altogether."""
CONSUMER_TIMEOUT_SECONDS = EVALUATION_LIMIT_SECONDS + 600
"""The broker: when it takes a request away from an evaluator that neither answers nor is lost. The evaluator's own
limit comes first; a whole node shares this one, as RabbitMQ 3.10 knows no other."""
NO_PROGRESS_SECONDS = 30 * 60
"""An evaluator's `/healthz`: how long an evaluation may go without progress. Its longest step, vLLM loading and running
a network, takes a few minutes."""
MOST_CRASHES = 3
"""An evaluator: after so many evaluations in a row that crashed it ends, to be started again. The process itself may be
broken then, as a GPU's context is after some errors."""
MOST_SERVICE_RESTARTS = 2
"""Commands that bring a farm up: a service that failed so often while they wait is not going to work by itself."""
MOST_CONTAINER_RESTARTS = 5
"""A farm of containers: a coordinator that failed so often is not started again; as `restart` of compose.yml."""

# Exit codes by which a process says whether to start it again.

RESTART_CODE = 75
"""An evaluator that can't continue, as an evaluation took too long or several crashed: another is started instead."""
USER_ERROR_CODE = 2
"""Any command that found something which only a person can change: it isn't started again."""
CANT_START_CODE = 127
"""What a shell says of a program that can't be started; it is tried again."""

# Grace periods: how long something that is asked to end may take to do it in order.

DRAIN_SECONDS = 15 * 60
"""An evaluator asked to stop: how long it may continue the current evaluation, unless NASFARM_DRAIN_LIMIT sets it.
What is not finished by then is requeued."""
LOCAL_DRAIN_SECONDS = 120
"""The same in a farm of processes, where a person waits for `make down`."""
LEAVE_SECONDS = 30
"""The supervisor: what an evaluator may take after that to requeue and to exit, before it is killed."""
STOP_SECONDS = 30.0
"""The supervisor: the same of any other program that doesn't say how long it takes."""
BROKER_STOP_SECONDS = 60
"""The same of RabbitMQ, which writes its data."""
EVALUATOR_CONTAINER_STOP_SECONDS = DRAIN_SECONDS + 60
"""Whoever stops an evaluator's container: `stop_grace_period` in compose.yml, and Kubernetes'
`terminationGracePeriodSeconds`."""
CONTAINER_STOP_SECONDS = 60
"""The same of any other container."""
ORPHANS_STOP_SECONDS = 10.0
"""Processes of a farm whose supervisor is gone."""
KILLED_SECONDS = 10.0
"""The kernel, to end what was killed."""
DESTROY_STOP_SECONDS, DESTROY_KILL_SECONDS = 5.0, 15.0
"""`make destroy`: how long a supervisor has to end its farm in order, then at once, before its processes are killed."""
DESTROY_WAIT_SECONDS = 10.0
"""`make destroy`: how long a command that brings the farm up is waited for; the farm is removed all the same."""
FOLLOW_SECONDS = 30.0
"""`make farm`: a supervisor that hasn't done in this time what the farm's file says won't do it at all."""
MOVED_SECONDS = 30.0
"""`make farm`: what a supervisor may take to notice that its farm was moved, and to exit."""

# Pauses before the next try.

EVALUATOR_PAUSE = BackoffLimits(1.0, 60.0)
"""An evaluator, after failures that others may not meet: it leaves the queue to them, or a broken evaluator, which
fails fastest of all, would use up every request's retries."""
RESTART_PAUSE = BackoffLimits(1.0, 60.0)
"""The supervisor, before it starts a program again that ended within QUICK_SECONDS."""
QUICK_SECONDS = 10.0
"""A program that ran for longer is started again at once."""
RECONNECT_PAUSE = BackoffLimits(0.25, 15.0)
"""A connection to the broker that was lost or couldn't be made. Each pause is cut by up to a half, at random, so that a
farm's services don't all come at once."""
REPUBLISH_SECONDS = 1.0
"""A publisher, after a broker that didn't take a message or closed the channel."""
REOPEN_SECONDS = 0.5
"""A consumer, after a broker that closed the channel or cancelled the consumer, but not the connection."""

# A connection to the broker.

HEARTBEAT_SECONDS = 15
"""Both ends: a peer that was silent for two of these is lost."""
BLOCKED_SECONDS = 3600
"""A service: how long a broker may refuse to read (its memory or disk is full) before it makes a new connection.

Long: a new one would be refused as well, and messages held would be delivered once more, which counts as an attempt. A
broker that is gone is noticed by its heartbeats."""
CONNECT_SECONDS = 10
"""A service: how long one try to connect may take."""
JOIN_SECONDS = 30.0
"""A service: how long a broker may take to be there at the start. Later it may be away for as long as it likes."""
COMMAND_ANSWER_SECONDS = 8.0
"""A command at which a person waits: how long a broker may take to answer."""
COMMAND_BLOCKED_SECONDS = 5.0
"""The same for a broker whose memory or disk is full."""
CLOSE_SECONDS = 5.0
"""Whoever closes a connection: how long a broker may take to confirm that."""
CLOSE_UNANSWERED_SECONDS = 0.5
"""The same of a broker that has never answered."""
REDELIVERY_SECONDS = 1.0
"""An evaluator that pauses or stops after a lost connection: how long the broker may take to deliver again the request
that is answered already, so that it can be acknowledged."""
SETTLE_SECONDS = 2.0
"""Whoever declares queues: a quorum queue whose node dies within its first second stays without a leader for ever
(RabbitMQ 3.10)."""

# Presence: every service announces itself, and others decide by that whether it is there.

SEARCH_STOP_SECONDS = 15.0
"""`nasfarm stop`: how long a search may take to announce that it has stopped; it looks for messages every second."""
BROKER_START_SECONDS = 240
"""Commands that bring a farm up: what RabbitMQ may need to start on a small machine that is busy."""
SILENT_COORDINATOR_SECONDS = 300.0
"""The same: a coordinator that runs announces within this time how far it is, unless RabbitMQ doesn't deliver that."""
SILENT_CONNECTION_SECONDS = 60
"""`/healthz`: the connection's thread shows every second that it lives; after so long only a restart helps."""
UNUSED_QUEUE_SECONDS = 3600
"""The broker: a queue of requests of another version is deleted after so long without a consumer. Its requests were
sent again."""
ANNOUNCE_SECONDS = 10
"""Every service: how often it announces itself; at once when its state changes."""
PRESENT_SECONDS = 6 * ANNOUNCE_SECONDS
"""Readers of announcements: who was silent for longer is gone. A broker takes 45 seconds to find that out and to
deliver to others what they held."""
LOST_SECONDS = 60.0
"""The coordinator: a request sent less long ago isn't lost; the evaluator that has it may not have said so yet."""
IDLE_SECONDS = 30.0
"""The coordinator: an evaluator that has been idle for so long has found the queue empty."""
ALONE_SECONDS = 30.0
"""The coordinator: after so long without any evaluator the user is told."""
