"""What the loop works with: everything that is made once when the agent starts."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from agent.adapters.engine.engine import Engine
from agent.adapters.git.repository import Repository
from agent.adapters.probes.base import Probe
from agent.adapters.state.async_journal import AsyncJournal
from agent.control.reconcile.listing import Observer
from agent.control.release.converge import Converger
from agent.control.release.rollback import Restorer
from agent.control.retry import LastWords
from agent.control.secrets.decrypt import SecretKeeper
from agent.control.source.follower import Follower
from agent.control.source.housekeeping import Housekeeper
from agent.control.source.remote_status import Remotes
from agent.control.stack.ledger import Ledger
from agent.control.status.judge import Judge
from agent.control.trial import Trial
from agent.control.undeclared.evict import Evictor
from agent.control.undeclared.protection import Protection
from agent.control.undeclared.quarantine import Quarantine
from agent.domain.config import Config
from agent.domain.reconcile.actions import Hold


class Parts(Struct, frozen=True, kw_only=True):
    """Of one agent."""

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
    standing_holds: tuple[Hold, ...] = ()
    """What was found when the agent started, and stays until it starts anew."""
    trial: Trial | None = None
