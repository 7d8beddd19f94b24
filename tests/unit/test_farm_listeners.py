"""Where processes listen, as the kernel says."""

import os
import socket

import pytest

from deploy.farm.listeners import open_to_others


@pytest.mark.parametrize(
    ("address", "family", "shown"),
    [
        ("127.0.0.1", socket.AF_INET, None),
        ("127.4.5.6", socket.AF_INET, None),
        ("::1", socket.AF_INET6, None),
        ("::ffff:127.0.0.1", socket.AF_INET6, None),
        ("0.0.0.0", socket.AF_INET, "0.0.0.0"),
        ("::", socket.AF_INET6, "[::]"),
        ("::ffff:0.0.0.0", socket.AF_INET6, "0.0.0.0"),
    ],
)
def test_only_what_others_may_reach_is_named(address: str, family: socket.AddressFamily, shown: str | None) -> None:
    with socket.socket(family) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address, 0))
        port = listener.getsockname()[1]
        mine = [where for where in open_to_others([os.getpid()]) if where.endswith(f":{port}")]
        assert mine == []  # bound, but not listening yet
        listener.listen()
        mine = [where for where in open_to_others([os.getpid()]) if where.endswith(f":{port}")]
    assert mine == ([] if shown is None else [f"{shown}:{port}"])


def test_a_process_that_is_gone_listens_nowhere() -> None:
    assert open_to_others([2**22 + 1]) == []
