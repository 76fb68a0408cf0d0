"""The warm probe over HTTP before servers that do what the standard lets them."""

from __future__ import annotations

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
    from pathlib import Path


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
