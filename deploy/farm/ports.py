"""Ports of 127.0.0.1: whether one is free, which is, and whether a program listens on one."""

import random
import socket

from shared.errors import UserError

ADDRESS = "127.0.0.1"
CONNECT_SECONDS = 1.0
CHOSEN = range(20_000, 32_768)
"""Ports to choose from: by Linux's default, connections that go out take those above, at any moment."""


def is_free(port: int) -> bool:
    """Whether we could listen on a port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now, and, by Linux's default, that no connection takes before it is listened on. Raises
    UserError where all are taken."""
    found = next(filter(is_free, random.sample(CHOSEN, len(CHOSEN))), None)
    if found is None:
        raise UserError(f"{ADDRESS}: no port from {CHOSEN[0]} to {CHOSEN[-1]} is free; stop what listens there")
    return found


def accepts_connections(port: int) -> bool:
    """Whether a program listens on a port."""
    try:
        with socket.create_connection((ADDRESS, port), CONNECT_SECONDS):
            return True
    except OSError:
        return False
