"""RabbitMQ through pika. Nothing outside this package knows pika."""

from shared.broker.rabbitmq.client import RabbitBroker
from shared.broker.rabbitmq.operator import QueueDepth, add_queues, queue_depths, remove_queues, request_stop

__all__ = ["QueueDepth", "RabbitBroker", "add_queues", "queue_depths", "remove_queues", "request_stop"]
