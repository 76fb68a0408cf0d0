"""When the agent last looked at everything, and how that ended, for those who ask later.

Written to the runtime directory after each cycle, so that an idle agent writes to no disk; to the
journal when a cycle begins to fail or to work again, and when the agent ends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio.to_thread
from msgspec.structs import asdict

from agent.adapters.host.runtime_file import RuntimeFile
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import Journal
from agent.domain.status.facts import LastLook

_KEY = "look"
_FILE = "look.json"


class Looks:
    """The agent's own, of which ``last`` is the newest one."""

    def __init__(
        self,
        journal: AsyncJournal,
        runtime_dir: Path,
        last: LastLook,
        swarm: Callable[[], str | None] = lambda: None,
    ) -> None:
        """``swarm`` says what the engine of a plain host is in a Swarm."""
        self._journal = journal
        self._swarm = swarm
        self._file = RuntimeFile(runtime_dir / _FILE, "when the agent looked")
        self.last = last

    async def ended(self, error: str | None = None) -> LastLook:
        """A cycle ended now; with an ``error`` it was no look, and the last one counts."""
        swarm = self._swarm()
        news = (error, swarm) != (self.last.error, self.last.swarm)
        self.last = LastLook(self.last.at if error else utcnow(), error, swarm)
        await anyio.to_thread.run_sync(self._file.write, asdict(self.last))
        if news:
            await self.keep()
        return self.last

    async def keep(self) -> None:
        """Have it survive a restart of the machine. Raises :class:`CommitdError`."""
        await self._journal.put(_KEY, asdict(self.last))


def last(journal: Journal, runtime_dir: Path) -> LastLook:
    """The newest look that is known of. Blocks."""
    for known in (RuntimeFile(runtime_dir / _FILE, "").read, lambda: journal.get(_KEY)):
        try:
            return LastLook(**known())
        except (OSError, ValueError, TypeError):  # not there, or of another version
            continue
    return LastLook()
