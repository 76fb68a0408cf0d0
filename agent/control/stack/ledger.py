"""The IDs of the containers that the agent had Compose make: written around each Compose, read when
a container is judged.

    begin: the IDs that are there ─▶ Compose ─▶ end: those that are own, and what is there beside
                                                     the ones of before

No clock decides what Compose made: between the two the project is worked on, and nothing of it is
judged. An agent that is killed in between leaves it so; the next one takes what has come by its own
start for what that Compose made (``settle``), and judges what comes later.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable

from msgspec import Struct

from agent.adapters.engine.engine import Engine
from agent.adapters.state import damage
from agent.adapters.state.async_journal import AsyncJournal
from agent.domain.container import Container
from agent.domain.errors import CommitdError
from agent.domain.outcome import Reason
from agent.domain.reconcile.host_state import HostState
from agent.domain.release import drift, identity
from agent.domain.release.identity import Known, Own

log = logging.getLogger("commitd.stacks")


class Look(Struct, frozen=True, kw_only=True):
    """A project before Compose works on it: all that is there, and what of that is what.

    ``rivals`` must go first; of these ``evicted`` (IDs) were found to be some before, and are kept;
    none by a journal that was begun anew, which does not know what was here first.
    ``halves`` may be ones that somebody makes just now.
    """

    there: tuple[Container, ...]
    own: Own
    rivals: tuple[Container, ...]
    substitutes: tuple[Container, ...]
    halves: tuple[Container, ...]
    evicted: frozenset[str]


class Ledger:
    """One writer: the agent. What the journal has is also here, for events, which do not wait."""

    def __init__(self, engine: Engine, journal: AsyncJournal) -> None:
        self._engine = engine
        self._journal = journal
        self._known: dict[str, Known] = {}

    async def read(self, applied: str | None) -> None:
        """Learn what the journal has, unless it is older than the ``applied`` commit of the clone.

        A backup that was put back does not know what was deployed after it; that is no rival.
        """
        declared = await self._journal.get("declared")
        if applied and declared and declared["revision"]["sha"] != applied:
            log.warning(
                "the journal does not know the applied commit %s, as if an older one was put back: "
                "labels say whose a container is, until its stack is seen in sync or deployed",
                applied[:7],
            )
            await self._journal.forget_made()
        self._known = await self._journal.made()

    async def settle(self) -> None:
        """Note what a Compose made that was cut short; at start, when none of the agent's runs.

        A clean release was not touched yet, or was healthy since: ``learn`` takes it as it stands.
        Raises :class:`CommitdError`.
        """
        releases = await self._journal.releases()
        for project, known in list(self._known.items()):
            release = releases.get(project)
            if known.before is None or (release and not release.dirty):
                continue
            there = [c for c in await self._engine.containers(project) if not c.kept]
            await self._keep(project, Known(identity.own_now(known, there)))

    def unknown(self, container: Container) -> bool:
        """Whether it is none of the stack's own whose labels it has, as far as they are known."""
        known = self._known.get(container.project or "")
        if known is None or known.before is not None:
            return False
        return any(pair not in known.own for pair, _ in identity.claims([container]))

    async def rivals(self, project: str) -> list[Container]:
        """The containers of the project that took nobody's place, by a fresh look.

        Raises :class:`CommitdError`.
        """
        # Before the journal: what is there now and was made by Compose is in the journal by then.
        containers = await self._engine.containers(project)
        known = (await self._journal.made()).get(project)
        own = known.own if known and known.before is None else None
        return identity.rivals(own, containers)

    async def look(self, project: str) -> Look:
        """What is there before Compose works on the project. Raises :class:`CommitdError`."""
        kept = await self._journal.kept()
        evicted = frozenset(e.id for e in kept if e.reason is Reason.UNKNOWN_CONTAINER)
        anew = await self._journal.run(damage.begun_anew)
        known = (await self._journal.made()).get(project)
        there = await self._engine.containers(project)
        others = [c for c in there if c.id not in evicted]
        own = identity.own_now(known, others)
        rivals = [c for _, c in identity.claims(there) if c.id in evicted]
        return Look(
            there=there,
            own=own,
            rivals=(*rivals, *identity.rivals(own, others)),
            substitutes=tuple(identity.substitutes(own, others)),
            halves=tuple(identity.halves(own, others)),
            evicted=frozenset() if anew else evicted,
        )

    async def begin(self, project: str, look: Look) -> None:
        """Compose is about to work on the project. Raises :class:`CommitdError`."""
        await self._keep(project, Known(look.own, frozenset(c.id for c in look.there)))

    async def end(
        self, project: str, services: Collection[str], made: Iterable[Container] | None = None
    ) -> None:
        """Compose has ended: its ``services`` have what was own and what came meanwhile.

        ``made`` are the containers since then, if they were listed. Raises :class:`CommitdError`;
        the project then stays one that is worked on.
        """
        containers = await self._engine.containers(project) if made is None else made
        own = identity.own_after(self._known[project], containers, services)
        await self._keep(project, Known(own))

    async def forget_left(self, project: str, services: Collection[str]) -> None:
        """Only its ``services`` are the project's by now: what else is there is judged by labels.

        A failure is logged: no healthy release goes back because of it.
        """
        known = self._known.get(project)
        own = frozenset(pair for pair in known.own if pair[0] in services) if known else None
        if known and own != known.own:
            try:
                await self._keep(project, Known(own or frozenset(), known.before))
            except CommitdError as err:
                log.warning("%s: %s", project, err)

    async def adopt(self, project: str, containers: Iterable[Container]) -> None:
        """All these are its own from now on, whoever made them."""
        await self._keep(project, Known(identity.own_now(None, containers)))

    async def learn(self, situation: HostState) -> None:
        """The containers of releases of which they are not known, as long as they stand.

        An older agent recorded those, or what was written around Compose was cut short. Only while
        no Compose works. What of the stack's other services a person had started then goes on.
        """
        desired = {stack.name: stack for stack in situation.desired.stacks}
        for name, release in situation.releases.items():
            known = self._known.get(name)
            if release.dirty or (known and known.before is None):
                continue
            mine = [c for c in situation.containers if c.project == name and not c.kept]
            if not drift.compare(release, mine, situation.stopped):
                stack = desired.get(name)
                services = {service.name for service in release.services}
                services |= stack.services if stack else set()
                every = stack is not None and stack.more
                await self.adopt(name, [c for c in mine if every or c.service in services])

    async def _keep(self, project: str, known: Known) -> None:
        await self._journal.keep_made(project, known)
        self._known[project] = known
