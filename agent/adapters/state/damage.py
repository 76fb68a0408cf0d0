"""A journal that cannot be read must not leave its host without an agent.

    opened, every page and every row read ─▶ the agent works
        └▶ damaged ─▶ set aside, with the time in its name ─▶ a new one, which says so

What a new one does not know is unknown, not empty: nothing is removed until a person has enrolled
the host again. The commit that is checked out is known by the clone, stacks that run as declared
are adopted, and secrets stay as they are. A journal of a newer version is not damaged.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.state.database import DamagedError, iso
from agent.adapters.state.journal import Journal

log = logging.getLogger("commitd.journal")

BEGUN_ANEW = "begun-anew"
"""What a new journal remembers of the one before: its new name, when, and what was wrong."""
_BESIDE = ("", "-wal", "-shm")
_KEPT = 5
"""As many are kept for whoever wants to know; a disk that goes on failing is not filled."""


def open_journal_of_agent(path: Path, *, worked_before: bool) -> Journal:
    """The journal for the agent; a new one in place of one that is damaged. Blocks.

    ``worked_before`` is whether an agent has worked here: then an empty file is no new one. Raises
    :class:`CommitdError` as :class:`Journal` does for all else.
    """
    try:
        return _whole(path, worked_before=worked_before)
    except DamagedError as err:
        now = iso(datetime.now(UTC))
        aside = _set_aside(path, now)
        log.error(  # noqa: TRY400  the message is for operators
            "%s; it is set aside as %s and begun anew: nothing is removed until commitd enroll",
            err,
            aside.name,
        )
        journal = Journal(path)
        journal.put(BEGUN_ANEW, {"at": now, "aside": aside.name, "why": err.message})
        return journal


def begun_anew(journal: Journal) -> str | None:
    """What to say of a journal that was set aside, as long as nobody has enrolled the host."""
    found = journal.get(BEGUN_ANEW)
    if found is None or journal.get("enrolled") is not None:
        return None
    return (
        f"it was set aside as {found['aside']} and begun anew at {found['at']} ({found['why']}); "
        "what it knew of failures, approvals and suspensions is gone, and nothing is removed until "
        "commitd enroll has shown what would be"
    )


_LEAST = 512
"""Bytes of a page of SQLite: it takes anything shorter for a new file."""


def _whole(path: Path, *, worked_before: bool) -> Journal:
    if worked_before and path.exists() and path.stat().st_size < _LEAST:
        raise DamagedError("the journal is empty", where=str(path))
    journal = Journal(path)
    try:
        journal.verify()
    except BaseException:
        journal.close()
        raise
    return journal


def _set_aside(path: Path, now: str) -> Path:
    aside = path.with_name(f"{path.name}.unreadable-{now.replace(':', '-')}")
    for end in _BESIDE:
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    older = sorted(path.parent.glob(f"{path.name}.unreadable-*Z"))
    for each in older[:-_KEPT]:
        for end in _BESIDE:
            each.with_name(each.name + end).unlink(missing_ok=True)
    return aside
