"""``GET /metrics``: what the agent knows, for Prometheus.

Made when asked, by one thread, at most twice a second: who asks more often gets what was made
last. The library that writes it down is loaded with the first question.
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

_Made = tuple[str, float, bytes, str]
"""For which ``Accept``, when, and the answer with its type."""


class Metrics:
    """Of one agent."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._turn = anyio.Lock()
        self._last: _Made = ("", 0.0, b"", "")

    async def answer(self, request: web.Request) -> web.Response:
        """All series."""
        queries.nothing(request)
        wanted = request.headers.get(hdrs.ACCEPT, "")
        async with self._turn:
            accepted, at, _, _ = self._last
            if accepted != wanted or not at or time.monotonic() - at > _FRESH_S:
                text, kind = await self._made(wanted)
                self._last = wanted, time.monotonic(), text, kind
            _, _, text, kind = self._last
        return web.Response(body=text, headers={hdrs.CONTENT_TYPE: kind})

    async def _made(self, wanted: str) -> tuple[bytes, str]:
        exposition: Any = await anyio.to_thread.run_sync(
            importlib.import_module, "agent.surface.api.exposition"
        )
        seen = await metrics.observe(self._running)
        text, kind = await anyio.to_thread.run_sync(exposition.written, seen, wanted)
        return text, kind
