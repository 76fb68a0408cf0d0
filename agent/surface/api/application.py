"""The routes of the API: what is answered, from where. The reference has their contract.

Documents are those of the command line's ``--json``, made by the same functions. What may take a
while is made in a worker thread, with an event loop of its own where it needs one: the agent's own
loop only waits. Of each kind only some are made at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from aiohttp import web

from agent.control.outside.running import Running
from agent.control.status import history as histories
from agent.control.status import status as overview
from agent.domain.errors import CommitdError, ConfigError
from agent.surface.api import queries
from agent.surface.api.access import CALLER, Access, Right, TcpAccess, admitting, denied
from agent.surface.api.connections import Connections
from agent.surface.api.errors import ApiError, as_json
from agent.surface.api.events import EventStreams

LARGEST_BODY = 64 * 1024
_AT_A_TIME = 2
"""Looks at the engine or the journal for those who ask."""


def application(running: Running, connections: Connections, access: Access) -> web.Application:
    """All that can be asked of the agent that runs, by those whom ``access`` lets in."""
    answers = Answers(running)
    read = partial(web.get, allow_head=True)
    routes = [
        read("/healthz", answers.alive),
        read("/readyz", answers.ready),
        read("/v1/status", answers.status),
        read("/v1/history", answers.history),
        read("/v1/why/{name}", answers.why),
        read("/v1/plan", answers.plan),
        web.get("/v1/events", EventStreams(running, connections).answer, allow_head=False),
    ]
    if not isinstance(access, TcpAccess):
        from agent.surface.api.orders import Orders  # noqa: PLC0415  not where nobody may order

        routes += [read("/v1/words/{stack}", answers.words), *Orders(running).routes()]

    async def end_streams(_: web.Application) -> None:
        connections.end_streams()

    app = web.Application(
        middlewares=[connections.answering, as_json, admitting(access)],
        client_max_size=LARGEST_BODY,
    )
    app.add_routes(routes)
    app.on_shutdown.append(end_streams)
    return app


class Answers:
    """What is only told."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._looks = anyio.CapacityLimiter(_AT_A_TIME)
        self._plans = anyio.CapacityLimiter(1)

    async def alive(self, _: web.Request) -> web.Response:
        """``/healthz``: whether the loop gets on, as the watchdog of systemd has it."""
        if not self._running.alive():
            raise ApiError(503, "the agent does not get on")
        return web.json_response({"alive": True})

    async def ready(self, _: web.Request) -> web.Response:
        """``/readyz``: whether it is known how the host is."""
        if not self._running.ready():
            raise ApiError(503, "no cycle has found out yet how the host is")
        return web.json_response({"ready": True})

    async def status(self, request: web.Request) -> web.Response:
        """``/v1/status``."""
        queries.nothing(request)
        look = partial(overview.now, self._running.config, self._running.trouble.as_json())
        try:
            return web.json_response(await anyio.to_thread.run_sync(look, limiter=self._looks))
        except CommitdError as err:
            raise ApiError.of(err, 503) from None

    async def history(self, request: web.Request) -> web.Response:
        """``/v1/history``."""
        limit, wanted = queries.history(request)

        def look() -> list[histories.Document]:
            return histories.History(self._running.config, **wanted).newest(limit)

        try:
            return web.json_response(await anyio.to_thread.run_sync(look, limiter=self._looks))
        except ConfigError as err:
            raise ApiError.of(err, 404 if wanted["subject"] else 503) from None
        except CommitdError as err:
            raise ApiError.of(err) from None

    async def why(self, request: web.Request) -> web.Response:
        """``/v1/why/NAME``; what a container has said is for root alone."""
        from agent.control.status import why  # noqa: PLC0415  only once somebody asks

        queries.nothing(request)
        name = queries.text(request.match_info["name"])
        words = self._words if request[CALLER].right is Right.ROOT else _no_words
        try:
            return web.json_response(
                await self._apart(why.document, self._running.config, name, words, of=self._looks)
            )
        except ConfigError as err:
            raise ApiError.of(err, 404) from None
        except CommitdError as err:
            raise ApiError.of(err) from None

    async def plan(self, request: web.Request) -> web.Response:
        """``/v1/plan``."""
        from agent.control.review import plan_view  # noqa: PLC0415  only once somebody asks

        rev = queries.plan(request)
        try:
            return web.json_response(
                await self._apart(plan_view.document, self._running.config, rev, of=self._plans)
            )
        except CommitdError as err:
            raise ApiError.of(err) from None

    async def words(self, request: web.Request) -> web.Response:
        """``/v1/words/STACK``."""
        if request[CALLER].right is not Right.ROOT:
            raise denied(request[CALLER])
        said = self._words(request.match_info["stack"])
        if said is None:
            raise ApiError(404, "no output is kept for this stack")
        return web.json_response(said)

    def _words(self, stack: str) -> dict[str, str] | None:
        said = self._running.words.get(stack)
        return None if said is None else dict(zip(("at", "text"), said, strict=True))

    @staticmethod
    async def _apart(
        work: Callable[..., Awaitable[Any]], *words: Any, of: anyio.CapacityLimiter
    ) -> Any:
        run = partial(anyio.run, work, *words, backend="asyncio")
        return await anyio.to_thread.run_sync(run, limiter=of)


def _no_words(_: str) -> None:
    return None
