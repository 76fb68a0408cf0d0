"""Going back to a release that was healthy: its files in the checkout, and remembering why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import anyio
import anyio.to_thread

from agent.adapters.journal import Journal
from agent.adapters.releases import Rollback
from agent.adapters.repository import Repository
from agent.control.secrets import SecretKeeper
from agent.domain import layout
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.model import DesiredState, Fault, Release, Stack


def overlays(journal: Journal, desired: DesiredState) -> dict[str, str]:
    """Stacks whose files stay as they were while their input is the one that failed. Blocks."""
    digests = {stack.name: stack.digest for stack in desired.stacks}
    return {
        name: rollback.revision
        for name, rollback in journal.rollbacks().items()
        if digests.get(name) == rollback.digest
    }


class Restorer:
    """Puts older releases in place of those that failed, for as long as their input is the same."""

    def __init__(
        self, repository: Repository, journal: Journal, secrets: SecretKeeper, host: str
    ) -> None:
        self._repository = repository
        self._journal = journal
        self._secrets = secrets
        self._host = host
        self._lock = anyio.Lock()
        self._older: dict[tuple[str, str], Stack] = {}
        self._desired: DesiredState | None = None
        self._in_place: tuple[str, dict[str, str]] | None = None

    async def effective(self, desired: DesiredState) -> DesiredState:
        """What is to run now: ``desired``, but with older releases where newer ones failed.

        Rollbacks whose input has changed are over. Raises :class:`CommitdError`.
        """
        self._desired = desired
        standing = await anyio.to_thread.run_sync(overlays, self._journal, desired)
        rollbacks = await anyio.to_thread.run_sync(self._journal.rollbacks)
        for name in rollbacks.keys() - standing.keys():
            if name in {stack.name for stack in desired.stacks}:
                await anyio.to_thread.run_sync(self._journal.end_rollback, name)
        older: dict[str, Stack] = {}
        why: dict[str, str] = {}
        lost: dict[str, Fault] = {}
        for name, revision in standing.items():
            why[name] = f"{rollbacks[name].reason}; it is back at {revision[:7]}"
            try:
                older[name] = await self._stack(name, revision)
                await self._check_out(standing)
            except CommitdError as err:  # what runs of it is left as it is, and protected
                lost[name] = Fault(f"it cannot be kept at {revision[:7]}: {err}", f"stacks/{name}")
        if not standing:
            await self._check_out(standing)
            return desired
        return replace(
            desired,
            stacks=tuple(older.get(s.name, s) for s in desired.stacks if s.name not in lost),
            broken={**desired.broken, **lost},
            rolled_back={name: reason for name, reason in why.items() if name not in lost},
        )

    async def restore(self, release: Release, failed: Stack, why: str) -> Stack:
        """Put the files of ``release`` in place of those of ``failed``; the stack it was.

        Raises :class:`CommitdError` when they are not to be had, or not without losing data.
        """
        name = release.stack
        older = await self._stack(name, release.revision)
        if older.digest != release.digest:
            raise PermanentError(f"its files at {release.revision[:7]} are not those that ran")
        async with self._lock:
            rollback = Rollback(failed.digest, release.revision, why)
            await anyio.to_thread.run_sync(self._journal.roll_back, name, rollback)
            if self._desired is None:
                raise PermanentError("nothing is declared")
            standing = await anyio.to_thread.run_sync(overlays, self._journal, self._desired)
            await self._check_out(standing)
            locked = await self._secrets.put(older)
        if locked:
            raise PermanentError(f"its secrets as they were cannot be decrypted: {locked}")
        return older

    async def _check_out(self, standing: Mapping[str, str]) -> None:
        """Bring the checkout in line, if it is not."""
        repository = self._repository
        if self._desired is None or self._in_place == (self._desired.revision.sha, standing):
            return
        applied = await repository.applied()
        if applied is None:
            return
        target = await repository.overlaid(applied, standing)
        if target != await repository.checked_out():
            if faults := await repository.look(target):
                raise PermanentError(f"its files cannot be put back: {faults[0]}")
            await repository.reset(applied, standing)
        self._in_place = (applied, dict(standing))

    async def _stack(self, name: str, revision: str) -> Stack:
        """A stack as it was at an older commit."""
        if (name, revision) not in self._older:
            try:
                tree = await self._repository.tree(revision)
                contents = await self._repository.contents(layout.wanted(tree, self._host))
                about = await self._repository.revision(revision)
                desired = layout.read(tree, contents, about, self._host)
            except CommitdError as err:
                raise PermanentError(f"{revision[:7]} cannot be read any more: {err}") from None
            found = next((stack for stack in desired.stacks if stack.name == name), None)
            if found is None:
                raise PermanentError(f"{name} cannot be read at {revision[:7]}")
            self._older = {**self._older, (name, revision): found}
        return self._older[name, revision]
