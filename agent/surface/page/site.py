"""The pages of one agent, as it is asked for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from aiohttp import web
from anyio.abc import TaskGroup
from msgspec.structs import replace

from agent.control.outside.peer_client import Client
from agent.control.outside.peer_histories import PeerHistories
from agent.control.outside.peers import Peers
from agent.control.status.history import Wanted
from agent.domain.config import Config
from agent.surface.api import queries
from agent.surface.api.documents import Documents, no_words
from agent.surface.api.errors import NOT_FOUND, TOO_MANY, UNAUTHORIZED, ApiError
from agent.surface.page import headers
from agent.surface.page.links import Links
from agent.surface.page.past import Past
from agent.surface.page.render import Renderer
from agent.surface.page.views import actions
from agent.surface.page.views import fleet as fleets
from agent.surface.page.views import stack as stacks
from agent.surface.page.views.host import Elsewhere, host

_AT_A_TIME = 2
_SHOWN = 100
"""Actions on one page."""


class Site:
    """Answers each path of the page, for the host of ``config`` and its peers, which are asked in
    ``group``. Blocks while it begins.

    ``knows`` is whether a browser has a session; None: none is needed.
    """

    def __init__(
        self,
        config: Config,
        documents: Documents,
        knows: Callable[[web.Request], bool] | None,
        group: TaskGroup,
    ) -> None:
        self._name = config.host
        client = Client(config.peers)
        self._peers = Peers(config.peers, client, fleets.line, group)
        told = PeerHistories(config.peers, client, actions.line, group)
        self._past = Past(config.host, documents, told)
        self._knows = knows
        self._documents = documents
        self._renderer = Renderer()
        self._turns = anyio.CapacityLimiter(_AT_A_TIME)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The page or the file that was asked for. Raises :class:`ApiError`."""
        if asset := request.match_info.get("name"):
            return self._asset(request, asset)
        name = request.match_info.get("host", self._name)
        if name != self._name and (name not in self._peers or "stack" in request.match_info):
            raise ApiError(404, "no host of this name is known here")
        links = self._links(request)
        if request.path == "/history":
            view = await self._past.view(request.query)
            return await self._page("history", links, icon="plain", history=view)
        if stack := request.match_info.get("stack"):
            return await self._stack(links, queries.text(stack), queries.compared(request))
        queries.nothing(request)
        if name != self._name:
            return await self._peer(links, name)
        if self._peers and request.path == "/":
            return await self._fleet(links)
        return await self._host(links)

    async def _host(self, links: Links) -> web.Response:
        view = host(await self._documents.status())
        return await self._page("host", links, icon=view.state.tone, host=view)

    async def _peer(self, links: Links, name: str) -> web.Response:
        seen, document = await self._peers.document(name)
        if document is None:
            if seen.asked and seen.error is None:
                raise ApiError(503, "all hosts together say more than is kept here", seen.url)
            raise ApiError(503, f"{name} does not answer: {seen.error or 'not within 5 s'}")
        elsewhere = Elsewhere(url=seen.url, seen_at=seen.seen_at, error=seen.error)
        view = replace(host(document), name=name, elsewhere=elsewhere)
        if seen.error:
            view = replace(view, state=fleets.SILENT)
        return await self._page("host", links, icon=view.state.tone, host=view)

    async def _fleet(self, links: Links) -> web.Response:
        own = fleets.row(self._name, fleets.line(await self._documents.status()))
        others = [
            fleets.row(
                seen.name, seen.line, error=seen.error, seen_at=seen.seen_at, asked=seen.asked
            )
            for seen in await self._peers.look()
        ]
        view = fleets.fleet([own, *others])
        return await self._page("fleet", links, icon=view.state.tone, fleet=view, by=self._name)

    async def _stack(
        self, links: Links, name: str, compared: tuple[str, str] | None
    ) -> web.Response:
        why = await self._documents.why(name, no_words)
        if why["kind"] != "stack":
            raise ApiError(404, "no stack of this name is known here")
        told = await self._documents.history(_SHOWN + 1, Wanted(subject=name))
        told, older = told[:_SHOWN], len(told) > _SHOWN
        known = stacks.releases(told)
        changes = None
        if compared or len(known) > 1:
            before, after = compared or (known[1].sha, known[0].sha)
            changes = await self._changes(name, before, after)
        view = stacks.stack(self._name, why, told, changes, older=older)
        return await self._page("stack", links, icon=view.sync.tone, stack=view)

    async def _changes(self, name: str, before: str, after: str) -> dict[str, Any] | None:
        """None where they cannot be read: a clone that is gone takes nothing else from the page."""
        try:
            return await self._documents.changes(name, before, after)
        except ApiError as err:
            if err.code == NOT_FOUND:
                raise
            return None

    async def error(self, request: web.Request, error: ApiError) -> web.Response:
        """The page that says what is wrong."""
        links = self._links(request)
        if self._knows and error.code in {UNAUTHORIZED, TOO_MANY}:
            posted = request.method == "POST"
            answer = await self._page(
                "login", links, icon="plain",
                to="" if request.path in {"/login", "/logout"} else request.path_qs[1:],
                wrong=error.message if posted else "", hint=error.hint,
            )  # fmt: skip
        else:
            answer = await self._page("error", links, icon="plain", error=error)
        answer.set_status(error.code)
        if error.code == UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

    def _links(self, request: web.Request) -> Links:
        depth = request.rel_url.raw_path.count("/") - 1
        session = bool(self._knows and self._knows(request))
        return Links(depth, session=session, fleet=bool(self._peers))

    async def _page(self, name: str, links: Links, **values: Any) -> web.Response:
        make = partial(self._renderer.page, name, links, values)
        body = await anyio.to_thread.run_sync(make, limiter=self._turns)
        return web.Response(
            body=body, content_type="text/html", charset="utf-8", headers=headers.PAGE
        )

    def _asset(self, request: web.Request, name: str) -> web.Response:
        found = self._renderer.assets.get(name)
        if found is None:
            raise ApiError(404, "there is no such file")
        tag = f'"{found.version}"'
        more = {**headers.ASSET, "ETag": tag}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=more)
        return web.Response(
            body=found.content, content_type=found.kind, charset="utf-8", headers=more
        )
