"""W8A8 in the layout of compressed-tensors, which vLLM and transformers read."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from services.exporter.network import ExportedNetwork
from services.exporter.weight_files import Weight
from shared.supernet.w8a8 import quantized_rows

SCALE = "_scale"
"""Ends the name of a weight's scales."""
QUANTIZED: dict[str, Any] = {"num_bits": 8, "type": "int", "symmetric": True}


def quantization_config() -> dict[str, Any]:
    """What `config.json` says of it: a scale for each row of a weight, and for each token as it comes."""
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**QUANTIZED, "strategy": "channel", "dynamic": False},
                "input_activations": {**QUANTIZED, "strategy": "token", "dynamic": True},
            }
        },
    }


def w8a8_weights(network: ExportedNetwork) -> Iterator[Weight]:
    """Every tensor once: weights of the layers' linear layers in INT8, each followed by its rows' scales. Both are
    computed when they are written, from the mapped weight."""
    for name, tensor in network.weights():
        if name in network.quantized:
            outputs, inputs = tensor.shape
            yield Weight(name, torch.int8, (outputs, inputs), partial(_rows, tensor))
            yield Weight(f"{name}{SCALE}", tensor.dtype, (outputs, 1), partial(_scales, tensor))
        else:
            yield Weight.of(name, tensor)


def _rows(weight: Tensor) -> Tensor:
    return quantized_rows(weight)[0]


def _scales(weight: Tensor) -> Tensor:
    return quantized_rows(weight)[1]
