"""What a Swarm's managers tell of it. Raises what :class:`Engine` raises."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from agent.adapters.engine.engine import Engine
from agent.domain.swarm.model import (
    STACK,
    Membership,
    Mode,
    SwarmNode,
    SwarmService,
    SwarmTask,
)
from agent.domain.swarm.spec import container, template

_MODES: Mapping[str, Mode] = {
    "Replicated": "replicated",
    "Global": "global",
    "ReplicatedJob": "replicated-job",
    "GlobalJob": "global-job",
}


async def membership(engine: Engine) -> Membership:
    """What this machine is."""
    async with engine.asking("ask for its Swarm") as docker:
        return membership_of(await docker.get("info"))


def membership_of(info: Mapping[str, Any]) -> Membership:
    """The same from the engine's ``/info``."""
    swarm: Mapping[str, Any] = info.get("Swarm") or {}
    return Membership(
        state=str(swarm.get("LocalNodeState") or "inactive"),
        node_id=str(swarm.get("NodeID") or ""),
        cluster=str((swarm.get("Cluster") or {}).get("ID") or "") or None,
        control=bool(swarm.get("ControlAvailable")),
    )


async def nodes(engine: Engine) -> tuple[SwarmNode, ...]:
    """All machines of the Swarm, by name."""
    async with engine.asking("list the nodes") as docker:
        found = await docker.get("nodes")
    return tuple(sorted(map(node_of, found), key=lambda node: (node.hostname, node.id)))


async def node(engine: Engine, node_id: str) -> SwarmNode:
    """One machine of the Swarm. Raises :class:`PermanentError` where there is none of that ID."""
    async with engine.asking("look at a node") as docker:
        return node_of(await docker.get(f"nodes/{quote(node_id, safe='')}"))


async def services(engine: Engine, stack: str | None = None) -> tuple[SwarmService, ...]:
    """All services, or those of one stack, by name."""
    async with engine.asking("list the services") as docker:
        found = await docker.get("services", **_of(stack))
    return tuple(sorted(map(service_of, found), key=lambda service: service.name))


async def tasks(engine: Engine, stack: str | None = None) -> tuple[SwarmTask, ...]:
    """All tasks that the managers remember, or those of one stack, oldest first."""
    async with engine.asking("list the tasks") as docker:
        found = await docker.get("tasks", **_of(stack))
    return tuple(sorted(map(task_of, found), key=lambda task: (task.created, task.id)))


def _of(stack: str | None) -> dict[str, str]:
    if stack is None:
        return {}
    return {"filters": json.dumps({"label": [f"{STACK}={stack}"]})}


def service_of(raw: Mapping[str, Any]) -> SwarmService:
    """One entry of a listing, or one that was inspected."""
    spec = raw["Spec"]
    key, mode = next(iter((spec.get("Mode") or {"Replicated": {}}).items()))
    update = raw.get("UpdateStatus") or {}
    used = [container(spec), container(raw.get("PreviousSpec") or {})]
    networks = [*(template(spec).get("Networks") or ()), *(spec.get("Networks") or ())]
    return SwarmService(
        id=raw["ID"],
        name=spec["Name"],
        version=int(raw["Version"]["Index"]),
        labels=spec.get("Labels") or {},
        image=str(container(spec).get("Image") or ""),
        mode=_MODES.get(key, "replicated"),
        wanted=_wanted(key, mode or {}),
        created=time_of(raw.get("CreatedAt")),
        updated=time_of(raw.get("UpdatedAt")),
        update=update.get("State") or None,
        update_message=str(update.get("Message") or ""),
        update_began=time_of(update.get("StartedAt")),
        reversible=bool(raw.get("PreviousSpec")),
        iteration=_iteration(raw.get("JobStatus") or {}),
        configs=frozenset(c["ConfigID"] for each in used for c in each.get("Configs") or ()),
        secrets=frozenset(s["SecretID"] for each in used for s in each.get("Secrets") or ()),
        networks=frozenset(str(network["Target"]) for network in networks),
        spec=spec,
    )


def _iteration(raw: Mapping[str, Any]) -> int:
    return int((raw.get("JobIteration") or {}).get("Index") or 0)


def _wanted(key: str, mode: Mapping[str, Any]) -> int | None:
    match key:
        case "Replicated":
            return int(mode.get("Replicas") or 0)
        case "ReplicatedJob":
            return int(mode.get("TotalCompletions") or 1)
        case _:
            return None


def task_of(raw: Mapping[str, Any]) -> SwarmTask:
    """One entry of a listing, or one that was inspected."""
    status, spec = raw.get("Status") or {}, raw.get("Spec") or {}
    ran = status.get("ContainerStatus") or {}
    return SwarmTask(
        id=raw["ID"],
        service_id=str(raw.get("ServiceID") or ""),
        node_id=str(raw.get("NodeID") or ""),
        slot=int(raw.get("Slot") or 0),
        desired=str(raw.get("DesiredState") or ""),
        state=str(status.get("State") or ""),
        error=str(status.get("Err") or ""),
        exit_code=ran.get("ExitCode"),
        at=time_of(status.get("Timestamp")),
        created=time_of(raw.get("CreatedAt")),
        container_id=str(ran.get("ContainerID") or ""),
        spec=spec,
        iteration=_iteration(raw),
    )


def node_of(raw: Mapping[str, Any]) -> SwarmNode:
    """One entry of a listing, or one that was inspected."""
    spec, described, status = raw["Spec"], raw.get("Description") or {}, raw.get("Status") or {}
    manager = raw.get("ManagerStatus") or {}
    return SwarmNode(
        id=raw["ID"],
        hostname=str(described.get("Hostname") or raw["ID"]),
        role="manager" if spec.get("Role") == "manager" else "worker",
        availability=str(spec.get("Availability") or ""),
        state=str(status.get("State") or ""),
        leads=bool(manager.get("Leader")),
        reachable=manager.get("Reachability", "reachable") == "reachable",
        engine=str((described.get("Engine") or {}).get("EngineVersion") or ""),
    )


def time_of(text: str | None) -> float:
    """Seconds since the epoch of a time as the API writes it, 0 for none."""
    if not text or text.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(text).timestamp()
