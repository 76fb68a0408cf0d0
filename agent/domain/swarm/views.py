"""Services of a Swarm as the plan sees them: one container each.

So everything that decides about containers decides about services too: the plan with its guards of
removals, drift, status, why. A service is its ID and its name; its config hash is that of its spec,
which changes with each change of it. The states of its tasks add up to its own::

    as many run as it wants ────────────▶ running
    the tasks of a job have all ended ──▶ exited 0
    some are starting ──────────────────▶ running, starting
    none will come any more ────────────▶ exited
    some fail, or fit no node ──────────▶ restarting: the Swarm tries again by itself
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from agent.domain.container import CONFIG_HASH, KEPT_PREFIX, WORKING_DIR, Container, TaskOnNode
from agent.domain.swarm import claims, eviction, places
from agent.domain.swarm.model import OURS, SwarmNode, SwarmService, SwarmTask
from agent.domain.swarm.spec import without_restarts

_UNDER_WAY = frozenset(
    {"new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting"}
)
_FAILED = frozenset({"failed", "rejected", "orphaned"})
_DONE = "complete"
_TO_RUN = frozenset({"running", "ready", _DONE})
"""What the Swarm wants of a task that is not replaced or ended; of one of a job, that it ends."""


def containers(
    services: Iterable[SwarmService],
    tasks: Iterable[SwarmTask],
    nodes: Iterable[SwarmNode],
    *,
    stacks_dir: str,
    salt: str,
) -> tuple[Container, ...]:
    """All services, in their order, with their tasks by the names of the ``nodes``.

    ``stacks_dir`` is the absolute path of the checkout's ``stacks``, ``salt`` the cluster's: specs
    hold secrets, which nobody shall guess from a hash.
    """
    by_service: dict[str, list[SwarmTask]] = {}
    for task in tasks:
        by_service.setdefault(task.service_id, []).append(task)
    names = {node.id: node.hostname for node in nodes}
    return tuple(
        replace(_container(service, mine, stacks_dir, salt), tasks=_on_nodes(service, mine, names))
        for service in services
        for mine in [by_service.get(service.id, ())]
    )


def spec_hash(spec: Mapping[str, Any], salt: str) -> str:
    """A digest of what a service was asked to be, 64 hexadecimal digits.

    Tasks that somebody has started anew do not change it. Nor does what is empty: managers whose
    engines have other versions write down more or fewer of the fields that nobody has set.
    """
    said = {**_without_empty(without_restarts(spec)), "Mode": spec.get("Mode")}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hmac.new(salt.encode(), text.encode(), hashlib.sha256).hexdigest()


def _without_empty(value: Any) -> Any:
    """It, without keys that are null, false, zero, or hold nothing; lists stay whole."""
    if isinstance(value, Mapping):
        kept = {key: _without_empty(below) for key, below in value.items()}
        return {key: below for key, below in kept.items() if below}
    if isinstance(value, list):
        return [_without_empty(below) for below in value]
    return value


def _container(
    service: SwarmService, tasks: Sequence[SwarmTask], stacks_dir: str, salt: str
) -> Container:
    state, exit_code, health = _state(service, tasks)
    labels = {**claims.labels(service), CONFIG_HASH: spec_hash(service.spec, salt)}
    if service.stack and service.labels.get(OURS) == service.stack:
        labels[WORKING_DIR] = f"{stacks_dir}/{service.stack}"
    return Container(
        id=service.id,
        name=f"{KEPT_PREFIX}{service.name}" if service.kept else service.name,
        image=service.image,
        state=state,
        labels=labels,
        exit_code=exit_code,
        health=health,
        created=service.created,
    )


def _on_nodes(
    service: SwarmService, tasks: Sequence[SwarmTask], names: Mapping[str, str]
) -> tuple[TaskOnNode, ...]:
    """Its tasks of now by node; of a job those that have ended too."""
    shown = [
        task
        for task in tasks
        if task.desired in _TO_RUN or (service.is_job and task.state == _DONE)
    ]
    found = [
        TaskOnNode(node=names.get(task.node_id, task.node_id) or None, state=task.state)
        for task in shown
    ]
    return tuple(sorted(found, key=lambda task: (task.node or "", task.state)))


def _state(service: SwarmService, tasks: Sequence[SwarmTask]) -> tuple[str, int | None, str | None]:
    """Its state, exit code and health, in the engine's words for a container."""
    if eviction.at_rest(service):
        return "exited", None, None
    current = [task for task in tasks if task.desired in _TO_RUN]
    running = sum(task.state == "running" for task in current)
    begun = [task for task in tasks if task.iteration == service.iteration]
    done = sum(task.state == _DONE for task in begun) if service.is_job else 0
    wanted = len(current) if service.wanted is None else service.wanted
    if service.is_job and tasks and done >= wanted:
        return "exited", 0, None
    if running + done >= wanted:
        return "running", None, None
    failed = [t for t in tasks if t.state in _FAILED and t.created >= service.updated]
    starting = [task for task in current if task.state in _UNDER_WAY]
    if starting and not failed and not any(task.error for task in starting):
        return "running", None, "starting"
    if not current and tasks and places.finishes(service):
        last = max(tasks, key=lambda task: task.at)
        code = last.exit_code if last.exit_code is not None else int(last.state in _FAILED)
        return "exited", code, None
    return "restarting", None, None
