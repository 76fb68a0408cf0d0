"""One service of a resolved model, as ``docker stack deploy`` takes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.swarm import deploy_section, mounts, plain
from agent.domain.swarm.model import KINDS, Kind
from agent.domain.swarm.service_keys import (
    CLIENT_NAMES,
    CLIENT_PREFIX,
    MEANINGLESS,
    PASSED,
    REFUSED,
    RESOURCES,
)
from agent.domain.swarm.violations import Violations

Raw = Mapping[str, Any]

_EMPTY: tuple[Any, ...] = (None, "", [], {}, False)
_ELSEWHERE = frozenset(
    {
        *KINDS, *RESOURCES, "container_name", "depends_on", "deploy", "networks", "ports",
        "restart", "scale", "tmpfs", "volumes",
    }
)  # fmt: skip
_MAX_NAME = 63
_ADDRESSES = ("ipv4_address", "ipv6_address", "link_local_ips", "mac_address")
_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  nothing listens here


def written(name: str, model: Raw, stack: str, root: str, report: Violations) -> dict[str, Any]:
    """The service ``name`` of ``model``; what cannot be said is in ``report``."""
    raw: Raw = model["services"][name] or {}
    found = _passed(raw, report)
    for key in sorted(raw.keys() - PASSED.keys() - MEANINGLESS - _ELSEWHERE):
        if key.startswith("x-") or raw[key] in _EMPTY:
            continue
        why, hint = REFUSED.get(key, ("docker stack deploy does not know it", "leave it out"))
        report.refuse(f"{key}: {why}", hint, key)
    if len(f"{stack}_{name}") > _MAX_NAME:
        report.refuse(f"{stack}_{name}: is longer than {_MAX_NAME} characters", "shorten the name")
    if raw.get("container_name"):
        hint = f"leave it out: others reach it as {name}"
        report.warn("container_name: a Swarm names containers itself", hint, "container_name")
    _order(raw, report)
    found["deploy"] = deploy_section.written(raw, stack, report)
    sections: dict[str, Any] = {
        "ports": _ports(raw.get("ports") or [], found["deploy"].get("endpoint_mode"), report),
        "networks": _networks(raw.get("networks") or {}, report),
        "volumes": mounts.written(raw, model.get("volumes") or {}, root, report),
    }
    for kind in KINDS:
        used = enumerate(raw.get(kind) or [])
        sections[kind] = [_object(kind, use, report.at(kind, i)) for i, use in used]
    return found | {key: section for key, section in sections.items() if section}


def _passed(raw: Raw, report: Violations) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, kind in PASSED.items():
        value = raw.get(key)
        if value is None or (value in _EMPTY and key != "init"):
            continue
        if (read := report.read(kind, value, key)) is not None:
            found[key] = read
    if raw.get("entrypoint") == []:
        hint = "name the program in entrypoint"
        report.refuse("entrypoint: a Swarm cannot take the image's away", hint, "entrypoint")
    if (raw.get("healthcheck") or {}).get("start_interval"):
        report.warn(
            "healthcheck.start_interval: is left out: Docker before 25 does not know it",
            "use a shorter interval and more retries",
            "healthcheck",
            "start_interval",
        )
    for variable, value in sorted((found.get("environment") or {}).items()):
        if not value and (variable in CLIENT_NAMES or variable.startswith(CLIENT_PREFIX)):
            report.refuse(
                f"environment: {variable} is empty, and would get the value that it has for the "
                "command line of Docker",
                "set it, or leave it out",
                "environment",
                variable,
            )
    return found


def _order(raw: Raw, report: Violations) -> None:
    needed = raw.get("depends_on") or {}
    for other in sorted(needed):
        how = (needed[other] if isinstance(needed, Mapping) else None) or {}
        condition = how.get("condition") or "service_started"
        hint = (
            "let the program wait for it, or fail and be started again; x-commitd: after orders "
            "whole stacks"
        )
        if condition != "service_started" or how.get("restart"):
            message = (
                f"depends_on: a Swarm starts all services at once, and does not wait for {other}"
            )
            report.warn(message, hint, "depends_on", other)
        else:
            report.ask(
                f"depends_on: a Swarm starts {other} at the same time", hint, "depends_on", other
            )


def _ports(raw: list[Raw], endpoint_mode: str | None, report: Violations) -> list[dict[str, Any]]:
    """Each once."""
    ports = list(_each_port(raw, report))
    if endpoint_mode == "dnsrr" and any(each["mode"] == "ingress" for each in ports):
        hint = "write mode: host for each port, or leave endpoint_mode out"
        report.refuse("ports: endpoint_mode dnsrr has no port of the whole Swarm", hint, "ports")
    return [each for i, each in enumerate(ports) if each not in ports[:i]]


def _each_port(raw: list[Raw], report: Violations) -> Iterator[dict[str, Any]]:
    for i, port in enumerate(raw):
        at = report.at("ports", i)
        address = str(port.get("host_ip") or "")
        if address not in _ANY_ADDRESS:
            at.refuse(
                f"ports: a Swarm publishes on all addresses of a node, and not only on {address}",
                "publish nothing, and reach it over a network; or restrict it by the firewall",
            )
        found: dict[str, Any] = {"target": at.read(plain.whole, port.get("target"), "target") or 0}
        published = plain.text(port.get("published"))
        if "-" in published:
            hint = "publish one port, or leave published out"
            at.refuse("ports: a Swarm chooses no port out of a range", hint)
        elif published not in {"", "0"}:
            found["published"] = at.read(plain.whole, published, "published") or 0
        found["protocol"] = str(port.get("protocol") or "tcp")
        found["mode"] = str(port.get("mode") or "ingress")
        yield found


def _networks(raw: Any, report: Violations) -> dict[str, Any]:
    found: dict[str, Any] = {}
    uses = raw if isinstance(raw, Mapping) else dict.fromkeys(raw)
    for name, own in sorted(uses.items()):
        use, at = own or {}, report.at("networks", name)
        if aliases := use.get("aliases"):
            found[name] = {"aliases": plain.words(aliases)}
        else:
            found[name] = None
        for key in sorted(use.keys() - {"aliases"}):
            if key.startswith("x-") or use[key] in (*_EMPTY, 0):
                continue
            if key in _ADDRESSES:
                hint = "leave it out: others reach the service by its name"
                at.refuse(f"networks: {key}: a Swarm chooses the addresses", hint, key)
            elif key in {"priority", "gw_priority"}:
                at.warn(f"networks: {key} is left out: a Swarm has no order of networks", "", key)
            else:
                at.refuse(
                    f"networks: {key}: docker stack deploy does not know it", "leave it out", key
                )
    return found


def _object(kind: Kind, use: Any, report: Violations) -> dict[str, Any]:
    """How a service uses a config or a secret; its target is never the name of the object."""
    if isinstance(use, str):
        use = {"source": use}
    source = str(use.get("source") or "")
    found: dict[str, Any] = {
        "source": source,
        "target": str(use.get("target") or _target(kind, source)),
    }
    for key in ("uid", "gid"):
        if use.get(key) is not None:
            found[key] = plain.text(use[key])
    if use.get("mode") is not None:
        mode = report.read(plain.mode, use["mode"], "mode")
        if mode is not None:
            found["mode"] = mode
    return found


def _target(kind: Kind, source: str) -> str:
    return source if kind == "secrets" else f"/{source}"
