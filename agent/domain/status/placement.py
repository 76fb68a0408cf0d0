"""Where the tasks of a Swarm's service are, as JSON and in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from agent.domain.container import Container

_RUNNING = "running"


def tasks(container: Container) -> list[dict[str, str | None]] | None:
    """Those of a service for programs; None: it is a container."""
    if container.tasks is None:
        return None
    return [{"node": task.node, "state": task.state} for task in container.tasks]


def line(shown: Iterable[Mapping[str, Any]]) -> str:
    """Such as ``2 on node1, 1 preparing on node2``; what runs comes first, then by node.

    ``shown`` are as the status document has them.
    """
    counted = Counter((task["state"], task["node"]) for task in shown)
    ordered = sorted(counted, key=lambda each: (each[0] != _RUNNING, each[1] or "", each[0]))
    return ", ".join(_one(*each, counted[each]) for each in ordered)


def _one(state: str, node: str | None, count: int) -> str:
    what = f"{count}" if state == _RUNNING else f"{count} {state}"
    return f"{what} on {node}" if node else f"{what} on no node"
