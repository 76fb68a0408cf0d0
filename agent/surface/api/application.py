"""The routes of the API.

``GET /v1/status`` is the document of ``commitd status --json``, ``GET /v1/events`` a stream of what
is done. ``GET /v1/words/STACK`` is what a container of a stack with secrets has said before it
failed: it is kept nowhere else.
"""

from __future__ import annotations

import anyio
import anyio.to_thread
from aiohttp import web

from agent.control.outside.running import Running
from agent.control.status import status as overview
from agent.domain.errors import CommitdError
from agent.surface.api.connections import Connections
from agent.surface.api.errors import ApiError, as_json
from agent.surface.api.events import EventStreams

_AT_A_TIME = 2
"""Looks at the engine for those who ask."""


def application(running: Running, connections: Connections) -> web.Application:
    """All that can be asked of the agent that runs, by ``connections``."""
    limiter = anyio.CapacityLimiter(_AT_A_TIME)

    def look() -> web.Response:
        return web.json_response(overview.now(running.config))

    async def status(_: web.Request) -> web.Response:
        try:
            return await anyio.to_thread.run_sync(look, limiter=limiter)
        except CommitdError as err:
            raise ApiError.of(err) from None

    async def last_words(request: web.Request) -> web.Response:
        said = running.words.get(request.match_info["stack"])
        if said is None:
            raise ApiError(404, "no output is kept for this stack")
        return web.json_response(dict(zip(("at", "text"), said, strict=True)))

    async def end_streams(_: web.Application) -> None:
        connections.end_streams()

    app = web.Application(middlewares=[connections.answering, as_json])
    app.router.add_get("/v1/status", status)
    app.router.add_get("/v1/events", EventStreams(running, connections).answer, allow_head=False)
    app.router.add_get("/v1/words/{stack}", last_words)
    app.on_shutdown.append(end_streams)
    return app
