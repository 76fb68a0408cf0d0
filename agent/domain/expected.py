"""What the engine must show of each service, from the model that Compose resolves a stack to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.domain import inline
from agent.domain.gate import Expected

_WAITED_FOR = frozenset({"service_healthy", "service_completed_successfully"})


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
    return {
        name: _service(raw, files, inline.digest(raw, model, value, salt))
        for name, raw in (model.get("services") or {}).items()
    }


def _service(
    raw: Mapping[str, Any], files: Mapping[str, Mapping[str, str | None]], inlined: str
) -> Expected:
    deploy = raw.get("deploy")
    deploy = deploy if isinstance(deploy, dict) else {}
    scale = raw.get("scale", deploy.get("replicas", 1))
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
        scale=int(scale) if isinstance(scale, int | str) else 1,
        finishes=restart.partition(":")[0] in {"no", "on-failure"},
        container_name=str(raw["container_name"]) if raw.get("container_name") else None,
        mounts=tuple(sorted({path for path in mounts if path})),
        waits=any(
            needed.get("condition") in _WAITED_FOR
            for needed in (raw.get("depends_on") or {}).values()
        ),
        inline=inlined,
    )
