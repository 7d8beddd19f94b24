"""LLM.int8() in the layout of bitsandbytes, whose `Linear8bitLt` writes and reads it.

A config that says `quantization_config` means weights that are in INT8 already: transformers doesn't quantise them.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from services.exporter.network import ExportedNetwork
from services.exporter.weight_files import Weight
from shared.supernet.int8 import OUTLIER, Int8Linear

SCALES, LAYOUT = "SCB", "weight_format"
"""What takes the place of `weight` in the names of a layer's other two tensors: the largest magnitude of each row, and
how the weight is laid out, of which there is only 0, by rows."""


def quantization_config() -> dict[str, Any]:
    """What `config.json` says of it."""
    return {
        "quant_method": "bitsandbytes",
        "load_in_8bit": True,
        "llm_int8_threshold": OUTLIER,
        "llm_int8_skip_modules": ["lm_head"],
    }


def int8_weights(network: ExportedNetwork) -> Iterator[Weight]:
    """Every tensor once: weights of the layers' linear layers in INT8, with the numbers that were measured, each
    followed by its scales and layout. They are computed when they are written, from the mapped weight."""
    for name, tensor in network.weights():
        if name in network.quantized:
            layer = name.removesuffix("weight")
            yield Weight(name, torch.int8, tuple(tensor.shape), partial(_rows, tensor))
            yield Weight(f"{layer}{SCALES}", torch.float32, (len(tensor),), partial(_scales, tensor))
            yield Weight(f"{layer}{LAYOUT}", torch.uint8, (), _by_rows)
        else:
            yield Weight.of(name, tensor)


def _rows(weight: Tensor) -> Tensor:
    return Int8Linear.quantized(weight).weight


def _scales(weight: Tensor) -> Tensor:
    return Int8Linear.quantized(weight).scales


def _by_rows() -> Tensor:
    return torch.tensor(0, dtype=torch.uint8)
