"""``deploy:`` of a service that runs in a Swarm, in the words of a stack's file."""

from __future__ import annotations

from typing import Any

from agent.domain.adopt.remainder import Remainder

Section = dict[str, Any]

_CLIENT = "com.docker.stack."
"""Labels that ``docker stack deploy`` puts on by itself."""
_NANO = 10**9
_UNITS = ((_NANO, "s"), (10**6, "ms"), (10**3, "us"), (1, "ns"))


def written(spec: Remainder) -> Section:
    """What of ``spec`` is said there, which is taken out of it."""
    mode = spec.some("Mode")
    replicated = mode.get("Replicated")
    found: Section = (
        {"mode": "global"}
        if "Global" in mode
        else {"replicas": int((replicated or {}).get("Replicas") or 0)}
    )
    endpoint = spec.take("EndpointSpec", "Mode")
    labels = dict(spec.some("Labels"))
    labels = {key: value for key, value in labels.items() if not key.startswith(_CLIENT)}
    sections = {
        "labels": labels,
        "endpoint_mode": endpoint if endpoint != "vip" else None,
        "update_config": _update(spec, "UpdateConfig"),
        "rollback_config": _update(spec, "RollbackConfig"),
        "restart_policy": _restart(spec),
        "placement": _placement(spec),
        "resources": _resources(spec),
    }
    return found | {key: value for key, value in sections.items() if value}


def _update(spec: Remainder, name: str) -> Section:
    raw = spec.some(name)
    if not raw:
        return {}
    found: Section = {"parallelism": raw.get("Parallelism", 0)}
    for key, word in (("delay", "Delay"), ("monitor", "Monitor")):
        if raw.get(word):
            found[key] = duration(raw[word])
    for key, word in (
        ("failure_action", "FailureAction"),
        ("max_failure_ratio", "MaxFailureRatio"),
        ("order", "Order"),
    ):
        if raw.get(word):
            found[key] = raw[word]
    return found


def _restart(spec: Remainder) -> Section:
    raw = spec.some("TaskTemplate", "RestartPolicy")
    found: Section = {"condition": raw["Condition"]} if raw.get("Condition") else {}
    for key, word in (("delay", "Delay"), ("window", "Window")):
        if raw.get(word) is not None:
            found[key] = duration(raw[word])
    if raw.get("MaxAttempts") is not None:
        found["max_attempts"] = raw["MaxAttempts"]
    return found


def _placement(spec: Remainder) -> Section:
    at = ("TaskTemplate", "Placement")
    found: Section = {}
    if constraints := spec.take(*at, "Constraints"):
        found["constraints"] = constraints
    if most := spec.take(*at, "MaxReplicas"):
        found["max_replicas_per_node"] = most
    if preferences := spec.take(*at, "Preferences"):
        found["preferences"] = [
            {"spread": (each.get("Spread") or {}).get("SpreadDescriptor")} for each in preferences
        ]
    return found


def _resources(spec: Remainder) -> Section:
    found: Section = {}
    for part, name in (("limits", "Limits"), ("reservations", "Reservations")):
        at = ("TaskTemplate", "Resources", name)
        section: Section = {}
        if cpus := spec.take(*at, "NanoCPUs"):
            section["cpus"] = f"{cpus / _NANO:.9f}".rstrip("0").rstrip(".")
        if memory := spec.take(*at, "MemoryBytes"):
            section["memory"] = str(memory)
        if name == "Limits" and (most := spec.take(*at, "Pids")):
            section["pids"] = most
        if section:
            found[part] = section
    return found


def duration(nanoseconds: int) -> str:
    """As files write it: ``1500ms``."""
    size, unit = next(each for each in _UNITS if nanoseconds % each[0] == 0)
    return f"{nanoseconds // size}{unit}"
