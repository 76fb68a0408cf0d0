"""Looking closely at the containers of a release that is waited for, and at their last words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from msgspec import Struct

from agent.adapters.compose.errors import HookError
from agent.adapters.engine.containers import from_inspect, health_check_of
from agent.adapters.engine.engine import Engine
from agent.domain.compose import redact
from agent.domain.container import Container
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.release.health import ContainerView

_LOG_LINES, _LOG_CHARS = 5, 400
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


async def look(engine: Engine, project: str, before: Mapping[str, int]) -> list[ContainerView]:
    """The containers of a project, without one-offs.

    ``before`` is how often the engine had restarted each before that counts.
    """
    views: list[ContainerView] = []
    for container in await engine.containers(project):
        # By the clock before it is asked: what crashes in between is not older for it.
        asked_at = time.time()
        if not container.one_off and (raw := await engine.inspect(container.id)):
            views.append(_sight(raw, before, asked_at))
    return views


def _sight(raw: Mapping[str, Any], before: Mapping[str, int], now: float) -> ContainerView:
    container = from_inspect(raw)
    up_s = 0.0
    if container.state == "running" and container.started is not None:
        up_s = max(0.001, now - container.started)
    health = raw["State"].get("Health") or {}
    return ContainerView(
        container=container,
        restarts=_since(before.get(container.id, 0), raw["RestartCount"]),
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
        words = await engine.last_words(container.id, _LOG_LINES)
    except CommitdError:
        return ""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return redact.text(" / ".join(lines), quoting.secrets)[-_LOG_CHARS:]
