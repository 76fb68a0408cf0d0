"""The documents that are told, by the API and by the page: those of the command line's ``--json``.

What may take a while is made in a worker thread, with an event loop of its own where it needs one:
the agent's own loop only waits. Of each kind only some are made at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

from agent.control.outside.running import Running
from agent.control.status import history as histories
from agent.control.status import status as overview
from agent.domain.errors import CommitdError, ConfigError
from agent.surface.api.errors import ApiError

_AT_A_TIME = 2
"""Looks at the engine or the journal for those who ask."""


class Documents:
    """Of the agent that runs. All raise :class:`ApiError`."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._looks = anyio.CapacityLimiter(_AT_A_TIME)
        self._plans = anyio.CapacityLimiter(1)

    async def status(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        look = partial(overview.now, self._running.config, self._running.trouble.as_json())
        try:
            return await anyio.to_thread.run_sync(look, limiter=self._looks)
        except CommitdError as err:
            raise ApiError.of(err, 503) from None

    async def history(
        self, limit: int, wanted: histories.Wanted, before: int = 0
    ) -> list[histories.Document]:
        """What ``history --json`` prints, of actions whose number is below ``before``."""
        look = partial(histories.newest, self._running.config, wanted, limit, before)

        try:
            return await anyio.to_thread.run_sync(look, limiter=self._looks)
        except ConfigError as err:
            raise ApiError.of(err, 404 if wanted.subject else 503) from None
        except CommitdError as err:
            raise ApiError.of(err) from None

    async def outages(self) -> list[dict[str, Any]]:
        """What ``/v1/outages`` tells."""
        look = partial(histories.outages, self._running.config)
        try:
            return await anyio.to_thread.run_sync(look, limiter=self._looks)
        except CommitdError as err:
            raise ApiError.of(err) from None

    async def why(
        self, name: str, words: Callable[[str], Mapping[str, str] | None]
    ) -> dict[str, Any]:
        """What ``why NAME --json`` prints, with these last ``words``."""
        from agent.control.status import why  # noqa: PLC0415  only once somebody asks

        try:
            found: dict[str, Any] = await self._apart(
                why.document, self._running.config, name, words, of=self._looks
            )
        except ConfigError as err:
            raise ApiError.of(err, 404) from None
        except CommitdError as err:
            raise ApiError.of(err) from None
        return found

    async def changes(self, stack: str, before: str, after: str) -> dict[str, Any]:
        """What ``/v1/changes/STACK`` tells."""
        from agent.control.status import changes  # noqa: PLC0415  only once somebody asks

        try:
            found: dict[str, Any] = await self._apart(
                changes.document, self._running.config, stack, before, after, of=self._looks
            )
        except ConfigError as err:
            raise ApiError.of(err, 404) from None
        except CommitdError as err:
            raise ApiError.of(err) from None
        return found

    async def plan(self, rev: str | None) -> dict[str, Any]:
        """What ``plan --json`` prints."""
        from agent.control.review import plan_view  # noqa: PLC0415  only once somebody asks

        try:
            found: dict[str, Any] = await self._apart(
                plan_view.document, self._running.config, rev, of=self._plans
            )
        except CommitdError as err:
            raise ApiError.of(err) from None
        return found

    @staticmethod
    async def _apart(
        work: Callable[..., Awaitable[Any]], *words: Any, of: anyio.CapacityLimiter
    ) -> Any:
        run = partial(anyio.run, work, *words, backend="asyncio")
        return await anyio.to_thread.run_sync(run, limiter=of)


def no_words(_: str) -> None:
    """What those hear who may not hear what a container has said."""
    return
