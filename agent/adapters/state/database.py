"""The SQLite file behind the journal: its schema, its transactions, and remembered values."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from agent.adapters.state import schema
from agent.domain.errors import ConfigError, DeniedError, TransientError


def _sentences_to_codes(db: sqlite3.Connection) -> None:
    """Its module is large, and made of patterns that hardly any file needs any more."""
    from agent.adapters.state.sentences import to_codes  # noqa: PLC0415

    to_codes(db)


_CONVERSIONS = {5: _sentences_to_codes}
"""What beside that becomes of the rows, by the version that it leads to."""


_Kept = TypeVar("_Kept", bound=Struct)


def kept_as(kind: type[_Kept], raw: Mapping[str, Any]) -> _Kept:
    """The ``kind`` whose fields are kept as ``raw``.

    A key that only another version knows is left out. Raises :class:`TypeError` where one misses.
    """
    known = kind.__struct_fields__
    return kind(**{key: value for key, value in raw.items() if key in known})


def utcnow() -> str:
    """Now as ISO 8601 in UTC, to the millisecond."""
    return iso(datetime.now(UTC))


def iso(at: datetime) -> str:
    """As all times in the journal are written."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class DamagedError(ConfigError):
    """What is in the file is no journal, or not whole.

    ``release`` closes what is still open of it. That removes a log beside it: rename both before,
    and do it before another journal is opened at that path.
    """

    release: Callable[[], None] = staticmethod(lambda: None)


class Database:
    """The file at ``path``, for one process that writes and any number that read.

    With ``read_only`` nothing is created and nothing locked: for commands that look while the
    agent works. Without ``upgrade`` the journal of an older version is refused: the agent of that
    version may still work with it. Raises :class:`ConfigError` then, and when the file is not
    there. Without ``begin`` a file in which no journal was begun is one that was lost. Here
    and later it raises :class:`DamagedError` for what is no journal or not whole, and
    :class:`TransientError` when the machine does not let it be read or written.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, upgrade: bool = True, begin: bool = True
    ) -> None:
        self._lock = threading.RLock()
        self._closed = False
        self._path = path
        self._may_begin = begin
        try:
            self._open(path, read_only=read_only, upgrade=upgrade)
        except DamagedError as err:
            err.release = self.close
            raise

    def _open(self, path: Path, *, read_only: bool, upgrade: bool) -> None:
        try:
            if read_only:
                path.stat()
            else:
                path.exists()  # fails where this user may not even look
            self._db = sqlite3.connect(
                path, timeout=10, check_same_thread=False, isolation_level=None
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA busy_timeout = 10000")
            if read_only:
                self._db.execute("PRAGMA query_only = 1")
                self._refuse_other_versions()
            else:
                self._use_wal()
                self._db.execute("PRAGMA synchronous = FULL")
                if not upgrade:
                    self._refuse_other_versions()
                self._migrate()
            self._db.execute("SELECT key FROM meta LIMIT 1")
        except FileNotFoundError:
            raise ConfigError(
                "there is no journal yet", where=str(path), hint="has the agent run on this host?"
            ) from None
        except PermissionError:
            raise DeniedError("this user may not read the journal", where=str(path)) from None
        except OSError as err:
            raise _passing(err.strerror, path) from None
        except (sqlite3.Error, ValueError, KeyError) as err:  # the last two: odd old rows
            if isinstance(err, sqlite3.OperationalError) and not _is_damage(err):
                raise _passing(err, path) from None
            raise self.damaged(err) from None

    def _use_wal(self) -> None:
        """Two that open a new file at once may meet here, where SQLite does not wait by itself."""
        for last in (*[False] * 50, True):
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if last:
                    raise
                time.sleep(0.02)
            else:
                return

    def _version(self) -> int:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(schema.MIGRATIONS):
            message = f"the journal is of a newer version of commitd ({version})"
            hint = "install that version again; the journal is as it was"
            raise ConfigError(message, where=str(self._path), hint=hint)
        return version

    def _refuse_other_versions(self) -> None:
        if 0 < self._version() < len(schema.MIGRATIONS):
            message = "the journal is of an older version of commitd"
            hint = "systemctl restart commitd: the agent brings it up to date at its start"
            raise ConfigError(message, where=str(self._path), hint=hint)

    def _migrate(self) -> None:
        with self._transaction() as db:  # the version is read in it, or two would do it twice
            done = self._version()
            if not (done or self._may_begin):
                raise self.damaged("nothing was ever written in it")
            for number, script in enumerate(schema.MIGRATIONS[done:], done + 1):
                for statement in script.split(";"):
                    db.execute(statement)
                if convert := _CONVERSIONS.get(number):
                    convert(db)
                db.execute(f"PRAGMA user_version = {number}")
            if done < len(schema.MIGRATIONS):
                said = (schema.READABLE, json.dumps(schema.READABLE_FROM))
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", said)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    def close(self) -> None:
        """Close the file, if it is open."""
        with self._lock:
            if hasattr(self, "_db"):
                self._db.close()
            self._closed = True

    def __del__(self) -> None:
        # Verbs that look and end do not close it, nor does an opening that fails: 3.13 warns.
        if hasattr(self, "_db") and not self._closed:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # A full disk may have rolled it back already; one left open would block the next.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._translated("written"), self._transaction() as db:
            yield db

    def _do(self, statement: str, values: tuple[object, ...] = ()) -> int:
        """One write; how many rows it changed."""
        with self._write() as db:
            return db.execute(statement, values).rowcount

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        with self._translated("read"), self._lock:
            return self._db.execute(query, values).fetchall()

    def _state(self) -> tuple[int, int]:
        """Another one once anything was written, by this process or by any other."""
        return self._rows("PRAGMA data_version")[0][0], self._db.total_changes

    def get(self, key: str) -> Any:
        """A remembered value, or None."""
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        return json.loads(rows[0]["value"]) if rows else None

    def put(self, key: str, value: Any) -> None:
        """Remember a value (JSON); unchanged values are not written."""
        text = json.dumps(value)
        rows = self._rows("SELECT value FROM meta WHERE key = ?", (key,))
        if rows and rows[0]["value"] == text:
            return
        self._do("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, text))

    def forget(self, key: str) -> None:
        """Remember no value any more."""
        self._do("DELETE FROM meta WHERE key = ?", (key,))

    def damaged(self, what: object) -> DamagedError:
        """The error that says so."""
        message = f"the journal cannot be read: {str(what)[:100]}"
        hint = "systemctl restart commitd: the agent sets it aside and begins a new one"
        return DamagedError(message, where=str(self._path), hint=hint)

    def check_pages(self) -> None:
        """Read the whole file. Raises :class:`DamagedError` when something in it is not right."""
        found = [row[0] for row in self._rows("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            raise self.damaged(found[0] if found else "nothing is said of it")
        for table in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
            for _ in self._each(f"SELECT * FROM {table['name']}"):  # noqa: S608  its own names
                pass

    def _each(self, query: str) -> Generator[sqlite3.Row, None, None]:
        """Rows one by one, of a table that may be long."""
        with self._translated("read"), self._lock:
            yield from self._db.execute(query)

    @contextmanager
    def _translated(self, done: str) -> Iterator[None]:
        """A disk that is full or a file that is locked is no fault of whoever writes."""
        try:
            yield
        except sqlite3.DatabaseError as err:
            if _is_damage(err):
                raise self.damaged(err) from None
            raise TransientError(f"the journal cannot be {done}: {err}") from None


_DAMAGE = {None, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
"""SQLITE_ERROR is about what is in it (no such table): waiting does not mend that. Without any code
Python itself could not read a text."""


def _is_damage(err: sqlite3.Error) -> bool:
    code: int | None = getattr(err, "sqlite_errorcode", None)
    return (code if code is None else code & 0xFF) in _DAMAGE


def _passing(what: object, path: Path) -> TransientError:
    return TransientError(f"the journal cannot be opened: {what}", where=str(path))
