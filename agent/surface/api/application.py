"""The routes of the API: what is answered, from where. The reference has their contract."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from aiohttp import web
from anyio.abc import TaskGroup

from agent.control.outside.running import Running
from agent.surface.api import queries
from agent.surface.api.access import CALLER, Access, Right, TcpAccess, admitting, denied
from agent.surface.api.connections import Connections
from agent.surface.api.documents import Documents, no_words
from agent.surface.api.errors import ApiError, as_json
from agent.surface.api.events import EventStreams
from agent.surface.api.metrics import Metrics

LARGEST_BODY = 64 * 1024
_GUARDS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def application(
    running: Running, connections: Connections, access: Access, group: TaskGroup
) -> web.Application:
    """All that can be asked of the agent that runs, by those whom ``access`` lets in.

    What outlives an answer works in ``group``.
    """
    documents = Documents(running)
    answers = Answers(running, documents)
    read = partial(web.get, allow_head=True)
    middlewares = [connections.answering, as_json]
    to_all: Collection[str] = ()
    routes = [
        read("/healthz", answers.alive),
        read("/readyz", answers.ready),
        read("/metrics", Metrics(running).answer),
        read("/v1/status", answers.status),
        read("/v1/history", answers.history),
        read("/v1/why/{name}", answers.why),
        read("/v1/changes/{stack}", answers.changes),
        read("/v1/outages", answers.outages),
        read("/v1/plan", answers.plan),
        web.get("/v1/events", EventStreams(running, connections, access).answer, allow_head=False),
    ]
    if isinstance(access, TcpAccess):
        from agent.surface.page.door import Door  # noqa: PLC0415  not where nobody looks

        door = Door(running, documents, access, group)
        to_all = door.to_all
        routes += door.routes()
        middlewares.append(door.errors)
    else:
        from agent.surface.api.orders import Orders  # noqa: PLC0415  not where nobody may order

        routes += [read("/v1/words/{stack}", answers.words), *Orders(running).routes()]

    async def end_streams(_: web.Application) -> None:
        connections.end_streams()

    app = web.Application(
        middlewares=[*middlewares, admitting(access, to_all)], client_max_size=LARGEST_BODY
    )
    app.add_routes(routes)
    app.on_shutdown.append(end_streams)
    app.on_response_prepare.append(_guard)
    return app


async def _guard(_: web.Request, response: web.StreamResponse) -> None:
    """Keeps each answer out of caches and other sites' pages, if it does not say it otherwise."""
    for name, value in _GUARDS.items():
        response.headers.setdefault(name, value)
    response.headers["Server"] = "commitd"  # and not which versions of what


class Answers:
    """What is only told."""

    def __init__(self, running: Running, documents: Documents) -> None:
        self._running = running
        self._documents = documents

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
        return web.json_response(await self._documents.status())

    async def history(self, request: web.Request) -> web.Response:
        """``/v1/history``."""
        return web.json_response(await self._documents.history(*queries.history(request)))

    async def why(self, request: web.Request) -> web.Response:
        """``/v1/why/NAME``; what a container has said is for root alone."""
        queries.nothing(request)
        name = queries.text(request.match_info["name"])
        words = self._words if request[CALLER].right is Right.ROOT else no_words
        return web.json_response(await self._documents.why(name, words))

    async def changes(self, request: web.Request) -> web.Response:
        """``/v1/changes/STACK``."""
        stack = queries.text(request.match_info["stack"])
        return web.json_response(await self._documents.changes(stack, *queries.changes(request)))

    async def outages(self, request: web.Request) -> web.Response:
        """``/v1/outages``."""
        queries.nothing(request)
        return web.json_response(await self._documents.outages())

    async def plan(self, request: web.Request) -> web.Response:
        """``/v1/plan``."""
        return web.json_response(await self._documents.plan(queries.plan(request)))

    async def words(self, request: web.Request) -> web.Response:
        """``/v1/words/STACK``."""
        if request[CALLER].right is not Right.ROOT:
            raise await denied(request[CALLER])
        said = self._words(request.match_info["stack"])
        if said is None:
            raise ApiError(404, "no output is kept for this stack")
        return web.json_response(said)

    def _words(self, stack: str) -> dict[str, str] | None:
        said = self._running.words.get(stack)
        return None if said is None else dict(zip(("at", "text"), said, strict=True))
