"""Doing what the plan says: deploys and removals, and which stacks are being worked on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import anyio

from agent.adapters.state.action_log import was_told
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.tasks import task_group
from agent.control.health.awaited import STOPPING
from agent.control.release.deploy import Deployer
from agent.control.release.deployment import DeployTools
from agent.control.retry import Attempts
from agent.control.stack import places
from agent.control.stack.places import Places
from agent.domain.errors import CommitdError
from agent.domain.outcome import Action, Outcome, Reason, Status, kept_volumes
from agent.domain.reconcile.actions import Deploy, RemoveStack
from agent.domain.repository import dependencies
from agent.domain.revision import Revision

log = logging.getLogger("commitd.converge")


class StackRemover(Protocol):
    """What takes whole stacks down; their volumes stay."""

    async def volumes(self, project: str) -> list[str]:
        """All volumes of the stack, as far as they are known. Raises :class:`CommitdError`."""

    async def take_down(self, project: str, revision: Revision) -> None:
        """Take it down, and look whether it is gone. Raises :class:`CommitdError`."""


class Converger:
    """Executes deploys and removals; writes each down before and after.

    ``pulse`` is told whenever a stack is done with; once ``stopping``, nothing more is begun.
    """

    def __init__(
        self,
        tools: DeployTools,
        remover: StackRemover,
        *,
        parallel: int,
        pulse: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._remover = remover
        self._journal: AsyncJournal = tools.journal
        self._attempts: Attempts = tools.attempts
        self._deployer = Deployer(tools, self._done)
        self._heads = tools.steps.heads
        self._pulse = pulse
        self._stopping = stopping
        self._places = places.for_compose(parallel)
        self._repairs = places.for_compose(parallel)
        """What drifted does not queue behind what changes."""
        self.busy: set[str] = set()
        """Stacks that are being worked on, or are about to be."""

    def _done(self, name: str) -> None:
        self.busy.discard(name)
        self._pulse()

    async def deploy(
        self,
        deploys: Collection[Deploy],
        revision: Revision,
        *,
        seen: frozenset[str],
        doubt: bool,
    ) -> list[Outcome]:
        """Bring all stacks to their declared state; never raises for one of them.

        ``seen`` are the commits that the remotes showed when this was decided. In ``doubt`` about
        what is declared, services that left their stack stay: nothing is ended.
        """
        drifted = all(deploy.reason is Reason.DRIFTED for deploy in deploys)
        which = self._repairs if drifted else self._places
        return await self._deploy(deploys, revision, which, seen=seen, doubt=doubt)

    async def repair(self, deploys: Collection[Deploy], revision: Revision) -> list[Outcome]:
        """Put right what drifted while others take their time: not behind them in the queue."""
        heads = self._heads()
        return await self._deploy(deploys, revision, self._repairs, seen=heads, doubt=True)

    async def _deploy(
        self,
        deploys: Collection[Deploy],
        revision: Revision,
        which: Places,
        *,
        seen: frozenset[str],
        doubt: bool,
    ) -> list[Outcome]:
        names = {deploy.stack.name for deploy in deploys}
        self.busy |= names
        try:
            return await self._deployer.deploy(deploys, revision, which, seen=seen, doubt=doubt)
        finally:
            self.busy -= names

    async def remove(self, removals: Iterable[RemoveStack], revision: Revision) -> list[Outcome]:
        """Take the stacks down, those that need others before those; never raises for one."""
        by_name = {removal.project: removal for removal in removals}
        if not by_name:
            return []
        releases = await self._journal.releases()
        needs = {name: releases[name].after if name in releases else () for name in by_name}
        if dependencies.faults(
            needs, by_name.keys() | {n for many in needs.values() for n in many}
        ):
            needs = dict.fromkeys(by_name, ())  # in a circle nobody could be first
        outcomes: dict[str, Outcome] = {}
        ended = {name: anyio.Event() for name in by_name}
        self.busy |= by_name.keys()

        async def one(name: str, before: Collection[str]) -> None:
            try:
                for other in before:
                    await ended[other].wait()
                async with self._places.taken():
                    outcomes[name] = await self._remove_guarded(
                        by_name[name], revision, {other: outcomes[other] for other in before}
                    )
            finally:
                ended[name].set()
                self._done(name)

        async with task_group() as group:
            for name, before in dependencies.turned(needs).items():
                group.start_soon(one, name, before)
        return [outcomes[name] for name in sorted(outcomes)]

    async def _remove_guarded(
        self, removal: RemoveStack, revision: Revision, before: Mapping[str, Outcome]
    ) -> Outcome:
        if self._stopping():
            return Outcome(subject=removal.project, status=Status.CANCELLED, error=STOPPING)
        for other, outcome in before.items():
            if outcome.status is not Status.SUCCEEDED:
                why = f"{other} needs it and is still up"
                return Outcome(subject=removal.project, status=Status.HELD, error=why)
        try:
            return await self._remove(removal, revision)
        except CommitdError as err:
            if not was_told(err):
                log.error("%s: %s", removal.project, err)  # noqa: TRY400  for operators
            return Outcome(subject=removal.project, status=Status.FAILED, error=str(err))
        except Exception as err:
            if not was_told(err):
                log.exception("%s: unexpected", removal.project)
            return Outcome(
                subject=removal.project,
                status=Status.FAILED,
                error=f"unexpected {type(err).__name__}",
            )

    async def _remove(self, removal: RemoveStack, revision: Revision) -> Outcome:
        project = removal.project
        volumes = await self._remover.volumes(project)
        async with self._journal.recording(
            Action.REMOVE_STACK,
            project,
            removal.reason,
            causes=(*removal.causes, *kept_volumes(volumes)),
            revision=revision.sha,
        ) as entry:
            outcome, _ = await self._attempts.tries(
                entry, project, lambda: self._remover.take_down(project, revision)
            )
            entry.outcome = outcome
        if outcome.status is Status.SUCCEEDED:
            await self._journal.forget_release(project)
        elif outcome.status is Status.FAILED:
            # No digest and never for good: what leaves has no input that could change.
            before, error = (await self._journal.attempts()).get(project), outcome.error
            await self._attempts.keep_failure(
                before, project, "", error or "it failed", permanent=False
            )
        return outcome
