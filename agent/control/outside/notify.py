"""Telling people: each target of ``notify`` in a task of its own.

    journal's events ──▶ take ┐                ┌▶ kept in the journal, with the cursor
    end of a cycle ──▶ observe├▶ Memory (pure) ┤
    time ──────────────▶ tick ┘                └▶ load ─▶ outbox ─▶ a child that sends it

What is to be told is worked out in :mod:`agent.domain.outside.folding`; here it is fed, kept and
sent. One message is under way at a time. While its service does not take it, what happens is
gathered, and folded into the next. A message is struck out once it was sent: an agent that is
killed between the two sends it again; none is lost, but for one that a service has not taken for
longer than ``TRIES`` allow.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
import msgspec
from msgspec.structs import replace

from agent.adapters.guard import Guard, brief
from agent.adapters.host.url_file import read_url
from agent.adapters.outside import delivery
from agent.adapters.state.actions import Event, JournalEntry
from agent.adapters.tasks import task_group
from agent.control.outside.running import Running
from agent.control.status.standing import Standing
from agent.domain.backoff import Backoff
from agent.domain.config import Config
from agent.domain.errors import CommitdError, ConfigError
from agent.domain.outside import folding, happenings, texts
from agent.domain.outside.folding import Memory
from agent.domain.outside.happenings import Declared, Done
from agent.domain.outside.texts import Message
from agent.domain.outside_config import Target

log = logging.getLogger("commitd.notify")

AT_ONCE = 3
"""Children that send, for all targets: each takes 50 MB while it does."""
TRIES = 12
"""Of one message; the last one is about an hour after the first."""
AGAIN_S, _AGAIN_MOST_S = 5.0, 600.0
"""Before the second try, and before the last ones."""
END_S = 5.0
"""How long a message that is under way may take when the agent ends."""
_ACTIONS_S = 5.0
_UNKEPT, _UNKEPT_S = 200, 3600.0
"""Events, or time, after which the cursor is written down although there was no news."""
_AWAY_S = 86400.0
"""Whose cursor is older was not told for a while, because nobody wanted it: no old story then."""
_KEY = "notify/"


@asynccontextmanager
async def notifying(running: Running) -> AsyncIterator[None]:
    """Tell the targets of the configuration while the block runs."""
    there = await anyio.to_thread.run_sync(delivery.is_there)
    if not there:
        log.warning("nobody is notified: %s", delivery.missing())
        for target in running.config.notify:
            running.trouble.set(f"notify:{target.name}", str(delivery.missing()))
        yield
        return
    places = anyio.CapacityLimiter(AT_ONCE)
    tellings = [Telling(running, target, places) for target in running.config.notify]
    async with task_group() as group:
        for telling in tellings:
            group.start_soon(telling.forever)
        try:
            yield
            with anyio.move_on_after(END_S):
                for telling in tellings:
                    await telling.rest()
        finally:
            group.cancel_scope.cancel()


class Telling:
    """Of one target."""

    def __init__(self, running: Running, target: Target, places: anyio.CapacityLimiter) -> None:
        self._places = places
        self._journal = running.journal
        self._standings = running.standings
        self._trouble = running.trouble
        self._host = running.config.host
        self._target = target
        self._memory: Memory | None = None
        self._kept = (0, 0.0)
        self._news, self._at_rest, self._ending = anyio.Event(), anyio.Event(), False
        self._at_rest.set()
        self._sending = Guard(f"notifying {target.name}", log)
        self._keeping = Guard(f"remembering what {target.name} was told", log)

    async def forever(self) -> None:
        """Tell it, until cancelled; what goes wrong here stops nothing else."""
        await Guard(f"notifications for {self._target.name}", log).until_done(self._run)

    async def _run(self) -> None:
        if self._memory is None:
            self._memory = await self._recall()
            await self._keep()
        async with task_group() as group:
            # What cannot be read for a while interrupts no message that is under way.
            for work in (self._hear_actions, self._hear_standings, self._tell):
                guard = Guard(f"notifications for {self._target.name}", log)
                group.start_soon(guard.until_done, work)

    async def _recall(self) -> Memory:
        """What is known from before; without it begins with what is done from now on."""
        kept = await self._journal.get(_KEY + self._target.name)
        newest = await self._journal.news.newest()
        try:
            memory = msgspec.convert(kept, Memory) if kept else Memory(seq=newest)
        except msgspec.ValidationError:  # of another version
            memory = Memory(seq=newest)
        if kept and self._journal.now() - memory.at > _AWAY_S:
            memory = Memory(seq=newest)
        # A journal that was begun anew counts from the beginning.
        return memory if memory.seq <= newest else replace(memory, seq=0)

    async def _hear_actions(self) -> None:
        while True:
            events = await self._journal.news.after(self._now.seq)
            declared = Declared.read(await self._journal.get("declared"))
            await self._update(self._taken(events, declared))

    def _taken(self, events: Sequence[Event], declared: Declared) -> Memory:
        memory, now = self._now, self._journal.now()
        for event in events:
            happening = None
            if event.ended:
                happening = happenings.done_by(_done(event.entry), declared)
            if happening:
                memory = folding.take(memory, happening, self._target.wanted, now)
            memory = replace(memory, seq=event.seq)
        return memory

    async def _hear_standings(self) -> None:
        number = 0
        while True:
            standing = await self._standings.after(number, ended=True)
            number = standing.number
            # The actions of that cycle come first, so that its successes are one message.
            newest = await self._journal.news.newest()
            with anyio.move_on_after(_ACTIONS_S):
                while self._now.seq < newest:
                    await self._news.wait()
            await self._update(self._observed(standing))

    def _observed(self, standing: Standing) -> Memory:
        facts = standing.facts
        declared = Declared.read(facts.declared)
        found = happenings.troubles(facts, standing.holds, standing.verdict, declared)
        looked = facts.containers is not None and not facts.look.error and facts.standby is None
        unknown = happenings.unclear(standing.stacks, standing.verdict) if looked else None
        kinds, now = self._target.wanted, self._journal.now()
        return folding.observe(self._now, found, kinds, now, unknown=unknown)

    @property
    def _now(self) -> Memory:
        if self._memory is None:
            raise RuntimeError("nothing is known yet")
        return self._memory

    async def _update(self, memory: Memory) -> None:
        """It is this from now on; kept, if the journal takes it."""
        changed = memory != replace(self._now, seq=memory.seq)
        self._memory = memory
        told, self._news = self._news, anyio.Event()
        told.set()
        unkept = memory.seq - self._kept[0] >= _UNKEPT
        if changed or unkept or self._journal.now() - self._kept[1] >= _UNKEPT_S:
            await self._keep()

    async def _keep(self) -> None:
        memory = replace(self._now, at=self._journal.now())

        async def put() -> None:
            await self._journal.put(_KEY + self._target.name, msgspec.to_builtins(memory))

        try:
            await put()
        except CommitdError as err:  # a full disk: it goes on, and may repeat itself later
            self._keeping.note(err)
        else:
            self._kept = memory.seq, memory.at
            self._keeping.recovered()

    async def _tell(self) -> None:
        """Send what is due, one message after the other."""
        while True:
            news = self._news
            now = self._journal.now()
            memory = folding.load(folding.tick(self._now, self._target.wanted, now), now)
            if memory != self._now:
                await self._update(memory)
            if self._now.outbox is not None:
                await self._send()
                continue
            due = folding.due_at(self._now)
            with anyio.move_on_after(None if due is None else max(0.05, due - now)):
                await news.wait()

    async def _send(self) -> None:
        """Send the message in the outbox once; in vain, wait before the next time."""
        batch = self._now.outbox
        if batch is None or self._ending:
            await anyio.sleep_forever()
            return
        name, self._at_rest = f"notify:{self._target.name}", anyio.Event()
        try:
            template = self._target.templates.get(batch.kind)
            message = texts.message(batch, self._host, template)
            async with self._places:
                await deliver(self._target, message)
        except Exception as err:  # noqa: BLE001  a message that cannot be sent holds up no other
            tries, again_s = batch.tries + 1, _again_s(batch.tries + 1)
            self._trouble.set(name, brief(err))
            left = replace(batch, tries=tries) if tries < TRIES else None
            await self._update(replace(self._now, outbox=left))
            self._at_rest.set()
            if left is None:
                told = f"{batch.count} × {batch.kind.value}"
                log.warning("%s is not told of %s: %s", self._target.name, told, brief(err))
            else:
                self._sending.note(err, f"; again in {again_s:.0f} s")
                await anyio.sleep(again_s)
        else:
            self._trouble.clear(name)
            self._sending.recovered()
            await self._update(replace(self._now, outbox=None))
        finally:
            self._at_rest.set()

    async def rest(self) -> None:
        """Begin no message any more; wait for the end of one that is under way."""
        self._ending = True
        await self._at_rest.wait()


def _again_s(tries: int) -> float:
    return Backoff(first_s=AGAIN_S, longest_s=_AGAIN_MOST_S).wait_s(tries)


def _done(entry: JournalEntry) -> Done:
    after = happenings.after_eviction((cause.kind, cause.after) for cause in entry.cause)
    return Done(
        action=entry.action,
        subject=entry.subject,
        reason=entry.reason,
        status=entry.status,
        message=entry.message,
        error=entry.error,
        revision=entry.revision,
        after=after,
        moved=tuple(dict.fromkeys(cause.subject for cause in entry.cause)),
    )


async def deliver(target: Target, message: Message) -> None:
    """Send it to one target, once. Raises :class:`CommitdError`, which holds no URL."""
    what = f"notify: {target.name}"
    url = await anyio.to_thread.run_sync(partial(read_url, target.url_file, what))
    await delivery.send(url, message.title, message.text)


async def try_out(config: Config, name: str | None) -> dict[str, str | None]:
    """Send a test to all targets, or the one of this name; why it failed, by name, or None.

    Raises :class:`ConfigError` where there is no such target.
    """
    known = [target.name for target in config.notify]
    wanted = [target for target in config.notify if name in (None, target.name)]
    if not wanted:
        message = f"notify: there is no target {name!r}" if name else "notify: nobody is to be told"
        hint = f"known: {', '.join(known)}" if known else "docs/how-to/notify.md says how"
        raise ConfigError(message, hint=hint)
    found: dict[str, str | None] = {}

    async def attempt(target: Target) -> None:
        try:
            await deliver(target, texts.trial(config.host))
        except CommitdError as err:
            found[target.name] = str(err)
        else:
            found[target.name] = None

    async with task_group() as group:
        for target in wanted:
            group.start_soon(attempt, target)
    return {target.name: found[target.name] for target in wanted}
