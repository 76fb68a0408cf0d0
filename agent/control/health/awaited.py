"""What is waited for by the gate, and what may be done to it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from agent.control.health.sightings import Quoting
from agent.domain.container import Container
from agent.domain.errors import CancelledError, InterferenceError
from agent.domain.release import health
from agent.domain.release.health import Expected, HealthFinding

STOPPING = "the agent is stopping"
"""Why waits end, and nothing new is begun."""


class Awaited(Struct, frozen=True, kw_only=True):
    """A release that is waited for.

    ``timeout_s`` is its own word. ``cancel_reason`` says why the wait is to end, or None. ``after``
    are the stacks that come before it, ``quoting`` what may be shown of its words.
    """

    project: str
    services: Mapping[str, Expected]
    timeout_s: float
    cancel_reason: Callable[[], CancelledError | None]
    quoting: Quoting
    after: Collection[str] = ()


class Steps(Protocol):
    """What is done to a release while it is waited for.

    ``waits``: services of it start only after others are healthy. ``made`` are its containers.
    """

    waits: bool
    made: Collection[Container]
    began_at: float
    """Since when it is started, in seconds since the epoch."""

    @property
    def stale(self) -> Collection[str]:
        """Services of it that run on with files that are others by now."""

    async def start(self, limit_s: float) -> None:
        """Start its services one after the other, for ``limit_s`` at most.

        Raises :class:`PermanentError` when one waits for another that is not healthy.
        """

    async def started(self) -> bool:
        """What is due once all of it is started, or cannot be while this is not done.

        Whether services had to be started again for that.
        """

    async def mend(self) -> bool:
        """Replace the containers that no start brings back; whether there are any."""

    async def put_back(self, findings: Sequence[HealthFinding]) -> None:
        """Put right what somebody did to it, but do not start what waits for others.

        Raises :class:`CommitdError` if that cannot be done at all, not if it fails this time.
        """


class Standing(Steps):
    """Something that is only looked at: if somebody undoes it, all of it has to be started anew."""

    waits = False
    stale = ()

    def __init__(self, made: Collection[Container]) -> None:
        self.made = made
        self.began_at = 0.0

    async def start(self, limit_s: float) -> None:
        """Nothing."""

    async def started(self) -> bool:
        """Nothing."""
        return False

    async def mend(self) -> bool:
        """Nothing."""
        return False

    async def put_back(self, findings: Sequence[HealthFinding]) -> None:
        """Not here."""
        raise InterferenceError(health.summary(findings))
