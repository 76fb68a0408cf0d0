"""What managers share: written by the leader after its journal, read by the next before it plans.

    leader:   journal's entry ─▶ share ─▶ the records that are not as the journal is ─▶ the Swarm
    standby:  follow: what people ordered, and now and then the rest
    next one: lead ─▶ changed since its own journal was last the same? ─▶ the record wins

A journal and a record were the same when this manager wrote or read that version of it, which the
journal notes. While the version is still that one, whatever differs is newer in the journal: an
order that was given while no agent ran, an entry after which the agent was killed. A version that
this manager has not seen is another leader's: then the record counts, whatever the journal has.
One that turns up while this manager writes is not written over: all is read again before it plans.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import anyio
from msgspec import Struct

from agent.adapters.engine.engine import Engine
from agent.adapters.guard import Guard
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.swarm import records as store
from agent.adapters.swarm.records import ConflictError, Stored
from agent.control.swarm import remembered
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.swarm import records
from agent.domain.swarm.records import ClusterRecord, Record, StackRecord

log = logging.getLogger("commitd.swarm")

_WHOLE_S = 10.0
"""Between two readings of all records by a manager that stands by."""


class Turn(Struct, frozen=True, kw_only=True):
    """What a manager is for one cycle. ``leader`` is the one that acts; None: this one.

    ``anew``: it has not led until now, so what it remembers may be others'. ``locked`` are stacks
    whose record cannot be read; then ``doubt`` says so, and nothing is removed. ``holds`` tell it.
    """

    leader: str | None = None
    anew: bool = False
    locked: Mapping[str, tuple[Reason, str]] = {}
    doubt: str | None = None
    holds: tuple[Hold, ...] = ()


class Records:
    """Of one manager. ``confirm`` raises :class:`CommitdError` where it does not lead any more."""

    def __init__(
        self,
        engine: Engine,
        journal: AsyncJournal,
        host: str,
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._host = host
        self._confirm = confirm
        self._own: str | None = None
        """The ID of this manager while it leads."""
        self._stored: dict[str, Stored] = {}
        self._written: dict[str, Record] = {}
        self._asked: dict[str, str] = {}
        """What was sent to the engine and not answered: if it is there, this manager wrote it."""
        self._damaged: dict[str, tuple[str, PermanentError]] = {}
        """Stacks whose records cannot be read, and why, by the names of the records."""
        self._failed: dict[str, str] = {}
        self._whole_at = 0.0
        self._lock = anyio.Lock()
        self._guard = Guard("sharing with other managers", log)

    async def lead(self, own: str) -> Turn:
        """At the beginning of each cycle of the leader, whose ID is ``own``.

        Raises :class:`CommitdError` where what is shared of the cluster cannot be read, and
        :class:`ConfigError` where it is of a cluster of another name.
        """
        async with self._lock:
            anew = self._own != own or bool(self._damaged) or await self._changed()
            if anew:
                await self._take_over(own)
            await self._write_all(own)
            if self._own is None:  # another one wrote in between
                anew = True
                await self._take_over(own)
                await self._write_all(own)
            if self._own is None:
                raise TransientError("another manager of the Swarm writes what they share just now")
            return self._turn(anew=anew)

    async def follow(self) -> str | None:
        """At the beginning of each cycle of another manager; the ID of the one that led last.

        What people ordered on that one is taken each time, for the remotes are followed by it; now
        and then all the rest, for those who look here. Raises :class:`CommitdError`.
        """
        async with self._lock:
            self._own = None
            if anyio.current_time() >= self._whole_at:
                found = await store.read(self._engine)
                self._whole_at = anyio.current_time() + _WHOLE_S
                await self._take(found, None)
            else:
                found = await store.read(self._engine, records.CLUSTER)
                await self._take_cluster(found.get(records.CLUSTER), await self._noted())
            await self._note_all()
            led = self._written.get(records.CLUSTER)
            return led.leader if isinstance(led, ClusterRecord) else None

    async def share(self) -> None:
        """After the journal's own entry, if this manager leads. A failure is tried again later."""
        async with self._lock:
            if self._own is None:
                return
            try:
                await self._confirm()
                await self._write_all(self._own)
            except CommitdError as err:
                self._guard.note(err, "; tried again in the next cycle")

    # --- reading ---

    async def _changed(self) -> bool:
        """Whether another manager has led since this one last looked: it writes who it is."""
        found = (await store.read(self._engine, records.CLUSTER)).get(records.CLUSTER)
        if found and found.text == self._asked.get(records.CLUSTER):
            self._stored[records.CLUSTER] = found
        return found != self._stored.get(records.CLUSTER)

    async def _take_over(self, own: str) -> None:
        self._own = None
        found, noted = await store.read(self._engine), await self._noted()
        cluster = await self._take(found, own)
        if cluster and (cluster.leader != own or noted.get(records.CLUSTER) != self._noting()):
            await self._journal.run(remembered.take_applied, cluster.applied)
        await self._note_all()
        self._own = own

    async def _take(self, found: Mapping[str, Stored], own: str | None) -> ClusterRecord | None:
        """Have the journal remember what it has not seen yet, of all records that were found.

        ``own`` is the ID of this manager if it leads.
        """
        noted = await self._noted()
        stored = found.get(records.CLUSTER)
        self._stored, self._written, self._damaged, self._asked = {}, {}, {}, {}
        cluster = await self._take_cluster(stored, noted)
        stacks = {name: each for name, each in found.items() if name != records.CLUSTER}
        for name, each in stacks.items():
            await self._take_stack(name, each, noted)
        there = {each.stack for each in stacks.values()}
        if stored is None or cluster is None:
            return None
        # Whether it has worked in this very cluster before, and nobody else has led since.
        member = noted.get(stored.name, [""])[0] == stored.id
        alone = cluster.leader == own and noted.get(stored.name) == _version(stored)
        for stack in await self._journal.run(remembered.stacks):
            if stack in there or alone:  # what is missing then, somebody has removed by hand
                continue
            if not member or records.name(stack) in noted:
                await self._journal.run(remembered.forget, stack)  # as another leader did
        return cluster

    async def _take_cluster(
        self, stored: Stored | None, noted: Mapping[str, list[Any]]
    ) -> ClusterRecord | None:
        if stored is None:
            return None
        record = records.read(stored.text, ClusterRecord, stored.name)
        records.refuse_other(record, self._host)
        if noted.get(stored.name) != _version(stored):
            lost = await self._journal.run(remembered.take_orders, record, self._host)
            for order in sorted(lost):
                log.warning(
                    "%s, ordered here, was not shared before another manager led, and does not"
                    " count; order it again on the leader",
                    order,
                )
        self._stored[stored.name], self._written[stored.name] = stored, record
        return record

    async def _take_stack(self, name: str, stored: Stored, noted: Mapping[str, list[Any]]) -> None:
        try:
            record = records.read(stored.text, StackRecord, name)
            records.refuse_of_another(record, stored.stack, name)
        except PermanentError as err:
            self._damaged[name] = stored.stack or name, err
            return
        if noted.get(name) != _version(stored):
            await self._journal.run(remembered.take_stack, record)
        self._stored[name], self._written[name] = stored, record

    def _turn(self, *, anew: bool) -> Turn:
        locked = {stack: (Reason.RECORD, str(err)) for stack, err in self._damaged.values()}
        holds = [
            Hold(stack, reason, detail, needs_person=True)
            for stack, (reason, detail) in locked.items()
        ]
        holds += [Hold(who, Reason.RECORD, why) for who, why in self._failed.items()]
        doubt = next((str(err) for _, err in self._damaged.values()), None)
        return Turn(anew=anew, locked=locked, doubt=doubt, holds=tuple(holds))

    # --- writing ---

    async def _write_all(self, own: str) -> None:
        """Have the Swarm keep what the journal knows now."""
        cluster, stacks = await self._journal.run(remembered.collected, own, self._host)
        wanted: dict[str, Record] = {records.CLUSTER: cluster}
        wanted |= {records.name(each.stack): each for each in stacks}
        self._failed = {}
        for name, record in wanted.items():
            if self._own and name not in self._damaged and self._written.get(name) != record:
                await self._guarded(record, self._write, name, record)
        for name in self._stored.keys() - wanted.keys():
            if self._own:
                await self._guarded(self._written[name], self._remove, name)
        if not self._failed:
            self._guard.recovered()
        await self._note_all()

    async def _guarded(
        self, record: Record, work: Callable[..., Awaitable[None]], *args: object
    ) -> None:
        try:
            await work(*args)
        except CommitdError as err:
            subject = record.stack if isinstance(record, StackRecord) else self._host
            self._failed[subject] = str(err)
            self._guard.note(err, "; tried again in the next cycle")

    async def _write(self, name: str, record: Record) -> None:
        text = records.text(record)
        stack = record.stack if isinstance(record, StackRecord) else None
        before, ours = self._stored.get(name), {text, self._asked.get(name)}
        self._asked[name] = text
        try:
            stored = await store.write(self._engine, name, stack, text, before)
        except ConflictError:
            before = await self._in_the_way(name, ours)
            try:
                stored = await store.write(self._engine, name, stack, text, before)
            except ConflictError:
                if before is None:
                    raise _taken(name) from None
                raise
        self._stored[name], self._written[name] = stored, record
        del self._asked[name]

    async def _remove(self, name: str) -> None:
        found = (await store.read(self._engine, name)).get(name)
        if found and found != self._stored[name]:
            found = await self._in_the_way(name, {self._asked.get(name)})
        if found:
            await store.remove(self._engine, found)
        del self._stored[name], self._written[name]

    async def _in_the_way(self, name: str, ours: Collection[str | None]) -> Stored | None:
        """What is kept now instead of what this manager knows, to be written over.

        That is what is ``ours``, or nothing where somebody has removed it by hand. Raises
        :class:`ConflictError` for what another leader did: then all is read again first.
        """
        await self._confirm()
        found = (await store.read(self._engine, name)).get(name)
        if found and found.text in ours:
            self._stored[name] = found
            return found
        if found is None and (name == records.CLUSTER or not await self._changed()):
            return None
        self._own = None
        raise ConflictError(
            "another manager has written it, which is read before anything else is planned",
            where=f"config {name}",
        )

    # --- the journal's note ---

    async def _noted(self) -> dict[str, list[Any]]:
        return dict(await self._journal.get(remembered.NOTED) or {})

    def _noting(self) -> list[Any]:
        return _version(self._stored[records.CLUSTER])

    async def _note_all(self) -> None:
        noted = {name: _version(each) for name, each in sorted(self._stored.items())}
        await self._journal.put(remembered.NOTED, noted)
        if isinstance(shared := self._written.get(records.CLUSTER), ClusterRecord):
            await self._journal.put(remembered.ORDERS, sorted(records.orders(shared)))


def _taken(name: str) -> PermanentError:
    return PermanentError(
        "a config of this name is there, and it is no record of commitd",
        where=f"config {name}",
        hint=f"docker config inspect {name} shows whose it is; docker config rm {name}",
    )


def _version(stored: Stored) -> list[Any]:
    return [stored.id, stored.version]
