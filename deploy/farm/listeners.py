"""On which addresses processes listen, according to the kernel (Linux), whatever they were configured to do."""

import sys
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

LISTEN = "0A"
"""A socket's state in the kernel's tables, /proc/net/tcp and tcp6."""


def open_to_others(processes: Iterable[int]) -> list[str]:
    """Where processes listen for TCP that other machines may reach: `0.0.0.0:5672`, sorted, each once."""
    found: set[str] = set()
    for process in processes:
        try:
            found |= {f"{_shown(address)}:{port}" for address, port in _listening(process) if not address.is_loopback}
        except OSError:  # it has just ended, or belongs to another user
            continue
    return sorted(found)


def _listening(process: int) -> Iterable[tuple[IPv4Address | IPv6Address, int]]:
    """Addresses and ports on which a process listens. Raises OSError where it can't be looked at."""
    directory = Path(f"/proc/{process}")
    sockets = {inode for link in (directory / "fd").iterdir() if (inode := _inode(link))}
    for table in ("tcp", "tcp6"):
        for line in (directory / "net" / table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split(maxsplit=10)[:10]
            if state == LISTEN and inode in sockets:
                address, _, port = local.partition(":")
                yield _address(address), int(port, 16)


def _inode(link: Path) -> str | None:
    """The number of the socket that an open file is; None for other files."""
    try:
        target = str(link.readlink())
    except FileNotFoundError:  # closed meanwhile
        return None
    return target.removeprefix("socket:[").removesuffix("]") if target.startswith("socket:[") else None


def _address(text: str) -> IPv4Address | IPv6Address:
    """An address of the kernel's tables: words of 4 bytes, each in this machine's order of bytes. IPv4's as such."""
    data = bytes.fromhex(text)
    words = (int.from_bytes(data[start : start + 4], "big") for start in range(0, len(data), 4))
    address = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


def _shown(address: IPv4Address | IPv6Address) -> str:
    return f"[{address}]" if isinstance(address, IPv6Address) else str(address)
