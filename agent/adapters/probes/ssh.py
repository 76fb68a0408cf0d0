"""The warm probe over SSH: one connection that is kept, one channel an ask.

Not one channel for all asks, though version 2 would allow it: ``git upload-pack`` reads the refs
once in its life, so a session that stays open shows for ever the head it showed first.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from socket import gaierror
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters.git.git import Channel
from agent.adapters.probes import ssh_channel
from agent.adapters.probes.asyncssh_import import asyncssh
from agent.adapters.probes.base import ASK_S, CLOSE_S, CONNECT_S, Probe, StaleError, reason
from agent.domain.config import Remote
from agent.domain.errors import UnreachableError
from agent.domain.source import git_protocol
from agent.domain.source.git_protocol import RefAnswer, Session

# At its usual level it tells of every channel, which costs time and says nothing.
asyncssh.set_log_level("WARNING")

KEEPALIVE_S = 30.0
_KEEPALIVES = 3
_PORT = 22
_COMPLAINT_MAX = 4096
_WINDOW = 128 * 1024
"""Bytes the server may have under way; more of them wait for us, not in our memory."""

_CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"
"""Put first: of what asyncssh has, these cost a third less an ask than ChaCha20."""

_SCP = re.compile(r"(?P<user>[^@/]+)@(?P<host>[^:/]+):(?P<path>.+)")

T = TypeVar("T")


class Address(Struct, frozen=True):
    """Where a repository is; ``user`` None: the account the agent runs as."""

    host: str
    port: int
    user: str | None
    path: str


def address(url: str) -> Address:
    """Read ``ssh://[user@]host[:port]/path`` or ``user@host:path`` as Git does."""
    if "://" not in url and (match := _SCP.fullmatch(url)):
        return Address(match["host"], _PORT, match["user"], match["path"])
    parts = urlsplit(url)
    path = unquote(parts.path)
    if path.startswith("/~"):
        path = path[1:]
    user = unquote(parts.username) if parts.username else None
    return Address(parts.hostname or "", parts.port or _PORT, user, path)


def command(path: str) -> str:
    """What the server is asked to run; quoted in the one way that git-shell understands."""
    quoted = path.replace("'", "'\\''").replace("!", "'\\!'")
    return f"git-upload-pack '{quoted}'"


class SshProbe(Probe):
    """Asks over SSH. Host keys from ``known_hosts`` only, the one client key, nothing else."""

    def __init__(self, remote: Remote, branch: str) -> None:
        super().__init__(remote, branch)
        self._address = address(remote.url)
        self._command = command(self._address.path)
        self._connection: asyncssh.SSHClientConnection | None = None

    async def _ask(self) -> RefAnswer:
        kept = self._connection
        if kept is not None and kept.is_closed():
            await self._drop()
            kept = None
        connection = self._connection = kept or await self._connect()
        try:
            return await self._exchange(connection)
        except (asyncssh.Error, OSError) as err:
            kind = StaleError if kept else UnreachableError
            raise kind(f"the connection broke: {_words(err)}") from None

    async def _exchange(self, connection: asyncssh.SSHClientConnection) -> RefAnswer:
        asked = _Channel(Session(git_protocol.over_stream(self.branch)))
        channel, _ = await connection.create_session(
            lambda: asked,
            self._command,
            env={"GIT_PROTOCOL": git_protocol.PROTOCOL},
            request_pty=False,
            encoding=None,
            window=_WINDOW,
        )
        await asked.done.wait()
        said = asked.said()
        channel.close()
        # One that lingers would fill the connection up, ask by ask.
        with anyio.move_on_after(CLOSE_S) as scope:
            await channel.wait_closed()
        if scope.cancelled_caught:
            await self._drop()
        return said

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel | None]:
        """One of the connection there is, see ssh_channel.py."""
        connection = self._connection
        if connection is None or connection.is_closed():
            yield None
            return
        lent = ssh_channel.channel(
            connection, self._command, window=_WINDOW, keepalive_s=KEEPALIVE_S
        )
        async with lent as found:
            yield found

    async def _connect(self) -> asyncssh.SSHClientConnection:
        remote = self.remote
        if remote.ssh_key is None or remote.known_hosts is None:
            raise UnreachableError("an ssh remote needs ssh_key and known_hosts")
        known_hosts = await _loaded(asyncssh.read_known_hosts, remote.known_hosts)
        key = await _loaded(asyncssh.read_private_key, remote.ssh_key)
        where = self._address
        identity = {"username": where.user} if where.user else {}
        try:
            with anyio.fail_after(CONNECT_S):
                return await asyncssh.connect(
                    where.host,
                    where.port,
                    config=None,
                    known_hosts=known_hosts,
                    x509_trusted_certs=None,
                    x509_trusted_cert_paths=[],
                    client_keys=[key],
                    preferred_auth=["publickey"],
                    password_auth=False,
                    kbdint_auth=False,
                    host_based_auth=False,
                    gss_auth=False,
                    gss_kex=False,
                    agent_path=None,
                    agent_forwarding=False,
                    pkcs11_provider=None,
                    x11_forwarding=False,
                    compression_algs=None,
                    encryption_algs=_CIPHERS,
                    keepalive_interval=KEEPALIVE_S,
                    keepalive_count_max=_KEEPALIVES,
                    login_timeout=ASK_S,
                    **identity,
                )
        except TimeoutError:
            raise UnreachableError(f"no connection within {CONNECT_S:g} s") from None
        except asyncssh.HostKeyNotVerifiable:
            raise UnreachableError(
                f"the host key of {where.host} is not the one in {remote.known_hosts}"
            ) from None
        except asyncssh.PermissionDenied:
            raise UnreachableError(f"the server does not accept {remote.ssh_key}") from None
        except gaierror:
            raise UnreachableError(f"the name {where.host} is unknown") from None
        except OSError as err:
            raise UnreachableError(f"cannot connect: {_words(err)}") from None
        # What a stranger sends before it has proved who it is goes through a large library, which
        # hands on whatever any part of it raises.
        except Exception as err:  # noqa: BLE001
            raise UnreachableError(
                f"the server does not speak SSH as it should: {_words(err)}"
            ) from None

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
            with anyio.move_on_after(CLOSE_S, shield=True):
                await connection.wait_closed()


class _Channel(asyncssh.SSHClientSession[bytes]):
    """One channel: passes bytes between the server and a session until that has ended."""

    def __init__(self, session: Session[RefAnswer]) -> None:
        self.done = anyio.Event()
        self._session = session
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._error: Exception | None = None
        self._complaint = bytearray()

    def said(self) -> RefAnswer:
        """The answer, or the error in its place; call it when ``done``."""
        if self._error is not None:
            raise self._error
        try:
            return self._session.end()
        except git_protocol.BadAnswerError:
            if self._complaint:
                said = git_protocol.plain(bytes(self._complaint))
                raise UnreachableError(f"the server says: {said}") from None
            raise

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if self.done.is_set():
            return
        if datatype is not None:
            self._complaint += data[: _COMPLAINT_MAX - len(self._complaint)]
            return
        try:
            answer = self._session.feed(data)
        except UnreachableError as err:
            self._error = err
            self.done.set()
            return
        if self._session.result is not None:
            answer = git_protocol.ENDING
            self.done.set()
        if answer and self._channel is not None:
            self._channel.write(answer)

    def eof_received(self) -> bool:
        self.done.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.done.is_set():
            known = isinstance(exc, asyncssh.Error | OSError)
            self._error = exc if known else asyncssh.ConnectionLost(type(exc).__name__)
        self.done.set()


async def _loaded(read: Callable[[str], T], path: Path) -> T:
    try:
        return await anyio.to_thread.run_sync(partial(read, str(path)))
    except OSError as err:
        raise UnreachableError(f"{path} cannot be read: {err.strerror}") from None
    except ValueError as err:  # the text may quote the file
        locked = "assphrase" in str(err)
        what = "is locked with a passphrase" if locked else "is not a file of its kind"
        raise UnreachableError(f"{path} {what}") from None


def _words(err: Exception) -> str:
    if isinstance(err, OSError) and err.errno:
        return reason(err)
    return git_protocol.plain(str(err).encode(errors="replace")) or type(err).__name__
