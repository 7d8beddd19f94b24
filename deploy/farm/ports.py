"""Ports of 127.0.0.1: whether one is free, which is, and whether a program listens on one."""

import random
import socket

ADDRESS = "127.0.0.1"
CONNECT_SECONDS = 1.0
CHOSEN = range(20_000, 32_768)
"""Ports to choose from: those above are taken by connections that go out, at any moment."""


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
    """A port that is free now, and that no connection takes before it is listened on. Raises StopIteration where all
    are taken."""
    return next(port for port in random.sample(CHOSEN, len(CHOSEN)) if is_free(port))


def accepts_connections(port: int) -> bool:
    """Whether a program listens on a port."""
    try:
        with socket.create_connection((ADDRESS, port), CONNECT_SECONDS):
            return True
    except OSError:
        return False
