"""Stacks that a change gives another name, whose data would stay under the old one."""

from __future__ import annotations

from collections.abc import Iterator

from agent.domain.finding import Finding, Level
from agent.domain.review import host_diff
from agent.domain.review.repository_scan import RepositoryScan

RULE = "renamed"


def left_data(before: RepositoryScan, after: RepositoryScan) -> Iterator[Finding]:
    """Of each host, at the line of its list that has the new name."""
    for host, state in after.hosts.items():
        for name, said in host_diff.left_data(before.hosts.get(host), state).items():
            where = state.listed.get(name, f"stacks/{name}")
            yield Finding(
                level=Level.WARNING,
                rule=RULE,
                where=where,
                message=f"{name}: {said}",
                hint=_HINT,
            )


_HINT = (
    "hosts that have such data wait before they start it: move it, or approve the commit there "
    "with commitd approve SHA --without-data"
)
