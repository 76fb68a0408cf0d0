"""What is done to one release from its start until it is healthy, in these steps::

    make ─▶ launch, or start where services wait for each other ─▶ reload ─▶ (healthy)
      ▲                                                                       │
      └── put back what somebody else undid meanwhile ◀───────────────────────┘

Compose makes (creates, recreates), and the engine launches, unless more than that is to be done at
a start; then Compose does it, at once with making or, where services wait, afterwards. Reloading
has services notice that their mounted files changed, and those that share namespaces with them, or
follow them. Only a Compose takes one of the places, not who waits for a start or for health.
"""

from __future__ import annotations

import logging
import time
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext

from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.state.action_log import was_told
from agent.adapters.state.async_journal import AsyncJournal, Recording
from agent.control.health.activity import Activity
from agent.control.health.awaited import STOPPING, Steps
from agent.control.release.failing import failing, lost
from agent.control.release.making import Begun, Making
from agent.control.retry import Attempts
from agent.control.stack.operations import Stacks
from agent.control.stack.places import Places
from agent.control.stack.provision import Provisioner
from agent.control.stack.ready import Ready
from agent.control.stack.remover import Remover
from agent.domain.container import Container
from agent.domain.errors import (
    CancelledError,
    CommitdError,
    PermanentError,
)
from agent.domain.outcome import Action, Cause, CauseKind, Outcome, Reason, Reload, Status
from agent.domain.reconcile.plan import moved
from agent.domain.release import health, reload
from agent.domain.release.health import HealthFinding, Trouble
from agent.domain.release.release import Release
from agent.domain.repository.tree import Inputs
from agent.domain.revision import Revision

log = logging.getLogger("commitd.deploy")


class Batch(Struct, frozen=True):
    """What all deploys of one plan share. ``seen`` are the commits that remotes showed before."""

    revision: Revision
    places: Places
    seen: frozenset[str]
    doubt: bool


class StartTools(Struct, frozen=True, kw_only=True):
    """What a release is started with. Once ``stopping``, nothing is started any more."""

    stacks: Stacks
    making: Making
    remover: Remover
    provisioner: Provisioner
    journal: AsyncJournal
    attempts: Attempts
    stopping: Callable[[], bool]


class Before(Struct, frozen=True, kw_only=True):
    """What there was before a release.

    ``files`` are those that were mounted into each service; None: unknown. ``left`` are
    services that may go first. ``changed`` is whether it was another release; ``touching`` is told
    of the containers that there are before anything is done to them. ``release`` is the last one
    that was healthy; None: there was none.
    """

    files: Mapping[str, Inputs | None]
    release: Release | None
    left: Collection[str] = ()
    changed: bool = False
    touching: Callable[[Collection[Container]], None] = lambda _: None


_OF_OTHERS = {Trouble.REPLACED, Trouble.SURPLUS}
Healthy = Callable[[Ready, str], Awaitable[object]]
"""Waits until one service of a release is healthy."""


class Starting(Steps):
    """One release. In ``doubt`` about what is declared nothing is ended.

    ``healthy`` waits for one of its services.
    """

    def __init__(
        self,
        tools: StartTools,
        ready: Ready,
        before: Before,
        batch: Batch,
        *,
        doubt: bool,
        activity: Activity,
        healthy: Healthy,
    ) -> None:
        self._t = tools
        self._ready = ready
        self._before, self._older = before, before.files
        self._batch = batch
        self._doubt = doubt
        self._activity = activity
        self._healthy = healthy
        self._name = ready.stack.name
        self._untouched: frozenset[str] = frozenset()
        self._there: frozenset[str] = frozenset()
        self.waits = ready.waits
        self.made: Collection[Container] = ()
        self.began_at = time.time()

    async def make(self) -> None:
        """Make it, once: its networks and volumes, then room for its containers, then these.

        Raises :class:`CommitdError`.
        """
        ready, stacks, provisioner = self._ready, self._t.stacks, self._t.provisioner
        revision, left = self._batch.revision, self._before.left
        async with (
            provisioner.claimed(ready, changed=self._before.changed) as claim,
            self._batch.places.taken(),
        ):
            if self._t.stopping():
                raise CancelledError(STOPPING)
            async with self._compose() as begun:
                before = begun.there
                self._before.touching(before)
                self._there = frozenset(container.id for container in before)
                # From here on until it is healthy, it is unknown what is mounted.
                await self._t.journal.mark_dirty(self._name)
                self.began_at = time.time()
                with self._failing():
                    room = self._t.remover.make_room
                    await room(ready, before, left, revision, doubt=self._doubt)
                    if begun.anew:
                        self.made = await stacks.put_back(ready, begun.anew)
                    else:
                        self.made = await stacks.make(ready, before)
                    begun.made = self.made
            with self._failing():
                if behind := await provisioner.left_behind(ready, claim, before, self.made):
                    log.info("%s: recreating %s for its networks", self._name, ", ".join(behind))
                    async with self._compose():
                        self.made = await stacks.recreate(ready, behind)
        with self._failing():
            await self._launch()
        self._untouched = frozenset(container.id for container in before if container.alive)

    async def _launch(self) -> None:
        """Have the engine start what was made, if that is left to be done.

        No Compose waits meanwhile, and no place is taken. Only those are started of which it is
        known that the stack's own Compose made them.
        """
        ready, stacks = self._ready, self._t.stacks
        if not ready.started_by_engine:
            return
        try:
            await stacks.launch(ready, self._own())
        except CommitdError as err:
            if isinstance(err, PermanentError) or not await self.mend():
                raise
            await stacks.launch(ready, self._own())

    def _own(self) -> list[Container]:
        unknown = self._t.making.ledger.unknown
        return [c for c in self.made if not (c.kept or unknown(c))]

    async def start(self, limit_s: float) -> None:
        """Start what waits for others, unless a person has taken the stack over meanwhile."""
        await self._t.attempts.refuse_suspended(self._name)
        with self._failing():
            # What it makes in the place of what somebody removed just now is drift, and made anew.
            # To count that as its own would count all that comes as long as Compose waits.
            await self._t.making.clear(self._ready, self._batch.revision, doubt=self._doubt)
            await self._t.stacks.start(self._ready, limit_s)

    def _compose(self) -> AbstractAsyncContextManager[Begun]:
        return self._t.making.compose(self._ready, self._batch.revision, doubt=self._doubt)

    def _failing(self) -> AbstractContextManager[None]:
        """What fails in passing while Compose works, by whose fault it is."""
        return failing(self._there, self._activity)

    async def started(self) -> bool:
        """React, once for the files that changed, and always for namespaces that have ended."""
        reacted = await self._reload()
        self._older = {service: self._ready.files(service) for service in self._ready.services}
        self._untouched = frozenset()
        digest = self._ready.stack.digest
        await self._t.journal.keep_started(self._name, digest)
        return reacted

    async def mend(self) -> bool:
        """Replace the containers that no start brings back; whether there are any."""
        async with self._batch.places.taken(), self._compose():
            mended = await self._t.stacks.mend(self._ready)
        self._note(await self._t.stacks.containers(self._name))
        return mended

    async def put_back(self, findings: Sequence[HealthFinding]) -> None:
        """Put right what somebody else did, if the stack is not suspended meanwhile."""
        if self._t.stopping():
            raise CancelledError(STOPPING)
        await self._t.attempts.refuse_suspended(self._name)
        replaced = {f.service for f in findings if f.trouble in _OF_OTHERS}
        causes = [
            self._cause(CauseKind.STATE, f.service, "running", f.trouble.value) for f in findings
        ]
        said = ", ".join(dict.fromkeys(map(str, findings)))
        recording = self._recording(Reason.INTERFERENCE, said, causes)
        try:
            async with recording:
                async with self._batch.places.taken(), self._compose() as begun:
                    self.began_at = time.time()
                    again = {*replaced, *begun.anew} & self._ready.services.keys()
                    self._note(await self._t.stacks.put_back(self._ready, again))
                try:
                    await self._launch()
                except CommitdError as err:
                    if not lost(err.message, {container.id for container in self.made}):
                        raise
                    # Somebody goes on undoing it, which the next look finds.
                    log.info("%s: undone again while it was restored: %s", self._name, err)
        except CommitdError as err:  # the gate goes on looking, and will ask for it again
            if not was_told(err):
                log.warning("%s: it cannot be restored yet: %s", self._name, err)

    # --- reactions ---

    @property
    def stale(self) -> list[str]:
        """Services of it that run on with files that are others by now."""
        return self._stale_of(self.made)

    def _stale_of(self, containers: Iterable[Container]) -> list[str]:
        untouched = {c.service for c in containers if c.id in self._untouched and not c.one_off}
        return [
            name
            for name in self._ready.services
            if name in untouched
            and (self._older.get(name, ()) or self._ready.files(name))
            and self._older.get(name, ()) != self._ready.files(name)
        ]

    async def _reload(self) -> bool:
        """Compose sees no change of a file that is mounted, and leaves the old one in place.

        Nor does it see what was changed on a container while it ran, or that it runs in namespaces
        which have ended. Whether there was anything to do.
        """
        ready = self._ready
        joins = any(each.joins for each in ready.services.values())
        if not (self._untouched or joins or ready.waits):
            return False  # all of it is new
        after = await self._t.stacks.containers(self._name)
        there = [c for c in after if c.id in self._untouched and not c.one_off]
        own: dict[str, reload.Step] = {}
        for name in self._stale_of(there):
            files = self._older.get(name, ()) or ()
            how = await self._t.stacks.reload(ready, name, _of(name, there), files)
            own[name] = reload.Step(service=name, how=how, reason=Reason.MOUNTED)
        for name in await self._t.stacks.readjust(ready, there):
            own[name] = reload.Step(service=name, how=Reload.RECREATE, reason=Reason.BY_HAND)
        cut_off = await self._t.stacks.cut_off(ready)
        needs = {name: service.needs for name, service in ready.services.items()}
        steps = reload.sequence(own.values(), cut_off, needs)
        for step in steps:
            mine = [c for c in _of(step.service, after) if c.alive]
            if step.owner is None:
                mine = [c for c in mine if c.id in self._untouched]
            if mine:
                for service in step.healthy:  # as Compose does it where depends_on asks for it
                    await self._healthy(ready, service)
                await self._reload_for(step, mine)
        self._note(await self._t.stacks.containers(self._name) if steps else after)
        return bool(steps)

    def _note(self, there: Iterable[Container]) -> None:
        """These are its containers by now, but for what somebody put among them."""
        self.made = health.made_by_compose(self._ready.services, there, self.made)

    async def _reload_for(self, step: reload.Step, containers: Sequence[Container]) -> None:
        detail, causes = f"{step.how} {step.service}", self._causes(step)
        recreates = step.how == Reload.RECREATE
        place = self._batch.places.taken() if recreates else nullcontext()
        compose = self._compose() if recreates else nullcontext()
        async with self._recording(step.reason, detail, causes) as entry, place, compose:
            await self._t.stacks.reload_services(self._ready, step.service, containers, step.how)
            if step.how == Reload.NONE:
                entry.outcome = Outcome(subject=self._name, status=Status.SKIPPED)

    def _causes(self, step: reload.Step) -> tuple[Cause, ...]:
        """The files that moved, or the service or container that is followed."""
        sha = self._batch.revision.sha
        if step.owner is None and step.reason is not Reason.MOUNTED:
            return ()
        if step.owner is None:
            older = self._older.get(step.service, ()) or ()
            files = moved(older, self._ready.files(step.service), sha)
            return tuple(replace(c, stack=self._name, service=step.service) for c in files)
        if step.owner in self._ready.services:
            return (self._cause(CauseKind.RESTARTED, step.owner, "running", "started again"),)
        other = Cause(
            kind=CauseKind.RESTARTED, name=step.owner, before="running", after="started again"
        )
        return (other,)

    def _cause(self, kind: CauseKind, service: str, before: str, after: str) -> Cause:
        """Of a service of its own."""
        return Cause(kind=kind, stack=self._name, service=service, before=before, after=after)

    def _recording(
        self, reason: Reason, detail: str, causes: Iterable[Cause]
    ) -> AbstractAsyncContextManager[Recording]:
        revision = self._batch.revision.sha
        return self._t.journal.recording(
            Action.RESTART, self._name, reason, detail=detail, causes=causes, revision=revision
        )


def _of(service: str, containers: Iterable[Container]) -> list[Container]:
    return [c for c in containers if c.service == service and not c.one_off]
