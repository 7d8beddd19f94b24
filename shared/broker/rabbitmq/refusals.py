"""Which of pika's exceptions mean that trying again is useless, and the errors that users get then."""

import ssl

from pika.adapters.utils import connection_workflow
from pika.exceptions import AuthenticationError, ChannelClosedByBroker, ProbableAccessDeniedError
from pika.exceptions import ProbableAuthenticationError as LoginError

from shared.broker.address import BrokerAddress
from shared.broker.errors import (
    AccessRefusedError,
    BrokerError,
    BrokerUnreachableError,
    ExchangeMissingError,
    QueueMissingError,
)
from shared.errors import first_line

ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED = 403, 404, 406, 530


def cause(reason: BaseException) -> BaseException:
    """What really happened, out of pika's wrappings of a connection that didn't come up."""
    if isinstance(reason, connection_workflow.AMQPConnectionWorkflowFailed):
        return cause(reason.exceptions[-1])
    if isinstance(reason, connection_workflow.AMQPConnectorPhaseErrorBase):
        return cause(reason.exception)
    return reason


def connection_refusal(reason: BaseException, address: BrokerAddress) -> BrokerError | None:
    """The error for a connection that will never come up; None where another try may do.

    pika calls every connection that is lost during the login probably refused. It was only if the broker said so.
    """
    said = str(reason)
    if isinstance(reason, AuthenticationError) or (isinstance(reason, LoginError) and f"({ACCESS_REFUSED})" in said):
        return AccessRefusedError(f"{address}: the broker refuses this user or password; change them")
    if isinstance(reason, ProbableAccessDeniedError) and f"({NOT_ALLOWED})" in said:
        return AccessRefusedError(f"{address}: no such vhost, or this user may not enter it; change the address")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return AccessRefusedError(
            f"{address}: the broker's certificate isn't trusted ({reason.verify_message}); name the authority that "
            "signed it, and the host as the certificate does"
        )
    if isinstance(reason, ssl.SSLError) and reason.reason == "WRONG_VERSION_NUMBER":
        return BrokerError(f"{address}: this port doesn't speak TLS; write amqp://, or the port of TLS")
    return None


def unreached(address: BrokerAddress, reason: BaseException) -> BrokerUnreachableError:
    """The error for a broker that isn't there, or not for us."""
    return BrokerUnreachableError(
        f"{address}: not reached ({first_line(reason)}); start the broker, or change host and port"
    )


def channel_refusal(reason: BaseException, queue_name: str) -> BrokerError | None:
    """The error for what the broker won't do with a queue; None where another try may do."""
    if not isinstance(reason, ChannelClosedByBroker):
        return None
    if reason.reply_code == ACCESS_REFUSED:
        return AccessRefusedError(f"{queue_name}: the broker refuses ({reason.reply_text}); use another user")
    # A queue that has lost its leader for a moment is "not found" too, but in other words.
    if reason.reply_code == NOT_FOUND and reason.reply_text.startswith("NOT_FOUND - no queue"):
        return missing(queue_name)
    if reason.reply_code == NOT_FOUND and reason.reply_text.startswith("NOT_FOUND - no exch"):
        return ExchangeMissingError(
            f"{queue_name}: the broker lacks what this release needs ({reason.reply_text}); load the definitions that "
            "`python -m shared.broker generate` writes"
        )
    return None


def missing(queue_name: str) -> QueueMissingError:
    """There is no such queue."""
    return QueueMissingError(f"{queue_name}: the broker has no such queue; let an operator add it to the farm")
