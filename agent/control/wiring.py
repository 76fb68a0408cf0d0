"""What the agent is put together from: the same for all, and the part for its engine or Swarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from anyio.abc import TaskGroup
from msgspec import Struct

from agent.adapters.compose.compose import Compose
from agent.adapters.engine.engine import Engine
from agent.adapters.git.repository import Repository
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.state.async_journal import AsyncJournal
from agent.control.parts import Evictor, Ledger, Observer, Quarantine, Watcher
from agent.control.release.converge import Converger
from agent.control.release.rollback import Restorer
from agent.control.retry import Attempts
from agent.control.secrets.decrypt import SecretKeeper
from agent.control.stack.operations import Stacks
from agent.control.undeclared.protection import Protection
from agent.domain.config import Config

if TYPE_CHECKING:
    from agent.control.swarm.manager import Manager
    from agent.domain.swarm.model import SwarmNode


class Base(Struct, frozen=True, kw_only=True):
    """The same for one engine and for a Swarm.

    What runs beside the cycles does so in ``group``. ``heads`` are the commits that remotes show;
    ``pulse`` hears of every bounded step, and nothing is begun once ``stopping``.
    """

    config: Config
    journal: AsyncJournal
    repository: Repository
    engine: Engine
    program: Compose
    group: TaskGroup
    stacks: Stacks
    secrets: SecretKeeper
    store: PlaintextStore
    attempts: Attempts
    restorer: Restorer
    protection: Protection
    heads: Callable[[], frozenset[str]]
    pulse: Callable[[], None]
    stopping: Callable[[], bool]


class Backend(Struct, frozen=True, kw_only=True):
    """What looks at services, and changes them; ``manager`` and ``nodes`` are those of a Swarm."""

    ledger: Ledger
    observer: Observer
    converger: Converger
    evictor: Evictor
    quarantine: Quarantine
    watcher: Callable[[Callable[[str], None]], Watcher]
    manager: Manager | None = None
    nodes: Callable[[], tuple[SwarmNode, ...]] = tuple
