"""Names on this host that a person may type, from the journal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from agent.adapters.state.journal import Journal, open_journal
from agent.domain.config import Config


def stacks(journal: Journal) -> set[str]:
    """Stacks that this host declares, or has a release of."""
    declared = journal.get("declared") or {}
    return {*declared.get("stacks", {}), *declared.get("broken", {}), *journal.releases()}


def subjects(journal: Journal) -> set[str]:
    """These, and whatever else something was done with: containers that were evicted."""
    return stacks(journal) | journal.subjects()


def kept(journal: Journal) -> set[str]:
    """Containers that were evicted and can be brought back."""
    return {record.name for record in journal.kept()}


def read(config: Config, names: Callable[[Journal], set[str]]) -> set[str]:
    """These ``names`` of this host. Raises :class:`CommitdError`. Blocks."""
    with closing(open_journal(config)) as journal:
        return names(journal)
