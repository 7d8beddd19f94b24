"""A connection's way through a machine that may go silent: both ends stay connected, and nothing arrives any more."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Forwarder:
    """Forwards what comes to `port` of this machine to another of its ports."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._dropped: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def go_silent(self) -> None:
        """Drop all that still comes on the connections that there are; new ones are forwarded."""
        self._dropped.update(self._sockets)

    def close_connections(self) -> None:
        """End the connections that there are."""
        while self._sockets:
            _end(self._sockets.pop())

    def close(self) -> None:
        """Forward nothing any more."""
        _end(self._listener)
        self.close_connections()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                incoming, _ = self._listener.accept()
                try:
                    outgoing = socket.create_connection(("127.0.0.1", self._to_port))
                except OSError:  # nothing listens there: clients see the same here
                    incoming.close()
                    continue
                self._sockets += [incoming, outgoing]
                for ends in ((incoming, outgoing), (outgoing, incoming)):
                    threading.Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # an end is dead or closed
            while data := source.recv(65536):
                if source not in self._dropped:
                    target.sendall(data)
        if source not in self._dropped:
            with suppress(OSError):  # the other end was faster
                target.shutdown(socket.SHUT_RDWR)


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def forwarder(to_port: int) -> Iterator[Forwarder]:
    """A Forwarder that is closed in the end."""
    made = Forwarder(to_port)
    try:
        yield made
    finally:
        made.close()
