"""What the journal remembers of containers that were evicted, reported or exempt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from agent.adapters.state.passing_time import PassingTime
from agent.domain.outcome import EvictionAction, Reason


class Evicted(Struct, frozen=True, kw_only=True):
    """A container that was ended.

    ``remove_at`` is when the kept container goes for good, as :meth:`PassingTime.now` counts.
    """

    id: str
    name: str
    image: str
    action: EvictionAction
    reason: Reason
    at: str
    remove_at: float | None = None
    detail: str | None = None

    @property
    def message(self) -> str:
        """Why, for people."""
        return self.reason.message(self.detail)


def _evicted(row: sqlite3.Row) -> Evicted:
    action = EvictionAction.read(row["action"], otherwise=EvictionAction.REPORTED)
    codes = {"action": action, "reason": Reason.read(row["reason"], otherwise=Reason.OTHER)}
    return Evicted(**{**dict(row), **codes})


_SELECT = "SELECT id, name, image, action, reason, at, remove_at, detail FROM evicted"


_SHORTEST_ID = 4
_FIRST_SEEN = "first-seen"
_MOST_FIRST_SEEN = 500
"""Undeclared containers whose first sight is remembered; of more only the latest."""


class Evictions(PassingTime):
    """The part of the journal that is about evicted containers."""

    def first_seen(self, container_id: str, now: float) -> float:
        """When it was first seen undeclared, as :meth:`now` counts; ``now`` if never."""
        with self._lock:
            known: dict[str, float] = self.get(_FIRST_SEEN) or {}
            if container_id not in known:
                latest = [*known.items(), (container_id, now)][-_MOST_FIRST_SEEN:]
                self.put(_FIRST_SEEN, known := dict(latest))
        return known[container_id]

    def report(self, evicted: Evicted, inspect: Mapping[str, Any]) -> bool:
        """Remember a container that is left alone; whether that is news.

        What is known of one that was ended before stays: it is what brings it back as it was.
        """
        known = self._rows(
            "SELECT id FROM evicted WHERE id = ? AND (NOT over AND action <> 'reported'"
            " OR action = ? AND reason = ?)",
            (evicted.id, evicted.action, evicted.reason),
        )
        if not known:
            with self._write() as db:
                self._keep(db, evicted, inspect)
        return not known

    def learn_evicted(self, evicted: Evicted, inspect: Mapping[str, Any]) -> None:
        """Take over what another agent has ended, and keeps no more: it is this one's to keep."""
        with self._write() as db:
            self._keep(db, evicted, inspect)

    def _keep(self, db: sqlite3.Connection, evicted: Evicted, inspect: Mapping[str, Any]) -> None:
        """A second eviction of the same container keeps what it was before the first."""
        db.execute(
            "INSERT INTO evicted"
            " (id, name, image, action, reason, at, remove_at, detail, inspect, ran, over)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET"
            " name = iif(over OR action = 'reported', excluded.name, name),"
            " inspect = iif(over OR action = 'reported', excluded.inspect, inspect),"
            " image = excluded.image, action = excluded.action, reason = excluded.reason,"
            " detail = excluded.detail,"
            " at = excluded.at, ran = excluded.ran, remove_at = excluded.remove_at, over = 0",
            (*astuple(evicted), json.dumps(inspect), self.now()),
        )

    def evicted(self, limit: int = 200) -> list[Evicted]:
        """Containers that were ended and are still kept or remembered, newest first."""
        rows = self._rows(f"{_SELECT} ORDER BY at DESC LIMIT ?", (limit,))
        return [_evicted(row) for row in rows]

    def kept(self) -> list[Evicted]:
        """Containers that were ended and are still there, those to be removed first at first."""
        rows = self._rows(
            f"{_SELECT} WHERE NOT over AND action IN ('removed', 'stopped')"
            " ORDER BY remove_at IS NULL, remove_at"
        )
        return [_evicted(row) for row in rows]

    def remembered(self, word: str) -> list[Evicted]:
        """All of that name or ID, ended or only reported; newest first.

        If there is none, those whose ID begins so.
        """
        return self._named(word, "action IS NOT NULL", "? IN (name, id)")

    def find_evicted(self, word: str) -> list[Evicted]:
        """Ended containers of that name, else those whose ID begins so; newest first."""
        return self._named(word, "action IN ('removed', 'stopped')", "name = ?")

    def _named(self, word: str, which: str, exactly: str) -> list[Evicted]:
        select = f"{_SELECT} WHERE {which} AND"
        rows = self._rows(f"{select} {exactly} ORDER BY at DESC", (word,))
        if not rows and len(word) >= _SHORTEST_ID:
            rows = self._rows(f"{select} substr(id, 1, ?) = ? ORDER BY at DESC", (len(word), word))
        return [_evicted(row) for row in rows]

    def restart_policy(self, container_id: str) -> dict[str, Any]:
        """What an ended container's restart policy was; empty when that is not known."""
        rows = self._rows("SELECT inspect FROM evicted WHERE id = ?", (container_id,))
        inspect = json.loads(rows[0]["inspect"]) if rows else {}
        policy: dict[str, Any] = inspect.get("HostConfig", {}).get("RestartPolicy") or {}
        return policy

    def evicted_is_over(self, container_id: str) -> None:
        """It is looked after no more: removed for good, or back where it was."""
        self._do("UPDATE evicted SET remove_at = NULL, over = 1 WHERE id = ?", (container_id,))
