"""RabbitMQ through pika. Nothing outside this package knows pika."""

from shared.broker.rabbitmq.client import RabbitBroker
from shared.broker.rabbitmq.operator import add_queues, remove_queues

__all__ = ["RabbitBroker", "add_queues", "remove_queues"]
