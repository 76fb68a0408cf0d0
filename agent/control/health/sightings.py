"""Looking closely at the containers of a release that is waited for, and at their last words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.compose.errors import HookError
from agent.adapters.engine.containers import from_inspect, health_check_of
from agent.adapters.engine.engine import Engine
from agent.control.health.activity import Activity
from agent.domain.compose import redact
from agent.domain.container import Container
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.release.health import ContainerView

LOG_LINES = 5
"""Of a container's log are its last words."""
_LOG_CHARS = 400
_HOOK_ENDS_S = 5.0
_LAST_WORDS = "; its last words: "
_NOT_SHOWN = (
    "; its last words may hold a secret: while an agent runs, root sees them with commitd why "
)


class Quoting(Struct, frozen=True):
    """What may be shown of the words of containers of ``stack``: none of its ``secrets``.

    What a container makes of a secret nobody can foresee. So of a stack that has any
    (``confidential``) its words are in no message, but beside it, for root alone.
    """

    stack: str
    secrets: Iterable[str] = ()
    confidential: bool = False

    def error(self, kind: type[CommitdError], message: str, words: str) -> CommitdError:
        """That ``message``, with the last ``words`` of the container that is to blame."""
        if not words:
            return kind(message)
        if not self.confidential:
            return kind(f"{message}{_LAST_WORDS}{words}")
        error = kind(f"{message}{_NOT_SHOWN}{self.stack}")
        error.words = words
        return error


class UnhealthyError(PermanentError):
    """A release that was started is not healthy; the same input would do the same again."""


class Sight:
    """The containers of one project, as they were when something last happened to each.

    Nothing is asked of the engine as long as nothing happened.
    """

    def __init__(self, engine: Engine, activity: Activity) -> None:
        self._engine = engine
        self._activity = activity
        self._views: dict[str, ContainerView] = {}
        self._before: dict[str, int] = {}
        self._number = -1
        self.fresh = False
        """Whether the last look was at all of them."""

    async def begin(self) -> None:
        """From now on it counts how often the engine restarts each of them."""
        await self._update(anew=True)
        self._before = {view.container.id: view.restarts for view in self._views.values()}

    async def look(self, *, anew: bool = False) -> list[ContainerView]:
        """The containers without one-offs; ``anew``: all are looked at."""
        await self._update(anew=anew)
        return [
            replace(view, restarts=_since(self._before.get(each, 0), view.restarts))
            for each, view in self._views.items()
        ]

    async def _update(self, *, anew: bool) -> None:
        activity, number = self._activity, self._number
        self._number = activity.number
        self.fresh = anew or activity.lost(number) or number < 0
        if not self.fresh and self._number == number:
            return
        changed = activity.touched(number)
        try:
            if self.fresh or activity.came_or_went(number):
                await self._list(set() if self.fresh else self._views.keys() - changed)
            else:
                for container_id in changed & self._views.keys():
                    await self._inspect(container_id)
        except BaseException:
            self._number = -1
            raise

    async def _list(self, known: AbstractSet[str]) -> None:
        listed = [c for c in await self._engine.containers(self._activity.project) if not c.one_off]
        self._views = {c.id: self._views[c.id] for c in listed if c.id in known}
        for container in listed:
            if container.id not in known:
                await self._inspect(container.id)

    async def _inspect(self, container_id: str) -> None:
        # By the clock before it is asked: what crashes in between is not older for it.
        asked_at = time.time()
        if raw := await self._engine.inspect(container_id):
            self._views[container_id] = _view(raw, asked_at)
        else:
            self._views.pop(container_id, None)


def _view(raw: Mapping[str, Any], now: float) -> ContainerView:
    container = from_inspect(raw)
    up_s = 0.0
    if container.state == "running" and container.started is not None:
        up_s = max(0.001, now - container.started)
    health = raw["State"].get("Health") or {}
    return ContainerView(
        container=container,
        restarts=raw["RestartCount"],
        up_s=up_s,
        check=health_check_of(raw),
        streak=int(health.get("FailingStreak") or 0),
    )


def _since(before: int, now: int) -> int:
    """A count that the engine begins anew when somebody starts the container."""
    return now - before if now >= before else now


async def hook_failed(
    engine: Engine, project: str, error: HookError, quoting: Quoting
) -> CommitdError:
    """What Compose says of a hook that failed, with its last words."""
    words = error.words[-_LOG_CHARS:]
    if not words:
        for container in await engine.containers(project):
            if container.hook and container.state != "created":
                # The engine tells that it has ended before it has noted that, or the last line.
                with suppress(CommitdError):
                    await engine.ended(container.id, _HOOK_ENDS_S)
                words = await last_words(engine, container, quoting)
    return quoting.error(UnhealthyError, error.message, words)


async def last_words(engine: Engine, container: Container, quoting: Quoting) -> str:
    """The end of its log, without any secret that is known; empty if there is none."""
    try:
        words = await engine.last_words(container.id, LOG_LINES)
    except CommitdError:
        return ""
    return quoted(words, quoting)


def quoted(log: str, quoting: Quoting) -> str:
    """The end of a log in one line, without any secret that is known."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return redact.text(" / ".join(lines), quoting.secrets)[-_LOG_CHARS:]
