"""``GET /metrics``: what the agent knows, for Prometheus.

Made when asked, by one thread, in each of two formats at most twice a second: who asks more often
gets what was made last. The library that writes it down is loaded with the first question.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import anyio
import anyio.to_thread
from aiohttp import hdrs, web

from agent.control.outside import metrics
from agent.control.outside.running import Running
from agent.surface.api import queries

_FRESH_S = 0.5

_FORMATS = ("application/openmetrics-text", "text/plain")
"""The last one is for those who want none of them."""

_Made = tuple[float, bytes, str]
"""When, and the answer with its type."""


class Metrics:
    """Of one agent."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._turn = anyio.Lock()
        self._last: dict[str, _Made] = {}

    async def answer(self, request: web.Request) -> web.Response:
        """All series."""
        queries.nothing(request)
        accepted = request.headers.get(hdrs.ACCEPT, "")
        wanted = next((each for each in _FORMATS if each in accepted), _FORMATS[-1])
        async with self._turn:
            made = self._last.get(wanted)
            if made is None or time.monotonic() - made[0] > _FRESH_S:
                made = time.monotonic(), *await self._made(wanted)
                self._last[wanted] = made
        _, text, kind = made
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: kind})

    async def _made(self, wanted: str) -> tuple[bytes, str]:
        exposition: Any = await anyio.to_thread.run_sync(
            importlib.import_module, "agent.surface.api.exposition"
        )
        seen = await metrics.observe(self._running)
        text, kind = await anyio.to_thread.run_sync(exposition.written, seen, wanted)
        return text, kind
