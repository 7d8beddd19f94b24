"""How long it takes to compute with a network on this machine, before it is done."""

from services.evaluator.speed import parameter_tokens_per_second
from services.exporter.network import ExportedNetwork
from shared.network.sizes import outer_parameters, parameters


def computing_seconds(network: ExportedNetwork, tokens: int) -> float:
    """Of so many tokens in float32, roughly: parameters times tokens."""
    rate = parameter_tokens_per_second(network.checkpoint, "float32")
    return (parameters(network.shape) - outer_parameters(network.shape)) * tokens / rate
