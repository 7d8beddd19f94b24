"""Ports that a farm takes."""

import socket

import pytest

from deploy.farm import ports
from deploy.farm.ports import ADDRESS, CHOSEN, free_port, is_free
from shared.errors import UserError


def test_a_free_port_can_be_listened_on_and_is_below_those_of_connections_that_go_out() -> None:
    port = free_port()
    assert is_free(port) and port in CHOSEN and len({free_port() for _ in range(5)}) > 1
    with socket.create_server((ADDRESS, port)):
        assert not is_free(port)


def test_ports_on_which_others_listen_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = sorted((free_port(), free_port()))
    monkeypatch.setattr(ports, "CHOSEN", (one, other))
    with socket.create_server((ADDRESS, one)):
        assert {free_port() for _ in range(8)} == {other}
        with (
            socket.create_server((ADDRESS, other)),
            pytest.raises(UserError, match=f"no port from {one} to {other} is"),
        ):
            free_port()
