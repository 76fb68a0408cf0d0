"""The warm probe over HTTP(S): one connection that is kept, one request an ask.

The first ask learns what the server speaks. When that is version 2, later ones
are a single POST; otherwise each is the GET that lists everything.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import anyio
import anyio.lowlevel
import anyio.to_thread

from agent.adapters.http1 import Answer as HttpAnswer
from agent.adapters.http1 import Connection, NoHttpError
from agent.adapters.probes import http_errors
from agent.adapters.probes.base import CONNECT_S, Probe, StaleError
from agent.domain.compose import redact
from agent.domain.config import Remote
from agent.domain.errors import BusyError, UnreachableError
from agent.domain.source import git_protocol
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import RefAnswer, Script, Session, Version2

_SERVICE = "git-upload-pack"
_HAPPY_EYEBALLS_S = 0.25
_PORTS = {"http": 80, "https": 443}
_PLAIN_PATH = "/%:@!$&'()*+,;=~"
"""What of a path is written as it is."""
_HEADERS = {
    # Forges, and the gates before some of them, know a Git client by the start of its name.
    "User-Agent": "git/2.39 (commitd)",
    "Git-Protocol": git_protocol.PROTOCOL,
    "Accept-Encoding": "identity",
    "Pragma": "no-cache",
}

T = TypeVar("T")
_Stamp = tuple[int, int, int] | None


class HttpProbe(Probe):
    """Asks over HTTPS, or HTTP where the host's configuration says so; follows no redirect."""

    def __init__(self, remote: Remote, branch: str) -> None:
        super().__init__(remote, branch)
        url = urlsplit(remote.url)
        self._host = url.hostname or ""
        self._port = url.port or _PORTS.get(url.scheme, 0)
        self._path = quote(url.path.rstrip("/"), safe=_PLAIN_PATH)
        self._headers: dict[str, str] | None = None
        self._connection: Connection | None = None
        self._server: Version2 | None = None
        self._proven = False
        self._secrets: tuple[str, ...] = ()
        self._trust: tuple[_Stamp, ssl.SSLContext] | None = None

    async def _ask(self) -> RefAnswer:
        kept = self._proven
        headers = self._headers = self._headers or await self._prepared()
        connection = await self._connected()
        try:
            said = await self._said(connection, headers)
        except (OSError, ValueError) as err:
            known = http_errors.failure(err)
            if kept and isinstance(err, OSError | NoHttpError):
                raise StaleError(known) from None
            raise UnreachableError(known) from None
        self._proven = True
        return said

    async def _said(self, connection: Connection, headers: dict[str, str]) -> RefAnswer:
        if self._server is None:
            target = f"{self._path}/info/refs?service={_SERVICE}"
            script = git_protocol.advertised(self.branch, smart_http=True)
            answer = await connection.ask("GET", target, headers | {"Accept": "*/*"})
            first = await self._read(answer, "advertisement", script)
            if isinstance(first, RefAnswer):
                return first
            self._server = first
        said = await self._list(headers, self._server, wide=False)
        if said.answer is Answer.EMPTY:
            said = await self._list(headers, self._server, wide=True)
        return said

    async def _list(self, headers: dict[str, str], server: Version2, *, wide: bool) -> RefAnswer:
        connection = await self._connected()
        answer = await connection.ask(
            "POST",
            f"{self._path}/{_SERVICE}",
            headers
            | {
                "Content-Type": f"application/x-{_SERVICE}-request",
                "Accept": f"application/x-{_SERVICE}-result",
            },
            git_protocol.ls_refs(self.branch, server, wide=wide),
        )
        return await self._read(
            answer, "result", git_protocol.listed(self.branch, server, wide=wide)
        )

    async def _read(self, answer: HttpAnswer, kind: str, script: Script[T]) -> T:
        if answer.status != 200:  # noqa: PLR2004
            raise self._refusal(answer)
        if _media_type(answer) != f"application/x-{_SERVICE}-{kind}":
            raise git_protocol.BadAnswerError("what answers there is not a Git server")
        if "content-encoding" in answer.headers:
            raise git_protocol.BadAnswerError("the answer is compressed, which was not asked for")
        session = Session(script)
        try:
            async for piece in answer.pieces():
                session.feed(piece)
            said = session.end()
        except UnreachableError as err:
            # The server knows the token and could say it back to us.
            clean = type(err)(redact.text(err.message, self._secrets))
        else:
            if not answer.reusable:
                self._part()
            return said
        raise clean

    def _refusal(self, response: HttpAnswer) -> UnreachableError:
        status, wish = response.status, response.headers.get("retry-after", "")
        token_file = self.remote.token_file
        match status:
            case 401 if self._proven:  # the token may have been replaced since it was read
                return StaleError("401: the server does not accept the token any more")
            case 401 if token_file:
                return UnreachableError(
                    f"401: the server does not accept the token in {token_file}"
                )
            case 401:
                return UnreachableError(
                    "401: the server wants a token", hint="set username: and token_file:"
                )
            case 408 if self._proven:  # the connection was idle for longer than it may be
                return StaleError("408: the server waited for the question for too long")
            case 403:
                return UnreachableError("403: reading this repository is forbidden")
            case 404:
                return UnreachableError(
                    "404: there is no such repository, or this token may not see it"
                )
            case 429:
                return BusyError(
                    "429: too many requests", retry_after_s=http_errors.retry_after(wish)
                )
            case 503:
                return BusyError("503: out of service", retry_after_s=http_errors.retry_after(wish))
            case _ if 300 <= status < 400:  # noqa: PLR2004
                to = _host(response.headers.get("location", ""))
                return UnreachableError(
                    f"{status}: the server sends us {to}",
                    hint="redirects are not followed; write the repository's own url",
                )
            case _ if status >= 500:  # noqa: PLR2004
                return UnreachableError(f"{status}: the server has failed")
            case _:
                return UnreachableError(f"{status}: the server does not answer the question")

    async def _prepared(self) -> dict[str, str]:
        """The headers of all requests, with the token as it is now."""
        remote = self.remote
        if remote.scheme != "https" and not remote.plain_http:
            raise UnreachableError("plain http is not allowed", hint="say plain_http: true")
        headers = {"Host": _netloc(remote.url), **_HEADERS}
        if remote.token_file:
            token = await anyio.to_thread.run_sync(_token, remote.token_file)
            pair = f"{remote.username or 'git'}:{token}".encode()
            basic = base64.b64encode(pair).decode()
            headers["Authorization"] = f"Basic {basic}"
            self._secrets = (token, basic)
        return headers

    async def _connected(self) -> Connection:
        """The connection there is, or a new one. Raises :class:`UnreachableError`."""
        if self._connection is not None and await self._connection.is_idle():
            return self._connection
        self._part()
        trust = await self._trusted() if self.remote.scheme == "https" else None
        try:
            with anyio.fail_after(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    self._host,
                    self._port,
                    ssl=trust,
                    # The dot that ends a whole name is not in certificates.
                    server_hostname=self._host.rstrip(".") if trust else None,
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_S,
                )
        except TimeoutError:
            raise UnreachableError(f"no connection within {CONNECT_S:g} s") from None
        except (OSError, ValueError) as err:
            raise UnreachableError(http_errors.unconnected(err, self._host)) from None
        self._connection = Connection(reader, writer)
        return self._connection

    def _part(self) -> None:
        """End the connection, with no farewell that the other side could draw out."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    async def _trusted(self) -> ssl.SSLContext:
        """Whom to believe; built anew only when the file has changed, for that takes 30 ms."""
        stamp, context = await anyio.to_thread.run_sync(_trust, self.remote.ca_file, self._trust)
        self._trust = stamp, context
        return context

    async def _drop(self) -> None:
        self._headers = None
        self._server = None
        self._proven = False
        if self._connection is not None:
            self._part()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()  # then the socket is closed


def _token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise UnreachableError(f"the token in {path} cannot be read") from None
    if not token:
        raise UnreachableError(f"{path} holds no token")
    return token


def _trust(
    ca_file: Path | None, before: tuple[_Stamp, ssl.SSLContext] | None
) -> tuple[_Stamp, ssl.SSLContext]:
    try:
        stamp = None
        if ca_file:
            info = ca_file.stat()
            stamp = (info.st_mtime_ns, info.st_ino, info.st_size)
        if before and before[0] == stamp:
            return before
        return stamp, http_errors.trust(ca_file)
    except OSError:  # ssl.SSLError too
        raise UnreachableError(f"{ca_file} cannot be used as ca_file") from None


def _host(location: str) -> str:
    """Where a redirect leads, and no more of it: the rest could hold anything."""
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    return f"to {git_protocol.plain(host.encode(errors='replace'))}" if host else "elsewhere"


def _media_type(answer: HttpAnswer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def _netloc(url: str) -> str:
    """The host of the url and its port, if one is written there, as servers are told it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode()
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{parts.port}" if parts.port else host
