"""The pages of one agent, as it is asked for them."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from aiohttp import web

from agent.surface.api import queries
from agent.surface.api.documents import Documents
from agent.surface.api.errors import UNAUTHORIZED, ApiError
from agent.surface.page import headers
from agent.surface.page.links import Links
from agent.surface.page.render import Renderer
from agent.surface.page.views import chips
from agent.surface.page.views.host import host

_AT_A_TIME = 2


class Site:
    """Answers each path of the page, for the host ``name``. Blocks while it begins."""

    def __init__(self, name: str, documents: Documents) -> None:
        self._name = name
        self._documents = documents
        self._renderer = Renderer()
        self._turns = anyio.CapacityLimiter(_AT_A_TIME)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The page or the file that was asked for. Raises :class:`ApiError`."""
        if asset := request.match_info.get("name"):
            return self._asset(request, asset)
        queries.nothing(request)
        if request.match_info.get("host", self._name) != self._name:
            raise ApiError(404, "no host of this name is known here")
        return await self._host(Links(request.path.count("/") - 1))

    async def _host(self, links: Links) -> web.Response:
        view = host(await self._documents.status())
        return await self._page("host", links, icon=view.state.tone, host=view)

    async def error(self, request: web.Request, error: ApiError) -> web.Response:
        """The page that says what is wrong."""
        links = Links(request.path.count("/") - 1)
        answer = await self._page("error", links, icon=chips.UNKNOWN.tone, error=error)
        answer.set_status(error.code)
        if error.code == UNAUTHORIZED:
            answer.headers["WWW-Authenticate"] = "Bearer"
        return answer

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
