"""Which formats can verify themselves on this machine, and how long that takes."""

from importlib.util import find_spec

from services.application.export.pace import computing_seconds
from services.application.export.verification.gguf import LlamaCppVerifier
from services.application.export.verification.huggingface import HuggingFaceVerifier
from services.application.export.verification.protocol import Verifier
from services.application.export.verification.verified_items import VerifiedItems
from services.exporter.names import FormatName, GgufType
from services.exporter.network import ExportedNetwork
from shared.errors import UserError
from shared.network.sizes import weight_bytes

LEAST_SECONDS = 60
"""Verification that takes less is done without being asked for."""


def make_verifier(name: FormatName, gguf_type: GgufType | None) -> Verifier:
    """The verifier of a format. Raises UserError, saying why, where exports can't be loaded by what loads them."""
    if name == "hf":
        return HuggingFaceVerifier()
    if name == "vllm":
        raise UserError("vLLM, which loads the export, needs a GPU or an environment of its own; try it there")
    if find_spec("xllamacpp") is None:
        raise UserError("llama.cpp, which loads the export, isn't here; pip install 'nasfarm[llama-cpp]' brings it")
    return LlamaCppVerifier(gguf_type or "f32")


def verification_seconds(network: ExportedNetwork, verifier: Verifier, items: VerifiedItems) -> float:
    """How long it takes on this machine, roughly."""
    return computing_seconds(network, verifier.tokens(items))


def verification_bytes(network: ExportedNetwork) -> int:
    """Memory that it takes, roughly: the network in float32, here and there."""
    return 2 * weight_bytes(network.shape, "float32", network.architecture.quantization)
