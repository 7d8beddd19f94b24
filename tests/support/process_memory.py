"""Memory of this process, by the kernel's account of it (Linux)."""

from pathlib import Path


def status(name: str) -> int:
    """A line of that account, in bytes: VmRSS is what is held, VmHWM the most that was."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def forget_peak() -> None:
    """Have the most that was held count from here."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
