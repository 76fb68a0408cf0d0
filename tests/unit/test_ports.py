"""Who has the port that a container wanted."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent.adapters.host import listeners
from agent.domain.resources import ports
from agent.domain.resources.ports import Listener, Port

FAILED = "driver failed programming external connectivity on endpoint web-app-1 (0a1b): "

IN_USE = "bind: address already in use"


@pytest.mark.parametrize(
    ("message", "port"),
    [
        (f"{FAILED}Bind for 0.0.0.0:8080 failed: port is already allocated", Port(8080)),
        (f"{FAILED}Bind for :::8080 failed: port is already allocated", Port(8080)),
        (
            f"{FAILED}Error starting userland proxy: listen tcp4 0.0.0.0:80: {IN_USE}",
            Port(80, "tcp"),
        ),
        (f"{FAILED}listen udp6 [::]:53: bind: address already in use", Port(53, "udp")),
        (
            f"{FAILED}failed to bind host port for 0.0.0.0:8080:172.17.0.2:80/tcp: {IN_USE[6:]}",
            Port(8080, "tcp"),
        ),
        (
            f"{FAILED}failed to bind host port 127.0.0.1:53/udp: address already in use",
            Port(53, "udp"),
        ),
        ("Bind for 0.0.0.0:8080 failed: no such device", None),
        ("port is already allocated", None),
    ],
)
def test_an_error_of_the_engine_says_which_port_is_taken(message: str, port: Port | None) -> None:
    assert ports.taken(message) == port


def test_who_has_the_port_is_named_as_far_as_it_is_known() -> None:
    tcp, any_protocol = Port(80, "tcp"), Port(80)
    taken = "port 80 of this host is taken"
    assert ports.by_container(any_protocol, "x", None) == f"{taken} by the container x"
    assert ports.by_container(any_protocol, "web-app-1", "web") == (
        f"{taken} by the container web-app-1 of the stack web"
    )
    taken = "port 80/tcp of this host is taken"
    ask = "(ss -lpn sport = :80 names it)"
    assert ports.by_process(tcp, None) == f"{taken}, and not by a container {ask}"
    assert ports.by_process(tcp, Listener("www")) == f"{taken} by a process of www {ask}"
    assert ports.by_process(tcp, Listener("www", 7, "nginx")) == (
        f"{taken} by nginx (process 7 of www)"
    )


@pytest.mark.parametrize(
    ("kind", "family", "address"),
    [
        (socket.SOCK_STREAM, socket.AF_INET, "127.0.0.1"),
        (socket.SOCK_STREAM, socket.AF_INET6, "::1"),
        (socket.SOCK_DGRAM, socket.AF_INET, "127.0.0.1"),
    ],
)
def test_the_process_that_listens_on_a_port_is_found(
    kind: socket.SocketKind, family: socket.AddressFamily, address: str
) -> None:
    with socket.socket(family, kind) as mine:
        try:
            mine.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no such addresses")
        if kind is socket.SOCK_STREAM:
            mine.listen()
        protocol = "tcp" if kind is socket.SOCK_STREAM else "udp"
        for port in (Port(mine.getsockname()[1], protocol), Port(mine.getsockname()[1])):
            found = listeners.find(port)
            assert found
            assert found.process == os.getpid()
            assert found.command == Path("/proc/self/comm").read_text().strip()
    assert listeners.find(port) is None
