"""What an agent does once after an update, for records that its predecessor wrote."""

from __future__ import annotations

import logging
from contextlib import suppress

from msgspec.structs import replace

from agent.adapters.git.repository import Repository
from agent.adapters.state.async_journal import AsyncJournal
from agent.domain.errors import CommitdError
from agent.domain.release.release import Release
from agent.domain.repository.desired import with_modes
from agent.domain.repository.tree import PLAIN, Tree

log = logging.getLogger("commitd")


async def complete_records(journal: AsyncJournal, repository: Repository) -> None:
    """Add the modes of files to releases that were recorded without them, from their commits.

    Without that all that is executable would seem to have changed with the next commit. A commit
    that is not here any more is left out.
    """
    for release in await journal.without_modes():
        with suppress(CommitdError):
            whole = complete(release, await repository.tree(release.revision))
            await journal.keep_modes(whole)


def complete(release: Release, tree: Tree) -> Release:
    """``release`` with the modes that its files have in ``tree``, which is that of its commit."""
    modes = {path: entry.mode for path, entry in tree.items() if entry.mode != PLAIN}
    services = (
        replace(s, files=None if s.files is None else with_modes(s.files, modes))
        for s in release.services
    )
    return replace(release, inputs=with_modes(release.inputs, modes), services=tuple(services))
