"""The way from the API's listener to the page. What makes pages is loaded for the first of them."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import anyio.to_thread
from aiohttp import web
from anyio.abc import TaskGroup

from agent.control.outside.running import Running
from agent.surface.api.access import TcpAccess
from agent.surface.api.documents import Documents
from agent.surface.api.errors import ApiError, Handler
from agent.surface.page.login import Login

if TYPE_CHECKING:
    from agent.surface.page.site import Site

log = logging.getLogger("commitd.page")

PATHS = (
    "/", "/hosts/{host}", "/hosts/{host}/stacks/{stack}", "/history", "/assets/{name}",
)  # fmt: skip
_FOR_PROGRAMS = ("/v1/", "/healthz", "/readyz", "/metrics")


class Door:
    """Of one listener; what outlives an answer works in ``group``."""

    to_all = ("/assets/{name}", "/login", "/logout")
    """What is there for those who have not shown the token yet: nothing in it is about a host."""

    def __init__(
        self, running: Running, documents: Documents, access: TcpAccess, group: TaskGroup
    ) -> None:
        self._group = group
        self._running = running
        self._documents = documents
        self._site: Site | None = None
        self._login = Login(running.config.host, access) if access.needs_token else None
        if self._login:
            access.knows = self._login.knows

    def routes(self) -> Iterable[web.RouteDef]:
        """Each path of the page."""
        yield from (web.get(path, self._answer, allow_head=True) for path in PATHS)
        if self._login:
            yield web.post("/login", self._login.begin)
            yield web.post("/logout", self._login.end)

    @web.middleware
    async def errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around each answer: what is wrong is told to a browser in a page."""
        if not _by_browser(request):
            return await handler(request)
        try:
            return await handler(request)
        except ApiError as err:
            return await (await self._loaded()).error(request, err)
        except web.HTTPException as err:
            return await (await self._loaded()).error(request, ApiError(err.status, err.reason))
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s: unexpected", request.method, request.path)
            unexpected = ApiError(500, "unexpected error; the agent's log says more")
            return await (await self._loaded()).error(request, unexpected)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return await (await self._loaded()).answer(request)

    async def _loaded(self) -> Site:
        if self._site is None:
            self._site = await anyio.to_thread.run_sync(self._load)
        return self._site

    def _load(self) -> Site:
        module = importlib.import_module("agent.surface.page.site")
        knows = self._login.knows if self._login else None
        site: Site = module.Site(self._running.config, self._documents, knows, self._group)
        return site


def _by_browser(request: web.Request) -> bool:
    wanted = "text/html" in request.headers.get("Accept", "")
    return wanted and not request.path.startswith(_FOR_PROGRAMS)
