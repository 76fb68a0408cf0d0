"""The warm probe over HTTP before servers that do what the standard lets them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.probes.http import HttpProbe
from agent.domain.config import Remote
from agent.domain.errors import UnreachableError
from tests.unit import git_servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHA = "a" * 40
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def head() -> bytes:
    """A whole answer of a Git server that speaks no version 2."""
    lines = (b"# service=git-upload-pack\n", None, f"{SHA} refs/heads/main\0\n".encode(), None)
    body = b"".join(b"0000" if line is None else b"%04x" % (len(line) + 4) + line for line in lines)
    kind = b"Content-Type: application/x-git-upload-pack-advertisement\r\n"
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (kind, len(body), body)


def asked(connections: list[list[bytes]], asks: int) -> list[str | None]:
    """What a probe finds that asks so often; on each connection the server says these in turn."""
    todo: Iterator[list[bytes]] = iter(connections)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for said in next(todo):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(said)
        writer.close()

    async def main() -> list[str | None]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
        probe = HttpProbe(Remote(name="gitea", url=url, plain_http=True), "main")
        try:
            return [(await probe.ask()).sha for _ in range(asks)]
        finally:
            await probe.aclose()
            server.close()
            await server.wait_closed()

    return anyio.run(main)


@pytest.mark.parametrize(
    "first",
    [
        [head() + TIMED_OUT],
        [head(), TIMED_OUT],
        [head(), b"\x15\x03\x03 no HTTP at all\r\n"],
        [head(), b"HTTP/1.1 nonsense\r\n\r\n"],
        [head(), b""],
    ],
    ids=["408 unasked", "408", "no HTTP", "no status", "end"],
)
def test_a_kept_connection_of_no_use_does_not_make_a_remote_down(first: list[bytes]) -> None:
    assert asked([first, [head(), head()]], 3) == [SHA] * 3


def test_what_is_no_answer_on_a_new_connection_is_one_of_the_server() -> None:
    with pytest.raises(UnreachableError, match="408"):
        asked([[TIMED_OUT]], 1)
    with pytest.raises(UnreachableError, match="speak HTTP"):
        asked([[b"no HTTP at all\r\n"]], 1)


def test_the_dot_that_ends_a_name_is_not_told_in_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = git_servers.certificate(tmp_path, days=1)
    context.load_cert_chain(certificate, tmp_path / "key.pem")
    context.sni_callback = lambda _, name, __: found.append(name)
    resolve = socket.getaddrinfo

    def resolved(host: str, *more: Any, **rest: Any) -> Any:
        return resolve("127.0.0.1" if host == "host." else host, *more, **rest)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as connection:
                context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"https://host.:{listener.getsockname()[1]}/x"
        probe = HttpProbe(Remote(name="gitea", url=url), "main")
        with pytest.raises(UnreachableError, match="not trusted"):
            anyio.run(probe.ask)
        thread.join(10)
    assert found == ["host"]
