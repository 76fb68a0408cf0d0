"""What was done and why, and the events of it: each action as it begins and as it ends.

Actions are forgotten after a while; how many there ever were (``totals``) is not.

An event is written with what it tells, in one transaction; so whoever keeps the number of the last
one he has read (a cursor) misses none and reads none twice, across restarts too.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict, replace

from agent.adapters.state.database import kept_as, utcnow
from agent.adapters.state.evictions import Evicted, Evictions
from agent.domain.outcome import (
    Action,
    Cause,
    CauseKind,
    Outcome,
    Phase,
    Reason,
    Total,
    checked_code,
)

CUT_SHORT = "the agent ended meanwhile"
"""Of actions that a killed agent left open."""
Ended = tuple[Evicted, Mapping[str, Any]]
"""A container that is about to be ended, and what an inspect showed of it."""


class JournalEntry(Struct, frozen=True, kw_only=True):
    """One action as ``history --json`` shows it."""

    id: int
    at: str
    action: Action
    subject: str
    reason: Reason
    detail: str | None
    cause: tuple[Cause, ...]
    revision: str | None
    status: str
    attempts: int
    duration_s: float | None
    error: str | None
    actor: str | None = None

    @property
    def message(self) -> str:
        """Why, for people."""
        return self.reason.message(self.detail)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        found = asdict(self) | {"cause": [cause.as_json() for cause in self.cause]}
        why = {key: found.pop(key) for key in ("id", "at", "action", "subject", "reason", "detail")}
        return why | {"message": self.message} | found


class Event(Struct, frozen=True, kw_only=True):
    """An action that has begun, or has ``ended``. ``seq`` numbers events; a later one has more.

    ``entry`` is how the action was then: one that had begun was running, whatever became of it.
    """

    seq: int
    ended: bool
    entry: JournalEntry

    def as_json(self) -> dict[str, Any]:
        """For programs: the action, and its ``phase``."""
        return {"phase": "end" if self.ended else "begin", **self.entry.as_json()}


_OWN = frozenset({"ran", "seq", "ended", "phases"})
"""Columns that no entry shows."""


def entry_of(row: sqlite3.Row) -> JournalEntry:
    """The action that is kept so. Raises :class:`ValueError` and its like for a damaged one."""
    causes = tuple(
        kept_as(Cause, cause | {"kind": CauseKind.read(cause["kind"], otherwise=CauseKind.UNKNOWN)})
        for cause in json.loads(row["cause"])
    )
    codes = {
        "action": Action.read(row["action"], otherwise=Action.OTHER),
        "reason": Reason.read(row["reason"], otherwise=Reason.OTHER),
    }
    shown = {key: value for key, value in dict(row).items() if key not in _OWN}
    status = checked_code(row["status"] or "running")
    return JournalEntry(**{**shown, **codes, "status": status, "cause": causes})


def _event(row: sqlite3.Row) -> Event:
    entry, ended = entry_of(row), bool(row["ended"])
    if not ended:
        entry = replace(entry, status="running", attempts=0, duration_s=None, error=None)
    return Event(seq=row["seq"], ended=ended, entry=entry)


def _tell(db: sqlite3.Connection, action: int, *, ended: bool) -> None:
    db.execute("INSERT INTO events (action, ended) VALUES (?, ?)", (action, ended))


def _count(db: sqlite3.Connection, which: str, *values: object) -> None:
    """Add these actions, which end now, to the totals."""
    db.execute(
        "INSERT INTO totals SELECT action, reason, coalesce(status, 'cancelled'), COUNT(*),"  # noqa: S608
        f" TOTAL(duration_s) FROM actions WHERE {which} GROUP BY 1, 2, 3"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count,"
        " seconds = seconds + excluded.seconds",
        values,
    )


class Actions(Evictions):
    """The part of the journal that is about actions."""

    def _begin(
        self,
        action: Action,
        subject: str,
        reason: Reason,
        *,
        detail: str | None = None,
        causes: Iterable[Cause] = (),
        revision: str | None = None,
        ended: Ended | None = None,
        actor: str | None = None,
    ) -> int:
        """Write down what is about to be done; its number.

        In one write, because what an eviction waits for delays the end of a rogue.
        """
        known = json.dumps([asdict(cause) for cause in causes])
        with self._write() as db:
            if ended:
                self._keep(db, *ended)
            cursor = db.execute(
                "INSERT INTO actions"
                " (at, ran, action, subject, reason, detail, cause, revision, actor)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (utcnow(), self.now(), action, subject, reason, detail, known, revision, actor),
            )
            number = int(cursor.lastrowid or 0)
            _tell(db, number, ended=False)
        return number

    def add_causes(self, number: int, causes: Iterable[Cause]) -> None:
        """Write down more of why it is done, known only after it was begun."""
        more = [asdict(cause) for cause in causes]
        with self._write() as db:
            row = db.execute("SELECT cause FROM actions WHERE id = ?", (number,)).fetchone()
            known = json.loads(row["cause"]) if row else []
            db.execute(
                "UPDATE actions SET cause = ? WHERE id = ?", (json.dumps([*known, *more]), number)
            )

    def _finish(
        self,
        number: int,
        outcome: Outcome,
        duration_s: float,
        phases: Mapping[Phase, float] | None = None,
    ) -> None:
        """Write down how it ended, and how long each of its ``phases`` took (seconds)."""
        parts = {phase: round(seconds, 3) for phase, seconds in (phases or {}).items()}
        with self._write() as db:
            db.execute(
                "UPDATE actions SET status = ?, attempts = ?, duration_s = ?, error = ?,"
                " phases = ? WHERE id = ?",
                (
                    outcome.status.value,
                    outcome.attempts,
                    round(duration_s, 3),
                    outcome.error,
                    json.dumps(parts) if parts else None,
                    number,
                ),
            )
            _count(db, "id = ?", number)
            _tell(db, number, ended=True)

    def close_open_actions(self) -> int:
        """End what a killed agent left open; how many there were."""
        with self._write() as db:
            db.execute(
                "INSERT INTO events (action, ended)"
                " SELECT id, 1 FROM actions WHERE status IS NULL ORDER BY id"
            )
            _count(db, "status IS NULL")
            return db.execute(
                "UPDATE actions SET status = 'cancelled', error = ? WHERE status IS NULL",
                (CUT_SHORT,),
            ).rowcount

    def events(self, *, after: int, limit: int) -> list[Event]:
        """Events after number ``after``, oldest first, ``limit`` at most.

        A number that no event has had yet is of a journal that was lost: all of this one are new.
        """
        after = after if after <= self.newest_event() else 0
        rows = self._rows(
            "SELECT events.seq, events.ended, actions.* FROM events"
            " JOIN actions ON actions.id = events.action"
            " WHERE events.seq > ? ORDER BY events.seq LIMIT ?",
            (after, limit),
        )
        return [_event(row) for row in rows]

    def newest_event(self) -> int:
        """The number of the last event that was ever written; 0: none."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        return int(rows[0]["seq"]) if rows else 0

    def history(
        self,
        *,
        subject: str | None = None,
        limit: int = 50,
        after: int = 0,
        before: int = 0,
        actions: Collection[Action] = (),
        since: str | None = None,
        until: str | None = None,
        commit: str = "",
    ) -> list[JournalEntry]:
        """Actions, newest first; those still going on have the status ``running``.

        ``after`` and ``before`` are numbers of actions, 0 for none; ``since`` (included) and
        ``until`` (not included) are ISO 8601 in UTC; ``commit`` is how the SHA of their revision
        begins. Unless ``actions`` are named, all kinds.
        """
        rows = self._rows(
            "SELECT * FROM actions WHERE id > ? AND (? = 0 OR id < ?)"
            " AND (? IS NULL OR subject = ?)"
            " AND (? IS NULL OR at >= ?) AND (? IS NULL OR at < ?)"
            " AND (? = '' OR substr(revision, 1, ?) = ?)"
            " AND (? = '[]' OR action IN (SELECT value FROM json_each(?)))"
            " ORDER BY id DESC LIMIT ?",
            (
                after, before, before, subject, subject, since, since, until, until,
                commit, len(commit), commit, kinds := json.dumps(sorted(actions)), kinds, limit,
            ),
        )  # fmt: skip
        return [entry_of(row) for row in rows]

    def unfinished(self) -> list[JournalEntry]:
        """Actions that are begun and not ended, oldest first."""
        rows = self._rows("SELECT * FROM actions WHERE status IS NULL ORDER BY id")
        return [entry_of(row) for row in rows]

    def subjects(self) -> frozenset[str]:
        """Stacks and containers that something was ever done with, as far as is remembered."""
        rows = self._rows(
            "SELECT DISTINCT subject FROM actions WHERE action NOT IN ('hold', 'accept')"
        )
        return frozenset(row["subject"] for row in rows)

    def totals(self) -> list[Total]:
        """How many actions of each kind have ever ended, those included that are forgotten."""
        return [
            Total(
                action=Action.read(row["action"], otherwise=Action.OTHER),
                reason=Reason.read(row["reason"], otherwise=Reason.OTHER),
                status=checked_code(row["status"]),
                count=row["count"],
                seconds=row["seconds"],
            )
            for row in self._rows("SELECT * FROM totals")
        ]

    def phases(self) -> dict[str, dict[str, float]]:
        """Of each stack's last deploy that has ended: how long its phases took, in seconds."""
        rows = self._rows(
            "SELECT subject, phases FROM actions WHERE id IN (SELECT MAX(id) FROM actions"
            " WHERE phases IS NOT NULL AND action = 'deploy' GROUP BY subject)"
        )
        return {row["subject"]: json.loads(row["phases"]) for row in rows}

    def changed_at(self) -> str | None:
        """When something was last done here that was no hold, ISO 8601; None: never."""
        rows = self._rows("SELECT at FROM actions WHERE action <> 'hold' ORDER BY id DESC LIMIT 1")
        return rows[0]["at"] if rows else None

    def _forget_actions(self, db: sqlite3.Connection, before: float) -> int:
        """Those that ended and were begun ``before``, with their events; how many there were."""
        old = "FROM actions WHERE status IS NOT NULL AND ran < ?"
        db.execute(f"DELETE FROM events WHERE action IN (SELECT id {old})", (before,))  # noqa: S608
        return db.execute(f"DELETE {old}", (before,)).rowcount
