"""The rotary embedding as a GGUF file describes it."""

from collections.abc import Mapping
from typing import Any

import torch
from gguf import GGUFWriter, RopeScalingType
from torch import Tensor

from services.exporter.gguf.layout import Layout
from services.exporter.gguf.numbers import decoder_of
from services.exporter.network import ExportedNetwork
from shared.errors import UserError
from shared.network.families.family import FULL, SLIDING
from shared.supernet.decoder import Rotary

YARN = {"beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": None, "mscale": None, "mscale_all_dim": None}
"""What llama.cpp computes with; other numbers make another embedding there than in transformers."""


def require_rotary(network: ExportedNetwork, layout: Layout) -> None:
    """Raise UserError for a rotary embedding that the architecture doesn't compute."""
    for name, parameters in _rotaries(network).items():
        kind = parameters.get("rope_type", "default")
        if kind == "llama3" and not layout.frequencies:
            raise UserError(
                f"llama.cpp's architecture {layout.name} has no rope_type 'llama3', which this network has; "
                "choose another format"
            )
        if name == SLIDING and kind != "default":
            raise UserError(f"llama.cpp scales no rotary embedding of windows, here {kind!r}; choose another format")
        if kind == "yarn" and (
            any(parameters.get(key) not in (None, usual) for key, usual in YARN.items())
            or parameters.get("truncate", True) is not True
        ):
            raise UserError("llama.cpp computes yarn only with its usual parameters; choose another format")


def add_rotary(network: ExportedNetwork, writer: GGUFWriter) -> None:
    """Write base and scaling of the rotary embedding, and those of the one that windows have of their own."""
    rotaries = _rotaries(network)
    if SLIDING in rotaries:
        writer.add_rope_freq_base_swa(rotaries[SLIDING]["rope_theta"])
    parameters = _main(rotaries)
    writer.add_rope_freq_base(parameters["rope_theta"])
    kind = parameters.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(parameters["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(parameters["factor"])
        original = parameters.get("original_max_position_embeddings")
        writer.add_rope_scaling_orig_ctx_len(original or network.checkpoint.config.max_position_embeddings)


def factors(network: ExportedNetwork) -> Tensor | None:
    """What the frequencies of the base are divided by (Llama 3.1's scaling); None where they are as they are."""
    parameters = _main(_rotaries(network))
    if parameters.get("rope_type", "default") != "llama3":
        return None
    rotaries = decoder_of(network).rotaries
    return next((_factors(rotary, parameters["rope_theta"]) for rotary in rotaries.values()), None)


def _factors(rotary: Rotary, theta: float) -> Tensor:
    exponents = torch.arange(0, 2 * len(rotary.frequencies), 2, dtype=torch.float) / (2 * len(rotary.frequencies))
    return 1.0 / theta**exponents / rotary.frequencies


def _rotaries(network: ExportedNetwork) -> Mapping[str, Mapping[str, Any]]:
    return decoder_of(network).arithmetic.rotaries


def _main(rotaries: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    return rotaries[FULL] if FULL in rotaries else rotaries["default"]
