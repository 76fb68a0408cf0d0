"""What a journal of any schema says of the host, for the gate of an upgrade: see ``keep_copy``.

Read with SQL of its own: a migration that loses something must not decide what was there.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from agent.domain.errors import TransientError
from agent.domain.upgrade.gate import Before, Recorded, lasting

_NETWORK = "network "
"""Begins the names of networks among the settings of a service."""


def read(path: Path) -> Before:
    """What it says. Raises :class:`TransientError` for what is no journal or not whole."""
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as db:
            db.row_factory = sqlite3.Row
            return _read(db)
    except (sqlite3.Error, OSError, ValueError, LookupError, TypeError, AttributeError) as err:
        message = f"the journal of the version before cannot be read: {err}"
        raise TransientError(message, where=str(path)) from None


def _read(db: sqlite3.Connection) -> Before:
    meta = {
        row["key"]: json.loads(row["value"])
        for row in db.execute("SELECT * FROM meta WHERE key IN ('declared', 'exempt', 'remotes')")
    }
    declared = meta.get("declared") or {}
    stacks, broken = declared.get("stacks") or {}, declared.get("broken") or {}
    remotes = meta.get("remotes") or {}
    held = {tuple(row) for row in db.execute("SELECT subject, reason FROM holds")}
    of_stacks = {(name, reason) for name, reason in held if name in stacks or name in broken}
    made = {row["stack"]: row for row in db.execute("SELECT * FROM made")}
    return Before(
        revision=(declared.get("revision") or {}).get("sha"),
        digests=stacks,
        releases={
            row["stack"]: _recorded(row, made.get(row["stack"]))
            for row in db.execute("SELECT * FROM releases")
        },
        troubled=frozenset(
            row[0]
            for row in db.execute("SELECT stack FROM attempts UNION SELECT stack FROM rollbacks")
        )
        | frozenset(name for name, _ in of_stacks)
        | frozenset(broken),
        held=frozenset(held - of_stacks),
        exempt=frozenset(
            each["id"] for each in meta.get("exempt") or [] if lasting(each["reason"])
        ),
        heads=frozenset(each["head"] for each in remotes.values() if each.get("head")),
        silent=frozenset(name for name, each in remotes.items() if not each.get("reachable", True)),
    )


def _recorded(row: sqlite3.Row, made: sqlite3.Row | None) -> Recorded:
    services: list[dict[str, Any]] = json.loads(row["services"])
    own = None
    if made is not None and made["before"] is None:
        own = frozenset(each for ids in json.loads(made["own"]).values() for each in ids)
    return Recorded(
        digest=row["digest"],
        inputs=tuple((path, version) for path, version in json.loads(row["inputs"])),
        hashes={each["name"]: each["config_hash"] for each in services},
        scales={each["name"]: each["scale"] for each in services},
        one_shot=frozenset(each["name"] for each in services if each["one_shot"]),
        networks={
            each["name"]: frozenset(
                key.removeprefix(_NETWORK)
                for key, _ in each["settings"]
                if key.startswith(_NETWORK)
            )
            for each in services
            if each.get("settings") is not None
        },
        dirty=bool(row["dirty"]),
        own=own,
    )
