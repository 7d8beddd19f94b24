"""Queues between coordinator and evaluators."""

from shared.broker.inprocess import InProcessBroker
from shared.broker.protocol import REQUESTS, Broker, Delivery, results_queue

__all__ = ["REQUESTS", "Broker", "Delivery", "InProcessBroker", "results_queue"]
