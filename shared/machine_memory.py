"""How much memory this machine has, or its container may use. Free of torch."""

from dataclasses import dataclass
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of a container, in cgroups of version 2 and 1."""


@dataclass(frozen=True)
class Memory:
    """Bytes of memory: altogether, and of these what is free now."""

    total: int
    free: int


def host_memory() -> Memory | None:
    """The machine's memory, or its container's limit if that is less; None where neither can be known."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        found = {name: int(value.split()[0]) * 1024 for name, value in (line.split(":") for line in lines)}
        total, free = found["MemTotal"], found["MemAvailable"]
    except (OSError, ValueError, LookupError):
        return None
    for file in LIMITS:
        try:
            limit = int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):  # no such version, or "max"
            continue
        total, free = min(total, limit), min(free, limit)
    return Memory(total, free)
