"""A journal that cannot be read must not leave its host without an agent.

    opened, every page and every row read ─▶ the agent works
        └▶ damaged, empty or gone
             ├▶ a new one is made beside it, which says that it was begun anew
             ├▶ the old one is renamed, with the time in its name
             └▶ the new one is renamed to its place

So an agent that is killed, or finds the disk full, in between loses neither the old one nor the
word that there was one. What a new one does not know is unknown, not empty: nothing is removed
until a person has enrolled the host again. The commit that is checked out is known by the clone,
stacks that run as declared are adopted, and secrets stay as they are. A journal of another version
is not damaged, nor is one that the disk does not hand over now.
"""

from __future__ import annotations

import logging
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.adapters.state.database import DamagedError, iso
from agent.adapters.state.journal import Journal
from agent.domain.errors import TransientError

log = logging.getLogger("commitd.journal")

BEGUN_ANEW = "begun-anew"
"""What a new journal remembers of the one before: its new name, when, and what was wrong."""
_BESIDE = ("", "-wal", "-shm")
_KEPT = 5
"""As many are kept for whoever wants to know: the oldest, which knows most, and the newest. A disk
that goes on failing is not filled."""
_LEAST = 512
"""Bytes of a page of SQLite: it takes anything shorter for a new file."""


def open_journal_of_agent(path: Path, *, worked_before: bool) -> Journal:
    """The journal for the agent; a new one in place of one that is damaged. Blocks.

    ``worked_before`` is whether an agent has worked here: then one that is empty or not there was
    lost. Raises :class:`CommitdError` as :class:`Journal` does for all else.
    """
    try:
        return whole(path, worked_before=worked_before)
    except DamagedError as err:
        lost = err
    try:
        aside = _begin_anew(path, lost.message)
    except (OSError, TransientError) as err:
        why = err.strerror if isinstance(err, OSError) else err.message
        message = f"{lost.message}; a new one cannot take its place, and it stays: {why}"
        raise TransientError(message, where=str(path)) from None
    lost.release()
    log.error(
        "%s; it is %sbegun anew: nothing is removed until commitd enroll",
        lost,
        f"set aside as {aside} and " if aside else "",
    )
    return Journal(path)


def begun_anew(journal: Journal) -> str | None:
    """What to say of a journal that was lost, as long as nobody has enrolled the host."""
    found = journal.get(BEGUN_ANEW)
    if found is None or journal.get("enrolled") is not None:
        return None
    aside = f"set aside as {found['aside']} and " if found["aside"] else ""
    return (
        f"it was {aside}begun anew at {found['at']} ({found['why']}); "
        "what it knew of failures, approvals and suspensions is gone, and nothing is removed until "
        "commitd enroll has shown what would be"
    )


def whole(path: Path, *, worked_before: bool) -> Journal:
    """The journal, once all of it was read. Raises :class:`DamagedError` where it is not whole."""
    if worked_before and not path.exists():
        raise DamagedError("the journal is gone", where=str(path))
    if worked_before and path.stat().st_size < _LEAST:
        raise DamagedError("the journal is empty", where=str(path))
    journal = Journal(path, begin=not worked_before)
    try:
        journal.verify()
    except BaseException:
        journal.close()
        raise
    return journal


def _begin_anew(path: Path, why: str) -> str | None:
    """Put a new one in its place; what the old one is called now, None where nothing was left."""
    now = iso(datetime.now(UTC))
    name = f"{path.name}.unreadable-{now.replace(':', '-')}"
    aside = name if any(_size(path, end) for end in ("", "-wal")) else None
    new = path.with_name(f"{path.name}.new")
    _remove(new)
    try:
        _make(new, {"at": now, "aside": aside, "why": why})
    except BaseException:
        with suppress(OSError):
            _remove(new)
        raise
    for end in _BESIDE:
        if aside and _size(path, end):
            _beside(path, end).rename(path.with_name(name + end))
        else:
            _beside(path, end).unlink(missing_ok=True)
    new.rename(path)
    with suppress(OSError):
        for each in sorted(path.parent.glob(f"{path.name}.unreadable-*Z"))[1 : -(_KEPT - 1)]:
            _remove(each)
    return aside


def _make(path: Path, anew: dict[str, str | None]) -> None:
    """A new journal, whole and in one file."""
    with closing(Journal(path)) as journal:
        journal.put(BEGUN_ANEW, anew)
    if _size(path, "-wal"):  # what could not be brought from there into the file
        raise TransientError("it cannot be written as a whole", where=str(path))


def _beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _size(path: Path, end: str) -> int:
    with suppress(FileNotFoundError):
        return _beside(path, end).stat().st_size
    return 0


def _remove(path: Path) -> None:
    for end in _BESIDE:
        _beside(path, end).unlink(missing_ok=True)
