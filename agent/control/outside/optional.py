"""Consumers that are loaded only where the configuration asks for them."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio.to_thread

from agent.control.outside.running import Consumer, Running
from agent.domain.config import Config


def optional(wanted: Callable[[Config], object], module: str, name: str) -> Consumer:
    """The consumer ``name`` of ``module``, where the configuration has what is ``wanted``."""

    @asynccontextmanager
    async def consumer(running: Running) -> AsyncIterator[None]:
        if not wanted(running.config):
            yield
            return
        loaded = await anyio.to_thread.run_sync(importlib.import_module, module)
        async with getattr(loaded, name)(running):
            yield

    return consumer
