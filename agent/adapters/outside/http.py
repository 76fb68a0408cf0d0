"""One request to a server outside, on a connection of its own that ends with it.

Of the answer the head is read, which is bounded, and as much of the body as the caller allows. No
redirect is followed, so that what the request carries goes where the configuration says and nowhere
else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread
from msgspec import Struct

from agent.adapters.http1 import Connection
from agent.adapters.probes import http_errors
from agent.domain.errors import UnreachableError

_PORTS = {"http": 80, "https": 443}
_HAPPY_EYEBALLS_S = 0.25
_OK = 200
_PLAIN = "/%:@!$&'()*+,;=~?"
"""What of a path and a query is written as it is."""


class Reply(Struct, frozen=True):
    """How a server answered; names of headers are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def retry_after_s(self) -> float | None:
        """For how long it wants to be left alone; None: it does not say."""
        return http_errors.retry_after(self.headers.get("retry-after", ""))


async def ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None = None,
    *,
    ca_file: Path | None = None,
    trust: ssl.SSLContext | None = None,
    within_s: float = 20.0,
    most: int = 0,
) -> Reply:
    """Send it, and return how it was answered, within that many seconds.

    ``trust`` is what was made of ``ca_file`` before: that takes 30 ms. ``most`` is how many bytes
    the body of an answer with the status 200 may have; no other body is read.

    Raises :class:`UnreachableError`, which shows nothing of the headers or the url but its host.
    """
    try:
        with anyio.fail_after(within_s):
            if trust is None and urlsplit(url).scheme == "https":
                trust = await anyio.to_thread.run_sync(trusted, ca_file)
            return await _ask(method, url, headers, body, trust=trust, most=most)
    except TimeoutError:
        raise UnreachableError(f"no answer within {within_s:g} s") from None


async def _ask(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    *,
    trust: ssl.SSLContext | None,
    most: int,
) -> Reply:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        reader, writer = await asyncio.open_connection(
            host,
            parts.port or _PORTS[parts.scheme],
            ssl=trust if parts.scheme == "https" else None,
            server_hostname=host.rstrip(".") if parts.scheme == "https" else None,
            happy_eyeballs_delay=_HAPPY_EYEBALLS_S,
        )
    except (OSError, ValueError) as err:
        raise UnreachableError(http_errors.unconnected(err, host)) from None
    connection = Connection(reader, writer)
    target = quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=_PLAIN)
    fields = {
        "Host": _authority(host, parts.port),
        "User-Agent": "commitd",
        "Connection": "close",
        "Accept-Encoding": "identity",
    }
    try:
        answer = await connection.ask(method, target, fields | dict(headers), body)
        said = await answer.body(most) if most and answer.status == _OK else b""
    except (OSError, ValueError) as err:
        raise UnreachableError(http_errors.failure(err)) from None
    finally:
        connection.abort()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()  # then the socket is closed
    return Reply(answer.status, answer.headers, said)


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """Whom to believe. Blocks; raises :class:`UnreachableError`."""
    try:
        return http_errors.trust(ca_file)
    except OSError:  # ssl.SSLError too
        raise UnreachableError(f"{ca_file} cannot be used as ca_file") from None


def _authority(host: str, port: int | None) -> str:
    name = host if host.isascii() else host.encode("idna").decode()
    name = f"[{name}]" if ":" in name else name
    return f"{name}:{port}" if port else name
