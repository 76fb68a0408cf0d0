"""What the journal remembers of releases: the last good ones, failures, and rollbacks.

    releases    the last healthy release of each stack: its inputs, and its services as observed
      dirty     its containers were touched since, and nobody saw them healthy again
      away      the files in the checkout are now those of another input
      modes     0: recorded by a version that did not know the modes of files
    started     the input that all containers of a stack were made or reloaded for, healthy or not
    made        its containers, by service; while Compose works, the IDs that were there before
    attempts    failures in a row
    rollbacks   stacks that are back at an older release, and of which input

    keep_release ─▶ clean ─┬▶ mark_dirty, before its containers are touched ──┬▶ dirty
                           └▶ track_inputs: its files were away, and are back ┘

Files that were away and are back are other files for a container: it has those mounted that Git
has removed since. So it is as if somebody had touched the containers, and nothing is ``started``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, to_builtins
from msgspec.structs import astuple

from agent.adapters.state.database import Database, kept_as
from agent.domain.release.health import Need
from agent.domain.release.identity import Known
from agent.domain.release.release import Attempt, Release, Service


class Rollback(Struct, frozen=True):
    """A release that was not healthy: its ``digest``, the ``revision`` it went back to, and why."""

    digest: str
    revision: str
    reason: str


class Releases(Database):
    """The part of the journal that is about releases."""

    _known: tuple[tuple[int, int], dict[str, Release]] | None = None
    """Those that were read last, and the state that the file was in before."""

    def releases(self) -> dict[str, Release]:
        """The last good release of each stack."""
        # A cycle asks several times, and most find that nothing was written since the last one.
        state = self._state()
        known = self._known
        if known is None or known[0] != state:
            rows = self._rows(_SELECT)
            known = self._known = state, {row["stack"]: _release(row) for row in rows}
        return dict(known[1])

    def without_modes(self) -> list[Release]:
        """Those that were recorded before the modes of files were."""
        return [_release(row) for row in self._rows(f"{_SELECT} WHERE NOT modes")]

    def keep_modes(self, release: Release) -> None:
        """The inputs and files of ``release`` have their modes now."""
        self._do(
            "UPDATE releases SET inputs = ?, services = ?, modes = 1 WHERE stack = ?",
            (*_files(release), release.stack),
        )

    def keep_release(self, release: Release) -> None:
        """Remember what now runs; ends the failures of its stack."""
        stack, after = release.stack, json.dumps(release.after)
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, 0, 1, 0)",
                (stack, release.digest, release.revision, *_files(release), release.at, after),
            )
            db.execute("DELETE FROM attempts WHERE stack = ?", (stack,))

    def mark_dirty(self, stack: str) -> None:
        """Its containers are about to be touched; until it is kept again nobody is sure of them."""
        with self._write() as db:
            _mark_dirty(db, stack)

    def track_inputs(self, digests: Mapping[str, str]) -> None:
        """Learn of which input each stack's files in the checkout are now, before it is deployed.

        A release is dirty whose files are back after they were others all its time.
        """
        rows = self._rows("SELECT stack, digest, away FROM releases")
        away = {row["stack"]: digests.get(row["stack"]) != row["digest"] for row in rows}
        moved = [row["stack"] for row in rows if away[row["stack"]] != bool(row["away"])]
        if not moved:
            return
        with self._write() as db:
            for stack in moved:
                db.execute("UPDATE releases SET away = ? WHERE stack = ?", (away[stack], stack))
                if not away[stack]:
                    _mark_dirty(db, stack)

    def keep_started(self, stack: str, digest: str) -> None:
        """All containers of the stack are of this input now, and have its files mounted."""
        self._do("INSERT OR REPLACE INTO started VALUES (?, ?)", (stack, digest))

    def started(self, stack: str) -> str | None:
        """The input that all containers of the stack were made for, healthy or not, if known."""
        rows = self._rows("SELECT digest FROM started WHERE stack = ?", (stack,))
        return rows[0]["digest"] if rows else None

    def made(self) -> dict[str, Known]:
        """What is known of the containers of each stack."""
        rows = self._rows("SELECT * FROM made")
        return {row["stack"]: known for row in rows if (known := _known(row))}

    def keep_made(self, stack: str, known: Known) -> None:
        """Remember whose containers its containers are."""
        own: dict[str, list[str]] = {}
        for service, container_id in sorted(known.own):
            own.setdefault(service, []).append(container_id)
        before = None if known.before is None else json.dumps(sorted(known.before))
        values = (stack, json.dumps(own), before)
        self._do("INSERT OR REPLACE INTO made VALUES (?, ?, ?)", values)

    def forget_made(self) -> None:
        """Whose a container is is not known any more, of any stack."""
        self._do("DELETE FROM made")

    def forget_release(self, stack: str) -> None:
        """The stack is gone."""
        with self._write() as db:
            for table in ("releases", "attempts", "rollbacks", "started", "made"):
                db.execute(f"DELETE FROM {table} WHERE stack = ?", (stack,))  # noqa: S608  ours

    def attempts(self) -> dict[str, Attempt]:
        """Failures in a row by stack."""
        return {
            row["stack"]: Attempt(**{**dict(row), "permanent": bool(row["permanent"])})
            for row in self._rows("SELECT * FROM attempts")
        }

    def keep_attempt(self, attempt: Attempt) -> None:
        """Remember a failure."""
        self._do("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)", astuple(attempt))

    def forget_attempts(self, stack: str) -> None:
        """Its failures are over: the next try waits for nothing."""
        self._do("DELETE FROM attempts WHERE stack = ?", (stack,))

    def retry(self, stack: str) -> bool:
        """Forget the failures of a stack, a rolled back release among them; whether it had any."""
        with self._write() as db:
            failures = db.execute("DELETE FROM attempts WHERE stack = ?", (stack,)).rowcount
            return db.execute("DELETE FROM rollbacks WHERE stack = ?", (stack,)).rowcount > 0 or (
                failures > 0
            )

    def rollbacks(self) -> dict[str, Rollback]:
        """Stacks that are back at an older release."""
        rows = self._rows("SELECT * FROM rollbacks")
        return {row["stack"]: Rollback(*tuple(row)[1:]) for row in rows}

    def roll_back(self, stack: str, rollback: Rollback) -> None:
        """The stack is rolled back to an older release, until its input changes."""
        values = (stack, *astuple(rollback))
        self._do("INSERT OR REPLACE INTO rollbacks VALUES (?, ?, ?, ?)", values)

    def end_rollback(self, stack: str) -> None:
        """The input has changed."""
        self._do("DELETE FROM rollbacks WHERE stack = ?", (stack,))


def _mark_dirty(db: sqlite3.Connection, stack: str) -> None:
    db.execute("UPDATE releases SET dirty = 1 WHERE stack = ?", (stack,))
    db.execute("DELETE FROM started WHERE stack = ?", (stack,))


_SELECT = "SELECT releases.*, own, before FROM releases LEFT JOIN made USING (stack)"


def _known(row: sqlite3.Row) -> Known | None:
    if row["own"] is None:
        return None
    services = json.loads(row["own"]).items()
    own = frozenset((service, each) for service, ids in services for each in ids)
    before = row["before"]
    return Known(own, None if before is None else frozenset(json.loads(before)))


def _release(row: sqlite3.Row) -> Release:
    known = _known(row)
    return Release(
        stack=row["stack"],
        digest=row["digest"],
        revision=row["revision"],
        inputs=tuple((path, version) for path, version in json.loads(row["inputs"])),
        services=tuple(_service(service) for service in json.loads(row["services"])),
        at=row["at"],
        after=tuple(json.loads(row["after"])),
        dirty=bool(row["dirty"]),
        own=known.own if known and known.before is None else None,
    )


def _files(release: Release) -> tuple[str, str]:
    """The inputs, and the services with the files that are mounted into them."""
    return json.dumps(release.inputs), json.dumps(to_builtins(release.services))


def _service(raw: dict[str, Any]) -> Service:
    if raw.get("files") is not None:
        raw["files"] = tuple((path, version) for path, version in raw["files"])
    if raw.get("settings") is not None:
        raw["settings"] = tuple((key, value) for key, value in raw["settings"])
    if raw.get("needs") is not None:
        raw["needs"] = tuple((name, kept_as(Need, need)) for name, need in raw["needs"])
    lists = {key: tuple(raw.get(key, ())) for key in ("hooks", "objects")}
    return kept_as(Service, {**raw, **lists})
