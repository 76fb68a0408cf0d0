"""Who may ask what.

on the socket   the kernel says who asks (SO_PEERCRED), whatever the file's mode lets in:
root                     everything
group of api.writers     reads and orders
group commitd            reads
on TCP          reads alone, for whoever
calls the agent by a name of its own (Host), against DNS rebinding, and
shows the token, where there is one, or
is known by a cookie that the page gave for it
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import platform
import socket
from collections.abc import Callable, Collection, Iterable
from enum import IntEnum
from typing import Protocol, cast

import anyio.to_thread
from aiohttp import web
from aiohttp.typedefs import Middleware
from msgspec import Struct

from agent.adapters.host import peer
from agent.domain.config import Config
from agent.surface.api.errors import ApiError, Handler

_READING = frozenset({"GET", "HEAD"})


class Right(IntEnum):
    """What someone may do; each includes those before."""

    NOTHING = 0
    READ = 1
    WRITE = 2
    ROOT = 3


class Caller(Struct, frozen=True):
    """Who asks, and what he may do: a ``user`` of this machine, or somebody at ``place``."""

    right: Right
    user: int | None = None
    place: str = ""

    @property
    def name(self) -> str:
        """For the log. Blocks: what knows the users of this machine may be a server elsewhere."""
        return f"somebody at {self.place}" if self.user is None else peer.named(self.user)


CALLER = web.RequestKey("caller", Caller)


class Access(Protocol):
    """Of one listener."""

    def caller(self, request: web.Request) -> Caller:
        """Who asks. Raises :class:`ApiError` for those who may not even do that."""
        ...

    def check_host(self, request: web.Request) -> None:
        """Raises :class:`ApiError` where another host was meant."""
        ...

    def admits(self, request: web.Request) -> bool:
        """Whether one that was let in still would be."""
        ...


class SocketAccess:
    """On the Unix socket: by what the kernel knows of the process at the other end.

    ``readers`` and ``writers`` are numbers of groups, None where there is none.
    """

    def __init__(self, readers: int | None, writers: int | None) -> None:
        self._readers = readers
        self._writers = writers

    def caller(self, request: web.Request) -> Caller:
        """Who asks."""
        connection = request.get_extra_info("socket")
        if connection is None:
            raise ConnectionResetError
        try:
            found = peer.peer_of(cast("socket.socket", connection))
        except OSError:
            raise ConnectionResetError from None
        return Caller(self._right(found), user=found.user)

    def check_host(self, request: web.Request) -> None:
        """It is this one: the socket is a file of it."""

    def admits(self, request: web.Request) -> bool:  # noqa: ARG002
        """It does: what the kernel knows of the other end does not change."""
        return True

    def _right(self, found: peer.Peer) -> Right:
        if found.user in {0, os.geteuid()}:
            return Right.ROOT
        if self._writers in found.groups:
            return Right.WRITE
        return Right.READ if self._readers in found.groups else Right.NOTHING


class TcpAccess:
    """On TCP: by the ``token`` (None: none is needed) and by one of ``names`` as Host.

    The address that was called is one of them.
    """

    def __init__(self, names: Iterable[str], token: bytes | None) -> None:
        self._names = frozenset(map(_name, names))
        self._token = token
        self.knows: Callable[[web.Request], bool] = _nobody
        """Whether a browser has shown the token before."""

    @property
    def needs_token(self) -> bool:
        """Whether there is one."""
        return self._token is not None

    def fits(self, token: str) -> bool:
        """Whether this is the token, in the same time for each that it is not."""
        given = token.encode(errors="surrogateescape")
        return self._token is not None and hmac.compare_digest(given, self._token)

    def caller(self, request: web.Request) -> Caller:
        """Who asks: somebody who may read."""
        self.check_host(request)
        if not self.admits(request):
            raise ApiError(401, "a bearer token is needed", "Authorization: Bearer TOKEN")
        return Caller(Right.READ, place=str(request.remote))

    def admits(self, request: web.Request) -> bool:
        """Whether it comes with the token, of a browser that has shown it, or needs none."""
        return not self.needs_token or self._shown(request) or self.knows(request)

    def check_host(self, request: web.Request) -> None:
        """Raises :class:`ApiError` where this host is called by a name that it has not got."""
        called = request.get_extra_info("sockname") or ("",)
        if not self._is_ours(request.headers.getall("Host", []), _name(str(called[0]))):
            hint = "ask by the name or the address of this host; api.hosts allows further names"
            raise ApiError(421, "this host is not called so", hint)

    def _shown(self, request: web.Request) -> bool:
        shown = request.headers.getall("Authorization", [])
        scheme, _, token = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
        return scheme.lower() == "bearer" and self.fits(token.strip())

    def _is_ours(self, hosts: list[str], called: str) -> bool:
        if len(hosts) != 1:
            return False
        name, _, port = hosts[0].rpartition(":")
        name = _name(name if port.isdecimal() else hosts[0])
        return name in self._names or name == called


def _nobody(_: web.Request) -> bool:
    return False


def names(config: Config) -> set[str]:
    """What this host may be called by those who ask by TCP, beside its addresses."""
    return {"localhost", platform.node(), config.host, *config.api.hosts}


def _name(written: str) -> str:
    """As it is compared: an address of IPv4 that came by IPv6 is what its user has written."""
    name = written.strip("[]").lower().rstrip(".")
    try:
        found = ipaddress.ip_address(name)
    except ValueError:
        return name
    return str(getattr(found, "ipv4_mapped", None) or found)


def admitting(access: Access, to_all: Collection[str] = ()) -> Middleware:
    """Lets those through who may, as far as the method tells; on the paths ``to_all`` everybody
    who calls this host by a name of its own.
    """

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in to_all:
            access.check_host(request)
            return await handler(request)
        caller = request[CALLER] = access.caller(request)
        wanted = Right.READ if request.method in _READING else Right.WRITE
        if caller.right < wanted:
            raise await denied(caller)
        return await handler(request)

    return admit


async def denied(caller: Caller) -> ApiError:
    """What those are told who may not."""
    name = await anyio.to_thread.run_sync(lambda: caller.name)
    return ApiError(403, f"{name} may not do this", "root may", kind="denied")
