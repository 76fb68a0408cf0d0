"""What the files of a clone rename, against the commit that they come after."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread

from agent.adapters.clone import sources
from agent.adapters.clone.sources import Source
from agent.domain.errors import CommitdError
from agent.domain.finding import Finding
from agent.domain.repository import layout
from agent.domain.review import repository_scan
from agent.domain.review.checks import renames
from agent.domain.review.repository_scan import RepositoryScan


async def findings(root: Path, source: Source, found: RepositoryScan) -> list[Finding]:
    """Stacks whose data would stay under another name; none where no older commit can be read."""
    try:
        sha = await sources.commit_before(root)
        before = await sources.at(root, sha) if sha else None
    except CommitdError:  # a clone of a part
        return []
    if before is None or _lists(before) == _lists(source):
        return []
    scan = await anyio.to_thread.run_sync(
        repository_scan.take, before.tree, before.contents, before.revision
    )
    return list(renames.left_data(scan, found))


def _lists(source: Source) -> dict[str, str]:
    """The lists of all hosts; without a change in them no stack has another name."""
    paths = (layout.list_path(host) for host in layout.hosts(source.tree))
    return {path: source.tree[path].oid for path in paths if path in source.tree}
