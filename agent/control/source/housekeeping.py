"""The clone is repacked once a day, while there is nothing else to do."""

from __future__ import annotations

import logging
import time

from anyio.abc import TaskGroup

from agent.adapters.git.repository import Repository
from agent.adapters.guard import Guard
from agent.adapters.state.async_journal import AsyncJournal

log = logging.getLogger("commitd.repository")

FIRST_S = 600.0
"""After the start, which has enough to do."""
_AGAIN_S = 24 * 3600.0
_CUT_SHORT_S = 600.0


class Housekeeper:
    """Tidies the clone beside the cycles, in ``group``; ends as soon as somebody writes there."""

    def __init__(self, repository: Repository, journal: AsyncJournal, group: TaskGroup) -> None:
        self._repository = repository
        self._journal = journal
        self._group = group
        self._running = False
        self._due = time.monotonic() + FIRST_S
        self._guard = Guard("repacking the clone", log)

    def idle(self) -> None:
        """There is nothing to do now: tidy, if it is time."""
        if not self._running and time.monotonic() >= self._due:
            self._running = True
            self._group.start_soon(self._tidy)

    async def stop(self) -> None:
        """Something is to be done."""
        await self._repository.tidying.stop()

    async def _tidy(self) -> None:
        self._due = time.monotonic() + _CUT_SHORT_S
        try:
            if await self.tidy():
                self._due = time.monotonic() + _AGAIN_S
            self._guard.recovered()
        except Exception as err:  # noqa: BLE001  it is logged, and tried again
            self._guard.note(err, "; again later")
        finally:
            self._running = False

    async def tidy(self) -> bool:
        """Repack now, unless a commit is being judged; whether that was done, or was not needed.

        Raises :class:`CommitdError`.
        """
        repository = self._repository
        if await repository.incoming.any():
            return False
        if not await repository.tidying.needed():
            return True
        releases, rollbacks = await self._journal.releases(), await self._journal.rollbacks()
        kept = {r.revision for r in releases.values()} | {r.revision for r in rollbacks.values()}
        return await repository.tidying.run(kept)
