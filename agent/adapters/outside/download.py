"""Fetching a file from a server outside, whose sum is known.

Bounded in size and time, both as a whole and between two pieces. A redirect is followed only to
where the file may be fetched from by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread

from agent.adapters.http1 import Connection
from agent.adapters.outside import http
from agent.adapters.probes import http_errors
from agent.domain.errors import PermanentError, TransientError, UnreachableError

_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 5
_OK = 200
_CONNECT_S = 20.0
_IDLE_S = 30.0
_PLAIN = "/%:@!$&'()*+,;=~?"


async def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    most: int,
    within_s: float,
    may_be: Callable[[str], bool],
    ca_file: Path | None = None,
) -> None:
    """Write the file at ``url`` to ``target``, if it has that sum and ``most`` bytes at most.

    ``may_be`` is whether a URL may be asked. Raises :class:`PermanentError` for what is not what
    was asked for, :class:`TransientError` for what may work later; then ``target`` is of no use.
    """
    try:
        with anyio.fail_after(within_s):
            trust = await anyio.to_thread.run_sync(http.trusted, ca_file)
            for _ in range(_MOST_REDIRECTS):
                following = await _get(url, target, sha256, most=most, trust=trust)
                if following is None:
                    return
                if not may_be(following):
                    raise PermanentError(
                        "the server leads to where nothing is fetched from: "
                        f"{urlsplit(following).scheme}://{urlsplit(following).hostname}"
                    )
                url = following
            raise PermanentError("the server leads from one place to the next")
    except TimeoutError:
        raise UnreachableError(f"the package did not come within {within_s:g} s") from None


async def _get(
    url: str, target: Path, sha256: str, *, most: int, trust: ssl.SSLContext
) -> str | None:
    """Fetch it; where the server leads to instead, or None."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    try:
        with anyio.fail_after(_CONNECT_S):
            reader, writer = await asyncio.open_connection(
                host,
                parts.port or _PORTS[parts.scheme],
                ssl=trust if tls else None,
                server_hostname=host.rstrip(".") if tls else None,
            )
    except TimeoutError:
        raise UnreachableError(f"{host} cannot be connected to") from None
    except (OSError, ValueError) as err:
        raise UnreachableError(http_errors.unconnected(err, host)) from None
    connection = Connection(reader, writer)
    path = quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=_PLAIN)
    fields = {
        "Host": parts.netloc,
        "User-Agent": "commitd",
        "Connection": "close",
        "Accept-Encoding": "identity",
    }
    try:
        with anyio.fail_after(_IDLE_S):
            answer = await connection.ask("GET", path, fields)
        if answer.status in _REDIRECTS and (location := answer.headers.get("location")):
            return urljoin(url, location)
        if answer.status != _OK:
            raise UnreachableError(f"{host} answers {answer.status}")
        found = await _write(answer.pieces().__aiter__(), target, most)
    except TimeoutError:
        raise UnreachableError(f"{host} has said nothing for {_IDLE_S:g} s") from None
    except (OSError, ValueError) as err:
        raise UnreachableError(http_errors.failure(err)) from None
    finally:
        connection.abort()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
    if found != sha256:
        raise PermanentError(f"the package has the sum {found}, not {sha256}")
    return None


async def _write(pieces: object, target: Path, most: int) -> str:
    """Write what comes; the sum of it."""
    digest, size = hashlib.sha256(), 0
    try:
        async with await anyio.open_file(target, "wb") as file:
            while True:
                with anyio.fail_after(_IDLE_S):
                    piece = await anext(pieces, None)  # type: ignore[call-overload]
                if piece is None:
                    return digest.hexdigest()
                size += len(piece)
                if size > most:
                    raise PermanentError(f"the package has more than {most // 1024**2} MiB")
                digest.update(piece)
                try:
                    await file.write(piece)
                except OSError as err:
                    raise TransientError(
                        f"the package cannot be written: {err.strerror}", where=str(target)
                    ) from None
    except OSError as err:
        if isinstance(err, TimeoutError | ConnectionError):
            raise
        raise TransientError(
            f"the package cannot be written: {err.strerror}", where=str(target)
        ) from None
