"""The warm probe over HTTP(S): one connection that is kept, one request an ask.

The first ask on a connection learns what the server speaks. When that is version 2, later ones
are a single POST; otherwise each is the GET that lists everything.
"""

from __future__ import annotations

import base64
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp
import anyio.to_thread

from agent.adapters.probes import http_errors
from agent.adapters.probes.base import CLOSE_S, CONNECT_S, Probe, StaleError
from agent.domain.compose import redact
from agent.domain.config import Remote
from agent.domain.errors import BusyError, UnreachableError
from agent.domain.source import git_protocol
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import RefAnswer, Script, Session, Version2

_SERVICE = "git-upload-pack"
_KEEP_S = 3600.0
"""The server ends idle connections when it likes, which is sooner."""
_TICK_S = 0.005
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
        self._base = remote.url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._server: Version2 | None = None
        self._proven = False
        self._secrets: tuple[str, ...] = ()
        self._trust: tuple[_Stamp, ssl.SSLContext] | None = None
        self._sockets: WeakSet[socket.socket] = WeakSet()

    async def _ask(self) -> RefAnswer:
        if self._session is None:
            self._session = await self._open()
        kept = self._proven
        try:
            said = await self._said(self._session)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as err:
            known = http_errors.failure(err, CONNECT_S)
            if kept and not isinstance(err, aiohttp.ClientConnectorError):
                raise StaleError(known) from None
            raise UnreachableError(known) from None
        except (aiohttp.ClientError, ValueError) as err:
            raise UnreachableError(http_errors.failure(err, CONNECT_S)) from None
        self._proven = True
        return said

    async def _said(self, session: aiohttp.ClientSession) -> RefAnswer:
        if self._server is None:
            url = f"{self._base}/info/refs?service={_SERVICE}"
            script = git_protocol.advertised(self.branch, smart_http=True)
            async with session.get(url, allow_redirects=False) as response:
                first = await self._read(response, "advertisement", script)
            if isinstance(first, RefAnswer):
                return first
            self._server = first
        said = await self._list(session, self._server, wide=False)
        if said.answer is Answer.EMPTY:
            said = await self._list(session, self._server, wide=True)
        return said

    async def _list(
        self, session: aiohttp.ClientSession, server: Version2, *, wide: bool
    ) -> RefAnswer:
        async with session.post(
            f"{self._base}/{_SERVICE}",
            data=git_protocol.ls_refs(self.branch, server, wide=wide),
            headers={
                "Content-Type": f"application/x-{_SERVICE}-request",
                "Accept": f"application/x-{_SERVICE}-result",
            },
            allow_redirects=False,
        ) as response:
            script = git_protocol.listed(self.branch, server, wide=wide)
            return await self._read(response, "result", script)

    async def _read(self, response: aiohttp.ClientResponse, kind: str, script: Script[T]) -> T:
        if response.status != 200:  # noqa: PLR2004
            raise self._refusal(response)
        if response.content_type != f"application/x-{_SERVICE}-{kind}":
            raise git_protocol.BadAnswerError("what answers there is not a Git server")
        if "Content-Encoding" in response.headers:
            raise git_protocol.BadAnswerError("the answer is compressed, which was not asked for")
        session = Session(script)
        try:
            async for chunk in response.content.iter_any():
                session.feed(chunk)
            return session.end()
        except UnreachableError as err:
            # The server knows the token and could say it back to us.
            clean = type(err)(redact.text(err.message, self._secrets))
        raise clean

    def _refusal(self, response: aiohttp.ClientResponse) -> UnreachableError:
        status = response.status
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
            case 403:
                return UnreachableError("403: reading this repository is forbidden")
            case 404:
                return UnreachableError(
                    "404: there is no such repository, or this token may not see it"
                )
            case 429:
                return BusyError(
                    "429: too many requests", retry_after_s=http_errors.retry_after(response)
                )
            case 503:
                return BusyError(
                    "503: out of service", retry_after_s=http_errors.retry_after(response)
                )
            case _ if 300 <= status < 400:  # noqa: PLR2004
                to = _host(response.headers.get("Location", ""))
                return UnreachableError(
                    f"{status}: the server sends us {to}",
                    hint="redirects are not followed; write the repository's own url",
                )
            case _ if status >= 500:  # noqa: PLR2004
                return UnreachableError(f"{status}: the server has failed")
            case _:
                return UnreachableError(f"{status}: the server does not answer the question")

    async def _open(self) -> aiohttp.ClientSession:
        remote = self.remote
        headers = dict(_HEADERS)
        if remote.scheme != "https" and not remote.plain_http:
            raise UnreachableError("plain http is not allowed", hint="say plain_http: true")
        if remote.token_file:
            token = await anyio.to_thread.run_sync(_token, remote.token_file)
            pair = f"{remote.username or 'git'}:{token}".encode()
            basic = base64.b64encode(pair).decode()
            headers["Authorization"] = f"Basic {basic}"
            self._secrets = (token, basic)
        trust = await self._trusted() if remote.scheme == "https" else True
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=1, keepalive_timeout=_KEEP_S, ssl=trust, socket_factory=self._socket
            ),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def _trusted(self) -> ssl.SSLContext:
        """Whom to believe; built anew only when the file has changed, for that takes 30 ms."""
        stamp, context = await anyio.to_thread.run_sync(_trust, self.remote.ca_file, self._trust)
        self._trust = stamp, context
        return context

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        made = socket.socket(*info[:3])
        self._sockets.add(made)
        return made

    async def _drop(self) -> None:
        session, self._session = self._session, None
        self._server = None
        self._proven = False
        if session is None:
            return
        with anyio.move_on_after(CLOSE_S, shield=True):
            await session.close()
            # A request that was cut short leaves its connection to say farewell in TLS, for half
            # a minute if the other side does not answer.
            while left := [each for each in self._sockets if each.fileno() >= 0]:
                for each in left:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)
                await anyio.sleep(_TICK_S)


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
