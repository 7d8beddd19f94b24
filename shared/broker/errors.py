"""What a broker can't do, however often it is tried. A lost connection is no error: a broker replaces it by itself."""

from shared.errors import UserError


class BrokerError(UserError):
    """Something about the farm must change before this can succeed; its message says what."""


class BrokerUnreachableError(BrokerError):
    """The broker didn't answer within the time that was allowed."""


class AccessRefusedError(BrokerError):
    """The broker doesn't know these credentials, or the user may not do this."""


class QueueMissingError(BrokerError):
    """There is no such queue: services declare none, an operator adds them."""


class ExchangeMissingError(QueueMissingError):
    """There is no such exchange: the broker's definitions are those of another release."""


class MessageTooLargeError(BrokerError):
    """A message is larger than any broker of a farm takes."""


class BrokerClosedError(Exception):
    """The broker was closed in this process, before the call or during it."""
