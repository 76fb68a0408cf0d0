"""What the loop works with: everything that is made once when the agent starts.

What differs between one engine and a Swarm is a protocol here: the loop is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from agent.adapters.engine.engine import Engine
from agent.adapters.git.repository import Repository
from agent.adapters.probes.base import Probe
from agent.adapters.state.async_journal import AsyncJournal
from agent.control.release.converge import Converger
from agent.control.release.rollback import Restorer
from agent.control.retry import LastWords
from agent.control.secrets.decrypt import SecretKeeper
from agent.control.source.follower import Follower
from agent.control.source.housekeeping import Housekeeper
from agent.control.source.remote_status import Remotes
from agent.control.status.judge import Judge
from agent.control.trial import Trial
from agent.control.undeclared.protection import Protection
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.reconcile.actions import Hold
from agent.domain.reconcile.host_state import HostState

if TYPE_CHECKING:
    from agent.control.swarm.manager import Manager


class Observer(Protocol):
    """Looks at what runs."""

    async def containers(self) -> tuple[Container, ...]:
        """All of it. Raises :class:`CommitdError`."""

    def stream_age(self) -> float | None:
        """How many seconds ago the stream of events was opened; None: there is none now."""


class Ledger(Protocol):
    """Knows what the agent itself has made."""

    async def settle(self) -> None:
        """Note what a deploy made that was cut short; at start. Raises :class:`CommitdError`."""

    async def learn(self, situation: HostState) -> None:
        """Note what stands of releases of which it is not known. Raises :class:`CommitdError`."""


class Evictor(Protocol):
    """Ends what nobody declared."""

    async def evict(self, container_id: str, *, patient: bool = True) -> Hold | None:
        """Look at it afresh and end it if nobody declared it; why it stays, or None.

        While its grace lasts it is waited for or, not ``patient``, left for later. Raises
        :class:`CommitdError`.
        """


class Quarantine(Protocol):
    """Looks after what was evicted and is kept."""

    async def sweep(self, listed: Iterable[Container]) -> None:
        """Once a cycle; ``listed`` tells how all was a moment ago."""


class Watcher(Protocol):
    """Reads the engine's events, and asks for a cycle."""

    async def run(self) -> None:
        """For ever."""


class Parts(Struct, frozen=True, kw_only=True):
    """Of one agent. ``watcher`` makes one that wakes the loop by what it is given.

    ``manager`` is that of a Swarm; None: a host of its own, which no other agent works for.
    """

    config: Config
    repository: Repository
    probes: Mapping[str, Probe]
    remotes: Remotes
    follower: Follower
    housekeeper: Housekeeper
    engine: Engine
    ledger: Ledger
    observer: Observer
    journal: AsyncJournal
    secrets: SecretKeeper
    restorer: Restorer
    converger: Converger
    evictor: Evictor
    quarantine: Quarantine
    protection: Protection
    judge: Judge
    words: LastWords
    watcher: Callable[[Callable[[str], None]], Watcher]
    standing_holds: tuple[Hold, ...] = ()
    """What was found when the agent started, and stays until it starts anew."""
    trial: Trial | None = None
    manager: Manager | None = None
