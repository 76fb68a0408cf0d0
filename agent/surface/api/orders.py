"""What changes something: the verbs of the command line, ordered on the socket.

Each does what its verb does, by the same functions, in a worker thread; then the agent looks. Who
has ordered it is in the journal, and with what came to nothing in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from aiohttp import web
from msgspec.structs import asdict

from agent.adapters.host import api_socket, peer
from agent.control.operator import orders
from agent.control.operator.undo import undo
from agent.control.outside.running import Running
from agent.domain.config import Config, lasting
from agent.domain.errors import CommitdError, ConfigError
from agent.surface.api import queries
from agent.surface.api.access import CALLER, Right
from agent.surface.api.errors import ApiError

log = logging.getLogger("commitd.api")

_AT_A_TIME = 2
_LONGEST_UID = 10


class _Order(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    def said(self) -> str:
        """For the log, after the name of the order."""
        words = msgspec.structs.asdict(self).items()
        told = ", ".join(f"{key.rstrip('_')} {value}" for key, value in words if value)
        return told and f": {told}"


class Sync(_Order, frozen=True):
    """Look at the remotes now."""


class _Subject(_Order, frozen=True):
    stack: str | msgspec.UnsetType = msgspec.UNSET
    host: bool | msgspec.UnsetType = msgspec.UNSET

    def subject(self) -> str | None:
        """The stack, None for all of the host."""
        if self.stack and self.host is msgspec.UNSET:
            return self.stack
        if self.stack is msgspec.UNSET and self.host:
            return None
        raise ApiError(400, "name one stack, or say host: true for all of this host")


class Suspend(_Subject, frozen=True):
    """Take a stack or the host out of the agent's hands."""

    for_: str | msgspec.UnsetType = msgspec.field(name="for", default=msgspec.UNSET)
    reason: str = ""


class Resume(_Subject, frozen=True):
    """Give it back."""


class Approve(_Order, frozen=True):
    """Accept a commit that waits for a person."""

    sha: str
    without_data: bool = False


class Undo(_Order, frozen=True):
    """Bring back a container that was evicted."""

    id: str
    for_: str = msgspec.field(name="for", default="1h")


class Retry(_Order, frozen=True):
    """Try a stack again."""

    stack: str


def _sync(_: Config, __: Sync, ___: str) -> dict[str, Any]:
    return {}


def _suspend(config: Config, order: Suspend, actor: str) -> dict[str, Any]:
    begun = orders.suspend(
        config,
        order.subject(),
        for_s=_seconds(order.for_) if isinstance(order.for_, str) else None,
        reason=order.reason,
        actor=actor,
    )
    return {"working": [asdict(each) for each in begun]}


def _resume(config: Config, order: Resume, actor: str) -> dict[str, Any]:
    _run(partial(orders.resume, config, order.subject(), actor=actor))
    return {}


def _approve(config: Config, order: Approve, actor: str) -> dict[str, Any]:
    data = order.without_data
    sha, waits = _run(partial(orders.approve, config, order.sha, without_data=data, actor=actor))
    return {"sha": sha, "waits_for_data": waits}


def _undo(config: Config, order: Undo, actor: str) -> dict[str, Any]:
    found = _run(partial(undo, config, order.id, _seconds(order.for_), actor=actor))
    until = datetime.fromtimestamp(found.until, UTC).isoformat(timespec="milliseconds")
    return {"name": found.name, "until": until.replace("+00:00", "Z")}


def _retry(config: Config, order: Retry, actor: str) -> dict[str, Any]:
    _run(partial(orders.retry, config, order.stack, actor=actor))
    return {}


_run = partial(anyio.run, backend="asyncio")
"""In a loop of its own: the agent's goes on meanwhile."""


def _seconds(text: str) -> float:
    try:
        return lasting(text)
    except ValueError as err:
        raise ApiError(400, f"for: {err}") from None


_Carried = Callable[[Config, Any, str], dict[str, Any]]
_ORDERS: dict[str, tuple[type[_Order], _Carried]] = {
    "sync": (Sync, _sync),
    "suspend": (Suspend, _suspend),
    "resume": (Resume, _resume),
    "approve": (Approve, _approve),
    "undo": (Undo, _undo),
    "retry": (Retry, _retry),
}


def _actor(request: web.Request) -> str:
    """Who gives the order. Root may give it for the user who has become root by sudo. Blocks."""
    caller, said = request[CALLER], request.headers.get(api_socket.SUDO_USER, "")
    trusted = caller.right is Right.ROOT and said.isascii() and said.isdecimal()
    return peer.named(int(said)) if trusted and len(said) <= _LONGEST_UID else caller.name


class Orders:
    """For the agent that runs."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._turn = anyio.CapacityLimiter(_AT_A_TIME)

    def routes(self) -> list[web.RouteDef]:
        """One for each order."""
        return [web.post(f"/v1/{name}", partial(self._answer, name)) for name in _ORDERS]

    async def _answer(self, name: str, request: web.Request) -> web.Response:
        kind, carry_out = _ORDERS[name]
        order = await queries.body(request, kind)
        running = self._running
        async with self._turn:
            with anyio.CancelScope(shield=True):  # once it is begun, also if nobody hears of it
                caller = await anyio.to_thread.run_sync(_actor, request)
                work = partial(carry_out, running.config, order, caller)
                try:
                    if name != "sync" and running.config.docker.mode == "swarm":
                        from agent.control.operator import leader  # noqa: PLC0415  a host has none

                        await leader.refuse_elsewhere(running.config)
                    done = await anyio.to_thread.run_sync(work)
                except CommitdError as err:
                    log.info("%s ordered %s%s; in vain: %s", caller, name, order.said(), err)
                    raise ApiError.of(err, 409 if isinstance(err, ConfigError) else None) from None
                if name == "sync":  # the others are in the journal, with their own line
                    log.info("%s ordered %s", caller, name)
                running.journal.news.tell()
                running.wake()
        return web.json_response(done)
