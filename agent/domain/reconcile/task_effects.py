"""What a change of a service does to its tasks in a Swarm: whether it replaces them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

_TASKS_STAY = frozenset({"endpoint_mode", "labels", "replicas", "rollback_config", "update_config"})
"""What of ``deploy:`` is of the service alone."""
_NOT_DEPLOYED = frozenset({"build", "container_name", "depends_on", "profiles", "pull_policy"})


def action(
    old: Mapping[str, Any], new: Mapping[str, Any], files: Collection[str]
) -> tuple[str, str | None]:
    """What is done with a service that was ``old``, and why; ``files`` are those it uses."""
    keys = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - _NOT_DEPLOYED
    deploy = _deploy(old), _deploy(new)
    if keys - {"deploy", "ports", "scale"} or _rest(deploy[0]) != _rest(deploy[1]):
        return "recreate", "its settings change, so it gets new tasks"
    if "ports" in keys and _on_nodes(old) + _on_nodes(new):
        return "recreate", "its ports of nodes change, so it gets new tasks"
    if files:
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        return "recreate", f"{min(files)}{more} changes, so it gets new tasks"
    was, now = _replicas(old), _replicas(new)
    if was != now:
        return "scale", f"{now} replicas instead of {was}"
    return ("update", "its tasks stay") if keys else ("none", None)


def _deploy(service: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = service.get("deploy") or {}
    return found


def _rest(deploy: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in deploy.items() if key not in _TASKS_STAY}


def _on_nodes(service: Mapping[str, Any]) -> list[Any]:
    return [each for each in service.get("ports") or [] if each.get("mode") == "host"]


def _replicas(service: Mapping[str, Any]) -> Any:
    found = _deploy(service).get("replicas", service.get("scale"))
    return 1 if found is None else found
