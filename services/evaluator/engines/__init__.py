"""Engines that run networks where speed is measured."""

import torch

from services.evaluator.engines.decoding import cuda_graph
from services.evaluator.engines.protocol import Engine, EngineMissingError, LoadedNetwork, PassSeconds, random_prompts
from services.evaluator.engines.torch_engine import TorchEngine
from shared.messages import Engine as EngineName
from shared.supernet.device import compute_device

__all__ = ["Engine", "EngineMissingError", "LoadedNetwork", "PassSeconds", "make_engine", "random_prompts"]


def make_engine(name: EngineName, device: torch.device | None = None) -> Engine:
    """An engine on a device (default: the GPU where there is one). Raises EngineMissingError if it isn't installed."""
    if name == "torch":
        where = device or compute_device()
        return TorchEngine(where, cuda_graph if where.type == "cuda" else None)
    from services.evaluator.engines.vllm_engine import VllmEngine

    return VllmEngine()
