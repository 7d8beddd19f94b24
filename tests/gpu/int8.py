"""LLM.int8() by bitsandbytes: a GPU holds what a CPU holds, and says nearly what it says."""

import importlib.util

import torch

from shared.architecture import Architecture
from shared.network.sizes import weight_bytes
from shared.supernet.checkpoint import Checkpoint
from shared.supernet.packing import pack
from shared.supernet.tree import Tree
from tests.gpu.check import Machine, SkippedError, require
from tests.gpu.networks import Items, random_checkpoint

TOLERANCE = 0.1
"""Of logits, relative to their size: rounding may make an outlier of an input, or none."""


@torch.inference_mode()
def sizes_and_logits(machine: Machine) -> str:
    """A tiny network in INT8, on both; and how far it is from the one that was quantised."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SkippedError("bitsandbytes is not installed")
    cpu = Machine(torch.device("cpu"), tiny=True)
    there = random_checkpoint(cpu, "tiny", torch.bfloat16)
    # Norms that make outliers of some inputs.
    there.weights.update({name: 3 * tensor for name, tensor in there.weights.items() if tensor.ndim == 1})  # type: ignore[attr-defined]
    whole = Architecture(layers=tuple(range(there.network.depth)), mlp_widths=there.network.mlp_widths)
    rows = [Tree.plain(tokens) for tokens in Items.random(6, there.network.vocab_size, 40).contexts]

    def logits(checkpoint: Checkpoint, device: torch.device, quantized: bool) -> torch.Tensor:
        network = checkpoint.cut(whole.quantized("int8" if quantized else "none"))
        if quantized:
            expected = weight_bytes(checkpoint.network, "bfloat16", "int8")
            require(network.bytes == expected, f"{network.bytes} bytes are held on {device}, {expected} were computed")
        return network.logits(network.hidden(pack(rows, device))).float().cpu()

    here = Checkpoint(
        there.directory,
        there.config,
        there.network,
        {name: tensor.to(machine.device) for name, tensor in there.weights.items()},
    )
    exact, expected = (logits(there, cpu.device, quantized) for quantized in (False, True))
    found = logits(here, machine.device, True)
    off, lost = (float((one - other).norm() / other.norm()) for one, other in ((found, expected), (expected, exact)))
    require(off <= max(TOLERANCE, lost), f"logits differ by {off:.1%} from a CPU's, where INT8 costs {lost:.1%}")
    return f"logits within {off:.1%} of a CPU's (INT8 itself: {lost:.1%}), sizes as computed"
