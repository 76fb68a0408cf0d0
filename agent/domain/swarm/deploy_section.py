"""``deploy:`` of a service, as ``docker stack deploy`` takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.domain.swarm import plain
from agent.domain.swarm.model import OURS, Mode
from agent.domain.swarm.service_keys import GENERIC, RESOURCES
from agent.domain.swarm.violations import Violations

Raw = Mapping[str, Any]
Kinds = Mapping[str, Callable[[Any], Any]]

_MODES: Mapping[str, Mode] = {
    "": "replicated",
    "replicated": "replicated",
    "global": "global",
    "replicated-job": "replicated-job",
    "global-job": "global-job",
}
_NO_JOBS = ("update_config", "rollback_config")
_UPDATE: Kinds = {
    "parallelism": plain.whole,
    "delay": plain.text,
    "failure_action": plain.text,
    "monitor": plain.text,
    "max_failure_ratio": plain.number,
    "order": plain.text,
}
_RESTART: Kinds = {
    "condition": plain.text,
    "delay": plain.text,
    "max_attempts": plain.whole,
    "window": plain.text,
}
_LIMITS: Kinds = {"cpus": plain.text, "memory": plain.text, "pids": plain.whole}
_CONDITIONS = {"no": "none", "always": "any", "unless-stopped": "any", "on-failure": "on-failure"}
_GENERIC = "discrete_resource_spec"


def written(service: Raw, stack: str, report: Violations) -> dict[str, Any]:
    """Of the whole ``service``: Compose has keys of its own for some of this."""
    raw: Raw = service.get("deploy") or {}
    below = report.at("deploy")
    mode = _MODES.get(str(raw.get("mode") or ""))
    if mode is None:
        below.refuse(
            f"deploy.mode: must be one of {', '.join(sorted(set(_MODES.values())))}", "", "mode"
        )
        mode = "replicated"
    found: dict[str, Any] = {"mode": mode}
    replicas = _replicas(service, raw, mode, report)
    if replicas is not None:
        found["replicas"] = replicas
    found["labels"] = _labels(raw, stack, below)
    if raw.get("endpoint_mode"):
        found["endpoint_mode"] = below.read(plain.text, raw["endpoint_mode"], "endpoint_mode")
    for key in _NO_JOBS:
        if raw.get(key) and mode.endswith("-job"):
            below.refuse(f"deploy.{key}: a job is not updated", "leave it out", key)
        elif raw.get(key):
            found[key] = _section(raw[key], _UPDATE, below.at(key), f"deploy.{key}")
    if (policy := _restart(service, raw, report)) is not None:
        found["restart_policy"] = policy
    if placement := _placement(raw.get("placement") or {}, below.at("placement")):
        found["placement"] = placement
    if resources := _resources(service, raw.get("resources") or {}, report):
        found["resources"] = resources
    known = {*found, "mode", "replicas", "placement", "resources", *_NO_JOBS}
    _unknown(raw, known, below, "deploy")
    return found


def _unknown(raw: Raw, known: set[str], report: Violations, name: str) -> None:
    for key in sorted(raw.keys() - known):
        if not key.startswith("x-") and raw[key] not in (None, "", [], {}, False):
            hint = "leave it out"
            report.refuse(f"{name}.{key}: docker stack deploy does not know it", hint, key)


def _section(raw: Raw, kinds: Kinds, report: Violations, name: str) -> dict[str, Any]:
    """A mapping of single values; each key that is not in ``kinds`` is refused."""
    found = {
        key: report.read(kind, raw[key], key)
        for key, kind in kinds.items()
        if raw.get(key) is not None and raw[key] != ""
    }
    _unknown(raw, set(kinds), report, name)
    return {key: value for key, value in found.items() if value is not None}


def _replicas(service: Raw, raw: Raw, mode: Mode, report: Violations) -> int | None:
    scale, replicas = service.get("scale"), raw.get("replicas")
    if scale is not None:
        hint = "write deploy.replicas"
        report.warn("scale: is Compose's own, and taken as deploy.replicas", hint, "scale")
    if mode.startswith("global"):
        if scale is not None or replicas is not None:
            hint = "leave the number out, or write mode: replicated"
            report.refuse(
                f"deploy.replicas: {mode} has one task on each node", hint, "deploy", "replicas"
            )
        return None
    given = replicas if replicas is not None else scale
    at = ("deploy", "replicas") if replicas is not None else ("scale",)
    count = 1 if given is None else report.read(plain.whole, given, *at)
    return 1 if count is None else int(count)


def _labels(raw: Raw, stack: str, report: Violations) -> dict[str, str]:
    found: dict[str, str] = report.read(plain.texts, raw.get("labels") or {}, "labels") or {}
    own = sorted(key for key in found if key.startswith("io.commitd."))
    if own:
        report.refuse(f"deploy.labels: {own[0]} is commitd's own", "use another label", "labels")
    return {**found, OURS: stack}


def _restart(service: Raw, raw: Raw, report: Violations) -> dict[str, Any] | None:
    own, policy = service.get("restart"), raw.get("restart_policy")
    found: dict[str, Any] | None = None
    if own:
        word, _, most = str(own).partition(":")
        condition = _CONDITIONS.get(word)
        hint = f"write deploy.restart_policy: {{condition: {condition or 'any'}}}"
        if policy:
            report.warn(
                "restart: does not count beside deploy.restart_policy", "leave it out", "restart"
            )
        elif condition is None:
            report.refuse("restart: a Swarm does not know this", hint, "restart")
        else:
            report.warn(
                f"restart: is Compose's own, and taken as the condition {condition!r}",
                hint,
                "restart",
            )
            found = {"condition": condition}
            if most:
                found["max_attempts"] = report.read(plain.whole, most, "restart")
    if policy:
        below = report.at("deploy", "restart_policy")
        found = _section(policy, _RESTART, below, "deploy.restart_policy")
    return found


def _placement(raw: Raw, report: Violations) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if raw.get("constraints"):
        found["constraints"] = report.read(plain.words, raw["constraints"], "constraints") or []
    if raw.get("preferences"):
        found["preferences"] = [
            _section(each, {"spread": plain.text}, report.at("preferences", i), "deploy.placement")
            for i, each in enumerate(raw["preferences"])
        ]
    if raw.get("max_replicas_per_node"):
        key = "max_replicas_per_node"
        found[key] = report.read(plain.whole, raw[key], key)
    _unknown(
        raw, {"constraints", "preferences", "max_replicas_per_node"}, report, "deploy.placement"
    )
    return found


def _resources(service: Raw, raw: Raw, report: Violations) -> dict[str, Any]:
    below = report.at("deploy", "resources")
    limits = _section(
        raw.get("limits") or {}, _LIMITS, below.at("limits"), "deploy.resources.limits"
    )
    wanted: Raw = raw.get("reservations") or {}
    generic = wanted.get("generic_resources") or []
    rest = {key: value for key, value in wanted.items() if key != "generic_resources"}
    name = "deploy.resources.reservations"
    if rest.pop("devices", None):
        hint = GENERIC
        below.refuse(f"{name}.devices: tasks get no devices", hint, "reservations", "devices")
    kinds = {key: kind for key, kind in _LIMITS.items() if key != "pids"}
    found = {
        "limits": limits,
        "reservations": _section(rest, kinds, below.at("reservations"), name),
    }
    if generic:
        at = below.at("reservations", "generic_resources")
        found["reservations"]["generic_resources"] = [
            {
                _GENERIC: _section(
                    each.get(_GENERIC) or {}, _KIND, at.at(i), f"{name}.generic_resources"
                )
            }
            for i, each in enumerate(generic)
        ]
    for key, (part, called, kind) in RESOURCES.items():
        value = service.get(key)
        # To Compose, 0 and -1 are no limit.
        if value in (None, "", 0, "0", -1, "-1") or called in found[part]:
            continue
        if (said_as := report.read(kind, value, key)) is not None:
            found[part][called] = said_as
    _unknown(raw, {"limits", "reservations"}, below, "deploy.resources")
    return {part: value for part, value in found.items() if value}


_KIND: Kinds = {"kind": plain.text, "value": plain.number}
