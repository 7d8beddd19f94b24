"""Which formats can verify themselves on this machine, and how long that takes."""

from services.application.export.verification.huggingface import HuggingFaceVerifier
from services.application.export.verification.protocol import Verifier
from services.application.export.verification.verified_items import VerifiedItems
from services.evaluator.speed import parameter_tokens_per_second
from services.exporter.names import FormatName
from services.exporter.network import ExportedNetwork
from shared.network.sizes import outer_parameters, parameters

VERIFIERS: dict[FormatName, type[Verifier]] = {"hf": HuggingFaceVerifier}
"""The others are served by engines that need another environment or a GPU."""
LEAST_SECONDS = 60
"""Verification that takes less is done without being asked for."""


def verification_seconds(network: ExportedNetwork, verifier: Verifier, items: VerifiedItems) -> float:
    """How long it takes on this machine, roughly: parameters times tokens."""
    rate = parameter_tokens_per_second(network.checkpoint, "float32")
    return (parameters(network.shape) - outer_parameters(network.shape)) * verifier.tokens(items) / rate
