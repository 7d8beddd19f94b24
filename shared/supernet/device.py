"""What this machine computes with."""

import platform
import resource
import sys

import torch

from shared.machine_memory import Memory, host_memory
from shared.messages import Dtype


def compute_device() -> torch.device:
    """The first GPU, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_memory() -> int:
    """The most memory, in bytes, that this process has held so far: of its GPU, without one of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


def device_memory(device: torch.device) -> Memory | None:
    """Memory of the device; a CPU's is the machine's. None where it can't be known."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Memory(total, free)
    return host_memory()


def preferred_dtype() -> Dtype:
    """bfloat16 where the machine multiplies it natively, else float32."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    capabilities = torch.cpu.get_capabilities()
    return "bfloat16" if any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "float32"


def torch_dtype(dtype: Dtype) -> torch.dtype:
    """Torch's name for a dtype."""
    return torch.bfloat16 if dtype == "bfloat16" else torch.float32


def device_name(device: torch.device) -> str:
    """A device's name, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.cpu.get_capabilities().get('cpu_name') or platform.processor() or platform.machine()} (CPU)"
