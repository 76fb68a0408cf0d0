"""Which projects an agent of this host runs already: from its checkout, or by its journal."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from agent.adapters.clone.running_projects import Project
from agent.adapters.state.journal import Journal
from agent.domain.errors import CommitdError


def managed(projects: Iterable[Project], state: Path) -> list[str]:
    """The names of those; ``state`` is the state directory of the host's agent. Blocks."""
    known: frozenset[str] = frozenset()
    with suppress(OSError, CommitdError):  # for who may not read it, there is the checkout
        known = frozenset(Journal(state / "journal.db", read_only=True).releases())
    return [p.name for p in projects if p.name in known or _in_checkout(p.directory, state)]


def _in_checkout(directory: Path, state: Path) -> bool:
    """Whether it is in ``state``, or in what some other configuration of an agent names."""
    if directory.is_relative_to(state / "repo"):
        return True
    stacks = directory.parent
    if (stacks.name, stacks.parent.name) != ("stacks", "repo"):
        return False
    try:
        return (stacks.parent.parent / "journal.db").exists()
    except OSError:  # closed to others, as a state directory is
        return True
