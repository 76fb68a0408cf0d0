"""What the engine must show of each service, from the model that Compose resolves a stack to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from agent.domain.compose import inline_configs
from agent.domain.release.health import Expected, Need
from agent.domain.repository import artefacts, hooks
from agent.domain.resources import exclusive

_HEALTHY, _COMPLETED = "service_healthy", "service_completed_successfully"
_WAITED_FOR = frozenset({_HEALTHY, _COMPLETED})
_NAMESPACES = ("network_mode", "pid", "ipc")


def services(
    model: Mapping[str, Any], value: Callable[[str], str], salt: str
) -> dict[str, Expected]:
    """By name. ``model`` is what ``docker compose config --format json`` prints.

    ``value`` and ``salt`` are for :func:`inline.digest`.
    """
    files = {
        kind: {name: raw.get("file") for name, raw in (model.get(kind) or {}).items()}
        for kind in ("configs", "secrets")
    }
    needed = needs(model)
    raws: Mapping[str, Mapping[str, Any]] = model.get("services") or {}
    found = {
        name: replace(
            _service(raw, files, inline_configs.digest(raw, model, value, salt)),
            needs=needed[name],
            joins=frozenset(":".join(words) for words in _joined(raw)),
            hooks=artefacts.beside(name, raw),
            has_hooks=any(raw.get(key) for key in hooks.KEYS),
        )
        for name, raw in raws.items()
    }
    project = str(model.get("name") or "")
    return {
        name: replace(service, wants=exclusive.wanted(project, name, service.scale, model))
        for name, service in found.items()
    }


def needs(model: Mapping[str, Any]) -> dict[str, dict[str, Need]]:
    """What each service needs of the others."""
    raws: Mapping[str, Mapping[str, Any]] = model.get("services") or {}
    called = {str(r["container_name"]): name for name, r in raws.items() if r.get("container_name")}
    found: dict[str, dict[str, Need]] = {}
    for name, raw in raws.items():
        owners = {called.get(who) if kind == "container" else who for kind, who in _joined(raw)}
        depends: Mapping[str, Mapping[str, Any]] = raw.get("depends_on") or {}
        found[name] = {
            other: Need(
                restart=bool(depends.get(other, {}).get("restart")),
                healthy=depends.get(other, {}).get("condition") == _HEALTHY,
                completed=depends.get(other, {}).get("condition") == _COMPLETED,
                shares=other in owners,
            )
            for other in raws.keys() & {*depends, *owners} - {name}
        }
    return found


def scale(raw: Mapping[str, Any]) -> int:
    """How many containers a service of a model has."""
    deploy = raw.get("deploy")
    replicas = deploy.get("replicas", 1) if isinstance(deploy, dict) else 1
    found = raw.get("scale", replicas)
    return int(found) if isinstance(found, int | str) else 1


def _joined(raw: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Whose namespaces a service runs in: ``service`` or ``container``, and a name."""
    words = {str(raw.get(key) or "").partition(":")[::2] for key in _NAMESPACES}
    return {(kind, target) for kind, target in words if kind in {"service", "container"} and target}


def _service(
    raw: Mapping[str, Any], files: Mapping[str, Mapping[str, str | None]], inlined: str
) -> Expected:
    deploy = raw.get("deploy")
    deploy = deploy if isinstance(deploy, dict) else {}
    restart = str(raw.get("restart") or "no")
    policy = deploy.get("restart_policy")
    if isinstance(policy, dict) and "restart" not in raw:
        restart = {"none": "no", "on-failure": "on-failure"}.get(
            str(policy.get("condition", "any")), "always"
        )
    mounts = [v["source"] for v in raw.get("volumes") or [] if v.get("type") == "bind"]
    for kind, known in files.items():
        mounts += [known.get(use["source"]) for use in raw.get(kind) or []]
    return Expected(
        image=str(raw.get("image") or ""),
        scale=scale(raw),
        one_shot=restart.partition(":")[0] in {"no", "on-failure"},
        container_name=str(raw["container_name"]) if raw.get("container_name") else None,
        mounts=tuple(sorted({path for path in mounts if path})),
        waits=bool(raw.get(hooks.KEY))
        or any(
            needed.get("condition") in _WAITED_FOR
            for needed in (raw.get("depends_on") or {}).values()
        ),
        inline=inlined,
    )
