"""Tells a forge how the newest commit fares on this host, beside the work.

    journal's news ─▶ accepted, failed ┐
    standings ─▶ report ───────────────┴▶ wanted ─▶ is it what was sent? ─▶ send ─▶ journal's meta
                                            ▲                                 │
                                            └── later, what is wanted then ◀──┘ fails

Only the newest is ever sent, and what was sent is not sent again, by the next agent neither. What
the forge refuses is tried again when something else is to be told, or ever more rarely: somebody
may have mended it there.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from msgspec.structs import asdict

from agent.adapters.guard import Guard
from agent.adapters.host.token_file import read_token
from agent.adapters.outside import forge
from agent.adapters.tasks import task_group
from agent.control.outside.running import Running
from agent.domain.backoff import Backoff
from agent.domain.errors import BusyError, CommitdError, PermanentError
from agent.domain.outcome import Action, Reason, Status
from agent.domain.outside import commit_status
from agent.domain.outside.commit_status import Done, Report
from agent.domain.outside_config import CommitStatus

log = logging.getLogger("commitd.commit_status")

SENT = "commit-status"
"""Where the journal keeps what was sent last, and to where; also the name of the trouble."""
_RETRY = Backoff(first_s=5.0, longest_s=300.0, jitter=0.1)
_REFUSED = Backoff(first_s=300.0, longest_s=3600.0, jitter=0.1)
_PACE = Backoff(first_s=60.0, longest_s=3600.0)
_AT_ONCE = 6
"""Reports of one commit; further ones are paced: GitHub takes 1000 of them."""
_MOST = 200
"""Actions of one commit that are looked at for its sentence."""
_WORK = {Action.DEPLOY, Action.REMOVE_STACK}


@asynccontextmanager
async def reporting(running: Running) -> AsyncIterator[None]:
    """Tell the configured forge while the block runs."""
    section = running.config.commit_status
    assert section is not None  # noqa: S101  or it is not loaded
    async with task_group() as group:
        group.start_soon(Reporter(running, section).run)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


class Reporter:
    """Of one host, to one forge."""

    def __init__(self, running: Running, section: CommitStatus) -> None:
        self._running = running
        self._section = section
        self._context = f"commitd/{running.config.host}"
        self._address = {
            "to": section.statuses, "context": self._context, "link": section.page_url,
        }  # fmt: skip
        self._telling = Guard(f"telling {urlsplit(section.statuses).hostname} of commits", log)
        self._cursor: int | None = None
        self._number = 0
        self._done: tuple[str, int, Done] | None = None
        self._wanted: Report | None = None
        self._changed = anyio.Event()
        self._sent: Report | None = None
        self._failures = self._sendings = 0
        self._refused: Report | None = None
        self._free_at = self._again_at = self._paced_until = -math.inf

    async def run(self) -> None:
        """For ever; nothing is raised."""
        await Guard("reading what a forge was told", log).until_done(self._recall)
        async with task_group() as group:
            for what, work in (
                ("hearing of new commits", self._hear),
                ("judging a commit", self._judge),
                ("telling a forge", self._tell),
            ):
                group.start_soon(Guard(what, log).forever, work)

    async def _recall(self) -> None:
        kept: Mapping[str, Any] = await self._running.journal.get(SENT) or {}
        if all(kept.get(key) == value for key, value in self._address.items()):
            self._sent = Report(**{key: kept[key] for key in Report.__struct_fields__})

    # --- what is to be told ---

    async def _hear(self) -> None:
        """A new commit, and a failure, are told at once: a cycle waits for the slowest stack."""
        journal = self._running.journal
        if self._cursor is None:
            self._cursor = await journal.news.newest()
        events = await journal.news.after(self._cursor)
        self._cursor = events[-1].seq
        for event in events:
            entry = event.entry
            if not event.ended or entry.revision is None:
                continue
            new = entry.action is Action.ACCEPT and entry.reason is Reason.NEW_HEAD
            if new and entry.status == Status.SUCCEEDED:
                await self._accepted(entry.revision)
            elif entry.action is Action.DEPLOY and entry.status == Status.FAILED:
                await self._failed(entry.revision, entry.subject, entry.error or "")

    async def _accepted(self, revision: str) -> None:
        known = self._wanted is not None and self._wanted.revision == revision
        if not known and await self._is_newest(revision):
            self._want(commit_status.accepted(revision))

    async def _failed(self, revision: str, stack: str, error: str) -> None:
        before = self._wanted or self._sent
        waits = before and (before.revision, before.state) == (revision, "pending")
        if waits and await self._is_newest(revision):
            self._want(commit_status.failed(revision, stack, error))

    async def _is_newest(self, revision: str) -> bool:
        newest = await self._running.journal.get("attempted") or {}
        return bool(newest.get("sha") == revision)

    async def _judge(self) -> None:
        standing = await self._running.standings.after(self._number)
        self._number = standing.number
        about = commit_status.subject(standing.facts, standing.holds)
        ended = standing.cycle is not None
        found = commit_status.report(
            standing.facts,
            standing.holds,
            standing.stacks,
            standing.verdict,
            ended=ended,
            done=await self._done_for(about) if ended and about else Done(),
            before=self._wanted or self._sent,
        )
        if found:
            self._want(found)

    async def _done_for(self, revision: str) -> Done:
        """What was done for the commit; read anew only when something was done."""
        journal = self._running.journal
        newest = await journal.news.newest()
        if self._done is None or self._done[:2] != (revision, newest):
            taken = await journal.history(
                subject=self._running.config.host,
                actions={Action.ACCEPT},
                commit=revision,
                limit=1,
            )
            since = taken[0].id if taken else 0  # or all of a long journal would be read
            entries = await journal.history(
                after=since, commit=revision, actions=_WORK, limit=_MOST
            )
            well = [each for each in entries if each.status == Status.SUCCEEDED]
            done = Done(
                deployed={each.subject for each in well if each.action is Action.DEPLOY},
                removed={each.subject for each in well if each.action is Action.REMOVE_STACK},
            )
            self._done = revision, newest, done
        return self._done[2]

    def _want(self, report: Report) -> None:
        if report != self._wanted:
            self._wanted = report
            self._changed.set()
            self._changed = anyio.Event()

    # --- telling it ---

    async def _tell(self) -> None:
        changed, wanted = self._changed, self._wanted
        if wanted == self._sent:  # whatever could not be told meanwhile is over
            self._running.trouble.clear(SENT)
        wait_s = self._wait_s(wanted)
        if wanted is None or wait_s > 0:
            with anyio.move_on_after(wait_s):
                await changed.wait()
            return
        try:
            await self._send(wanted)
        except CommitdError as err:
            self._note(wanted, err)
            return
        if self._sent is None or self._sent.revision != wanted.revision:
            self._sendings = 0
        self._sent, self._sendings = wanted, self._sendings + 1
        self._refused, self._failures = None, 0
        pace_s = _PACE.wait_s(self._sendings - _AT_ONCE) if self._sendings > _AT_ONCE else 0.0
        self._paced_until = time.monotonic() + pace_s
        self._telling.recovered()
        self._running.trouble.clear(SENT)
        log.debug("%s: %s is told as %s: %s", self._context, wanted.revision[:7], wanted.state,
                  wanted.text)  # fmt: skip
        await self._running.journal.put(SENT, {**self._address, **asdict(wanted)})

    def _wait_s(self, wanted: Report | None) -> float:
        """For how long nothing is to be sent, unless something else is wanted."""
        if wanted is None or wanted == self._sent:
            return math.inf
        until = self._free_at
        if wanted == self._refused:
            until = max(until, self._again_at)
        elif self._sent is not None and self._sent.revision == wanted.revision:
            until = max(until, self._paced_until)
        return until - time.monotonic()

    async def _send(self, report: Report) -> None:
        def read() -> str:
            return read_token(self._section.token_file, "commit_status.token_file").decode()

        token = await anyio.to_thread.run_sync(read)  # each time: it may have been replaced
        await forge.tell(self._section, self._context, report, token)

    def _note(self, report: Report, err: CommitdError) -> None:
        """Say what is wrong, and when to try again; what is refused not before long."""
        self._failures += 1
        chance, now = random.random(), time.monotonic()  # noqa: S311  spreads load
        if isinstance(err, PermanentError):
            wait_s = _REFUSED.wait_s(self._failures, chance)
            self._refused, self._again_at = report, now + wait_s
            self._free_at = now + _RETRY.first_s
        else:
            asked_s = err.retry_after_s if isinstance(err, BusyError) else None
            wait_s = max(_RETRY.wait_s(self._failures, chance), asked_s or 0.0)
            self._refused, self._free_at = None, now + wait_s
        self._telling.note(err, f"; again in {wait_s:.0f} s")
        self._running.trouble.set(SENT, str(err))
