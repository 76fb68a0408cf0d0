"""The journal between two versions of the agent: kept before the new one, handed back after it.

    old journal ─▶ copy, with the old one's schema ─▶ migrated: the new version works with it
                     └────────────┐                     │ given up
                                  ▼                     ▼
                 the old tables ◀─ rows of the new ones, column by column ─▶ old version works on
                                                        └▶ the newer journal is kept aside

So what was deployed, evicted and ordered meanwhile is not lost with the newer version. Where the
newer one has changed what a column means, only what people have ordered comes along, to what the
copy knows.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.state import schema
from agent.adapters.state.damage import BEGUN_ANEW
from agent.adapters.state.database import iso
from agent.adapters.state.journal import Journal
from agent.domain.errors import CommitdError, TransientError

log = logging.getLogger("commitd.journal")

_ORDERS = ("suspensions", "approvals", "undone")
_BESIDE = ("-wal", "-shm")


def schema_of(path: Path) -> int | None:
    """The number of the schema of that journal; None where it has none, or cannot be read."""
    try:
        if not path.exists():
            return None
        with closing(_connect(path, "ro")) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0]) or None
    except (sqlite3.Error, OSError):
        return None


def is_newer(path: Path) -> bool:
    """Whether a newer version of the agent has migrated it."""
    return (schema_of(path) or 0) > len(schema.MIGRATIONS)


def copy_name(path: Path, number: int) -> Path:
    """Where a copy of the journal at ``path`` with that schema is kept."""
    return path.with_name(f"{path.name}.{number}")


def keep_copy(path: Path) -> Path | None:
    """Copy the journal as it is, for the version that wrote it; None where there is none.

    Raises :class:`TransientError` where that does not work.
    """
    number = schema_of(path)
    if number is None:
        return None
    target = copy_name(path, number)
    new = target.with_name(f"{target.name}.new")
    try:
        new.unlink(missing_ok=True)
        with closing(_connect(path, "ro")) as old, closing(sqlite3.connect(new)) as made:
            old.backup(made)
        _settle(new)
        new.rename(target)
        for other in path.parent.glob(f"{path.name}.[0-9]*"):
            if other != target:
                other.unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as err:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise TransientError(f"the journal cannot be copied: {err}", where=str(path)) from None
    return target


def take_back(path: Path) -> None:
    """Bring a journal of a newer version to this one's schema, with all that this one knows of.

    The newer one is kept aside. Cut short anywhere, it is still there. Raises
    :class:`TransientError`.
    """
    newer = schema_of(path)
    copy = copy_name(path, len(schema.MIGRATIONS))
    new = path.with_name(f"{path.name}.returning")
    at = iso(datetime.now(UTC)).replace(":", "-")
    aside = path.with_name(f"{path.name}.newer-{newer}-{at}")
    try:
        left = _brought_over(path, copy if copy.exists() else None, new, aside.name)
        with closing(_connect(path, "rw")) as db:  # all of it into the one file
            db.execute("PRAGMA journal_mode = DELETE")
        _settle(new)
        os.link(path, aside)
        new.rename(path)
        for end in _BESIDE:
            path.with_name(path.name + end).unlink(missing_ok=True)
    except (sqlite3.Error, OSError) as err:
        message = f"the journal of the newer version cannot be taken back: {err}"
        raise TransientError(message, where=str(path)) from None
    lost = f"; what did not come along: {', '.join(left)}" if left else ""
    log.warning(
        "the journal of the newer version (schema %s) was brought back to schema %d%s; the newer "
        "one is %s",
        newer, len(schema.MIGRATIONS), lost, aside.name,
    )  # fmt: skip


def _brought_over(path: Path, copy: Path | None, new: Path, aside: str) -> list[str]:
    """Make ``new``; the tables of the newer one that could not come along.

    Whatever that one is like: a host without its agent would be worse than one that forgot.
    """
    for only in (None, _ORDERS):
        _begin(copy, new)
        try:
            left = _import(path, new, only)
            with closing(Journal(new)) as journal:
                journal.verify()
        except (sqlite3.Error, CommitdError):
            continue
        if copy or only or "releases" not in left:
            break
    else:
        _begin(copy, new)
        left = ["anything"]
    if copy is None and ("releases" in left or "anything" in left):
        with closing(Journal(new)) as journal:  # nothing is known: so nothing is removed
            why = "that of a newer version cannot be read"
            journal.put(BEGUN_ANEW, {"at": iso(datetime.now(UTC)), "aside": aside, "why": why})
    return left


def _begin(copy: Path | None, new: Path) -> None:
    for end in ("", *_BESIDE):
        new.with_name(new.name + end).unlink(missing_ok=True)
    if copy:
        with closing(_connect(copy, "ro")) as old, closing(sqlite3.connect(new)) as made:
            old.backup(made)
    else:
        Journal(new).close()


def _import(path: Path, new: Path, only: Iterable[str] | None) -> list[str]:
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("ATTACH ? AS newer", (str(path),))
        meaning = _readable_from(db)
        if only is None and len(schema.MIGRATIONS) < meaning:
            only = _ORDERS
        tables = [row[0] for row in db.execute(
            "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )]  # fmt: skip
        left = [
            table
            for table in tables
            if (only is not None and table not in only) or not _import_table(db, table)
        ]
        db.execute("DELETE FROM main.sqlite_sequence")  # numbers go on where they were
        db.execute(
            "INSERT INTO main.sqlite_sequence SELECT name, seq FROM newer.sqlite_sequence"
            " WHERE name IN (SELECT name FROM main.sqlite_master)"
        )
        db.execute("DETACH newer")
    return left


def _readable_from(db: sqlite3.Connection) -> int:
    """The oldest schema whose versions understand the rows of the newer journal."""
    try:
        row = db.execute(
            "SELECT value FROM newer.meta WHERE key = ?", (schema.READABLE,)
        ).fetchone()
        return int(row[0]) if row else 0
    except (sqlite3.Error, ValueError):
        return 0


def _import_table(db: sqlite3.Connection, table: str) -> bool:
    """Its rows of the newer journal in place of those of the copy; whether that worked."""
    mine = {row[1]: row for row in db.execute(f"PRAGMA main.table_info({table})")}
    theirs = {row[1] for row in db.execute(f"PRAGMA newer.table_info({table})")}
    columns = [name for name in mine if name in theirs]
    missing = [
        name for name, row in mine.items() if name not in theirs and row[3] and row[4] is None
    ]
    if not columns or missing:
        return False
    names = ", ".join(columns)
    db.execute("SAVEPOINT one")
    try:
        db.execute(f"DELETE FROM main.{table}")  # noqa: S608  its own names
        db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newer.{table}")  # noqa: S608
    except sqlite3.Error:
        db.execute("ROLLBACK TO one")
        return False
    finally:
        db.execute("RELEASE one")
    return True


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=10)


def _settle(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
