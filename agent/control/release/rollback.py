"""Go back to a release that was healthy: its files in the checkout, and why in the journal.

    a release failed ─▶ restore: are its older files to be had, only its own, and their secrets?
                          ├▶ no: an error, and nothing has changed
                          ▼
                        the journal: this input of the stack failed, back to that commit
                          ▼
    each cycle ───────▶ the checkout: the declared commit, with the older files of each stack whose
                        failed input is still the declared one (its overlay), and of those that
                        left and are not gone yet

A rollback ends when the input of its stack changes, or with ``retry``. What is written down first
is put in the checkout by the next cycle, should the agent be killed in between.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
from msgspec.structs import replace

from agent.adapters.git.repository import Repository
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.state.releases import Rollback
from agent.control.secrets.decrypt import SecretKeeper
from agent.control.source.pinned_releases import (
    active_overlays,
    applicable,
    kept_files,
    stack_at,
    with_rollbacks,
)
from agent.domain.errors import PermanentError
from agent.domain.finding import Fault
from agent.domain.release.release import Release
from agent.domain.repository.desired import DesiredState, Stack


def _remembered(
    journal: Journal, desired: DesiredState
) -> tuple[dict[str, str], dict[str, str], dict[str, Rollback]]:
    """What the journal knows of older releases, in one trip. Blocks."""
    return active_overlays(journal, desired), kept_files(journal, desired), journal.rollbacks()


class Restorer:
    """Puts older releases in place of those that failed, for as long as their input is the same."""

    def __init__(
        self, repository: Repository, journal: AsyncJournal, secrets: SecretKeeper, host: str
    ) -> None:
        self._repository = repository
        self._journal = journal
        self._secrets = secrets
        self._host = host
        self._lock = anyio.Lock()
        self._effective: tuple[tuple[DesiredState, dict[str, str]], DesiredState] | None = None
        self._desired: DesiredState | None = None
        self._in_place: tuple[str, dict[str, str]] | None = None

    async def effective(self, desired: DesiredState) -> DesiredState:
        """What is to run now: ``desired``, but with older releases where newer ones failed.

        Rollbacks whose input has changed are over. Raises :class:`CommitdError`.
        """
        self._desired = desired
        active, wanted, rollbacks = await self._journal.run(_remembered, desired)
        for name in rollbacks.keys() - active.keys():
            if name in {stack.name for stack in desired.stacks}:
                await self._journal.end_rollback(name)
        if self._effective and self._effective[0] == (desired, wanted):
            return self._effective[1]
        gone = await self._check_out(wanted)
        lost = {name: fault for name, fault in gone.items() if name in active}
        readable = replace(
            desired,
            stacks=tuple(stack for stack in desired.stacks if stack.name not in lost),
            broken={**desired.broken, **lost},
        )
        found = await with_rollbacks(readable, self._journal, self._repository)
        if not gone:
            self._effective = (desired, wanted), found
        return found

    async def restore(self, release: Release, failed: Stack, why: str) -> Stack:
        """Put the files of ``release`` in place of those of ``failed``; the stack it was.

        Raises :class:`CommitdError` when they are not to be had, or not without losing data.
        """
        name = release.stack
        older = await stack_at(self._repository, self._host, name, release.revision)
        if older.digest != release.digest:
            raise PermanentError(f"its files at {release.revision[:7]} are not those that ran")
        if others := _not_its_own(older, failed):
            raise PermanentError(f"it reads {', '.join(others)}, which other stacks may use too")
        async with self._lock:
            # First what may fail: until then nothing has changed that the next cycle would miss.
            if locked := await self._secrets.put(older):
                raise PermanentError(f"its secrets as they were cannot be decrypted: {locked}")
            rollback = Rollback(failed.digest, release.revision, why)
            await self._journal.roll_back(name, rollback)
            if self._desired is None:
                raise PermanentError("nothing is declared")
            wanted = await self._journal.run(kept_files, self._desired)
            if lost := (await self._check_out(wanted)).get(name):
                raise PermanentError(lost.message)
        return older

    async def _check_out(self, active: Mapping[str, str]) -> dict[str, Fault]:
        """Bring the checkout in line, if it is not; the stacks whose older files cannot be there.

        Raises :class:`CommitdError`, because others would find files of a rollback that is over.
        """
        repository = self._repository
        if self._desired is None or self._in_place == (self._desired.revision.sha, active):
            return {}
        applied = await repository.applied()
        if applied is None:
            return {}
        there, lost = await applicable(repository, applied, active)
        if await repository.overlaid(applied, there) != await repository.checked_out():
            if not there and (faults := await repository.look(applied)):
                raise PermanentError(f"its files cannot be put back: {faults[0]}")
            await repository.reset(applied, there)
        if not lost:
            self._in_place = (applied, dict(active))
        return lost


def _not_its_own(older: Stack, failed: Stack) -> list[str]:
    """Files outside of the stack's directory that differ, but env files: those are kept aside."""
    place, env = f"stacks/{older.name}/", {file.path for file in older.environment}
    before, after = (
        {path: oid for path, oid in stack.versions if not path.startswith(place)}
        for stack in (older, failed)
    )
    paths = (before.keys() | after.keys()) - env
    return sorted(path for path in paths if before.get(path) != after.get(path))
