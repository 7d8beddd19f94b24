"""Messages that RabbitMQ takes and pika can't decode."""

import struct

import pika

from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq.client import parameters

FAR = b"T" + struct.pack(">Q", 10**12)
"""A time long after the year 9999."""
NESTED = b"F\x00\x00\x00\x00"
for _ in range(2000):
    NESTED = b"F" + struct.pack(">I", len(NESTED) + 2) + b"\x01a" + NESTED
POISONS = {"a time after the year 9999": FAR, "headers nested without end": NESTED}


class Raw(pika.BasicProperties):  # type: ignore[misc]
    """Properties with one header, whose value is given as it goes over the wire."""

    def __init__(self, value: bytes) -> None:
        super().__init__()
        entry = b"\x04when" + value
        self._encoded = struct.pack(">H", self.FLAG_HEADERS) + struct.pack(">I", len(entry)) + entry

    def encode(self) -> list[bytes]:
        """As pika sends it."""
        return [self._encoded]


def publish_poison(address: BrokerAddress, exchange: str, queue: str, value: bytes, body: bytes) -> None:
    """Publish a message with a header of this value."""
    connection = pika.BlockingConnection(parameters(address, "poison"))
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(exchange, queue, body, Raw(value))
    finally:
        connection.close()
