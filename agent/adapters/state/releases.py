"""What the journal remembers of releases: the last good ones, failures, and rollbacks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from agent.adapters.state.database import Database
from agent.domain.release.release import Attempt, Release, Service


@dataclass(frozen=True, slots=True)
class Rollback:
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
            rows = self._rows("SELECT * FROM releases")
            known = self._known = state, {row["stack"]: _release(row) for row in rows}
        return dict(known[1])

    def without_modes(self) -> list[Release]:
        """Those that were recorded before the modes of files were."""
        return [_release(row) for row in self._rows("SELECT * FROM releases WHERE NOT modes")]

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
                "INSERT OR REPLACE INTO releases VALUES (?, ?, ?, ?, ?, ?, ?, 0, 1)",
                (stack, release.digest, release.revision, *_files(release), release.at, after),
            )
            db.execute("DELETE FROM attempts WHERE stack = ?", (stack,))
            db.execute("DELETE FROM meta WHERE key = ?", (_away(stack),))

    def disturb(self, stack: str) -> None:
        """Its containers are about to be touched; until it is kept again nobody is sure of them."""
        with self._write() as db:
            _disturb(db, stack)

    def note_files(self, digests: Mapping[str, str]) -> None:
        """Learn of which input each stack's files in the checkout are now, before it is deployed.

        A release is disturbed whose files are back after they were others all its time: a
        directory that Git made anew is not the one that is mounted.
        """
        releases = self._rows("SELECT stack, digest FROM releases")
        away = {row["stack"] for row in releases if digests.get(row["stack"]) != row["digest"]}
        rows = self._rows("SELECT key FROM meta WHERE key GLOB ?", (_away("*"),))
        known = {row["key"].removeprefix(_away("")) for row in rows}
        if away == known:
            return
        with self._write() as db:
            for stack in away - known:
                db.execute("INSERT INTO meta VALUES (?, 'true')", (_away(stack),))
            for stack in known - away:
                db.execute("DELETE FROM meta WHERE key = ?", (_away(stack),))
                _disturb(db, stack)

    def keep_started(self, stack: str, digest: str) -> None:
        """All containers of the stack are of this input now, and have its files mounted."""
        self.put(_started(stack), digest)

    def started(self, stack: str) -> str | None:
        """The input that all containers of the stack are of, well or not; None: nobody knows."""
        digest: str | None = self.get(_started(stack))
        return digest

    def forget_release(self, stack: str) -> None:
        """The stack is gone."""
        with self._write() as db:
            for table in ("releases", "attempts", "rollbacks"):
                db.execute(f"DELETE FROM {table} WHERE stack = ?", (stack,))  # noqa: S608  ours
            db.execute("DELETE FROM meta WHERE key IN (?, ?)", (_started(stack), _away(stack)))

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
        """The stack goes back to an older release, until its input changes."""
        values = (stack, *astuple(rollback))
        self._do("INSERT OR REPLACE INTO rollbacks VALUES (?, ?, ?, ?)", values)

    def end_rollback(self, stack: str) -> None:
        """The input has changed."""
        self._do("DELETE FROM rollbacks WHERE stack = ?", (stack,))


def _disturb(db: sqlite3.Connection, stack: str) -> None:
    db.execute("UPDATE releases SET disturbed = 1 WHERE stack = ?", (stack,))
    db.execute("DELETE FROM meta WHERE key = ?", (_started(stack),))


def _away(stack: str) -> str:
    """Where it is kept that the stack's files in the checkout are not those of its release."""
    return f"away/{stack}"


def _started(stack: str) -> str:
    return f"started/{stack}"


def _release(row: sqlite3.Row) -> Release:
    return Release(
        stack=row["stack"],
        digest=row["digest"],
        revision=row["revision"],
        inputs=tuple((path, version) for path, version in json.loads(row["inputs"])),
        services=tuple(_service(service) for service in json.loads(row["services"])),
        at=row["at"],
        after=tuple(json.loads(row["after"])),
        disturbed=bool(row["disturbed"]),
    )


def _files(release: Release) -> tuple[str, str]:
    """The inputs, and the services with the files that are mounted into them."""
    services = json.dumps([asdict(service) for service in release.services])
    return json.dumps(release.inputs), services


def _service(raw: dict[str, Any]) -> Service:
    if raw.get("files") is not None:
        raw["files"] = tuple((path, version) for path, version in raw["files"])
    if raw.get("settings") is not None:
        raw["settings"] = tuple((key, value) for key, value in raw["settings"])
    return Service(**{**raw, "hooks": tuple(raw.get("hooks", ()))})
