"""What keeps a service of a Swarm from being healthy, by what its tasks say of themselves."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from agent.domain.outcome import Reason
from agent.domain.swarm.model import SwarmNode, SwarmTask

CRASHING = {Reason.CRASH_LOOP, Reason.TASK_UNHEALTHY, Reason.TASK_ENDED}
_NO_IMAGE = ("No such image", "pull access denied", "manifest unknown", "manifest for ")
_UNHEALTHY = "unhealthy container"
_SAID = {
    Reason.CRASH_LOOP: "a task has failed ({} times)",
    Reason.TASK_UNHEALTHY: "a task was unhealthy ({} times)",
    Reason.NO_IMAGE: "a node could not get its image ({} times)",
    Reason.REJECTED: "a node has refused its task ({} times)",
}


class Finding(Struct, frozen=True, kw_only=True):
    """``reason`` None: nothing but time, as it seems.

    ``final`` when waiting would not help. ``passing``: no fault of its files, the nodes lack
    something. ``outside``: somebody changed it by hand. ``error`` are the Swarm's own words about
    its ``task``, on that ``node``, or its update; they may hold what was put into its spec.
    """

    service: str
    said: str
    error: str = ""
    reason: Reason | None = None
    final: bool = False
    passing: bool = False
    outside: bool = False
    task: SwarmTask | None = None
    node: str = ""

    def __str__(self) -> str:
        error = " ".join(self.error.split())
        where = f" (on {self.node})" if self.node else ""
        return f"{self.service}: {self.said}" + (f": {error}{where}" if error else "")


def of_task(task: SwarmTask, nodes: Iterable[SwarmNode], name: str, times: int = 1) -> Finding:
    """That the service ``name`` has had tasks fail so many times in one place, this one last."""
    reason = kind(task)
    hosts = {node.id: node.hostname for node in nodes}
    return Finding(
        service=name,
        said=_SAID[reason].format(times),
        error=task.error or f"it has ended with {task.exit_code}",
        reason=reason,
        passing=reason is Reason.NO_IMAGE,
        task=task,
        node=hosts.get(task.node_id, "") if len(hosts) > 1 else "",
    )


def kind(task: SwarmTask) -> Reason:
    """In which way it has failed."""
    if any(said in task.error for said in _NO_IMAGE):
        return Reason.NO_IMAGE
    if task.state == "rejected":
        return Reason.REJECTED
    return Reason.TASK_UNHEALTHY if _UNHEALTHY in task.error else Reason.CRASH_LOOP
