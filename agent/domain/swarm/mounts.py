"""What the tasks of a service mount, as ``docker stack deploy`` takes it.

A path exists on one node, and a volume of the driver ``local`` is another one on each: that is
said where nothing keeps the service's tasks on one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.domain.compose import host_mounts
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.swarm import plain
from agent.domain.swarm.violations import Violations

Raw = Mapping[str, Any]

_ONE_NODE = re.compile(r"\s*(?:node\.(?:id|hostname|labels\.[^\s=!]+))\s*==")
_EVERYWHERE = ("/proc", "/sys", "/dev", "/etc/localtime", "/etc/timezone", "/etc/hostname")
_SOCKETS = ("/run/docker.sock", "/var/run/docker.sock")
_TMPFS_WORDS = frozenset({"", "rw", "noexec", "nosuid", "nodev", "mode=1777", "mode=01777"})
"""What a Swarm's tmpfs is anyway."""
_TMPFS_MODE = 0o1777
_KEEP = (
    "keep its tasks on a node by deploy.placement.constraints: [node.hostname == NAME], or use a "
    "volume that all nodes see"
)
_USE_OBJECTS = "use configs: (or secrets:) with file:, which commitd gives to all nodes"


def written(service: Raw, volumes: Raw, root: str, report: Violations) -> list[dict[str, Any]]:
    """Its ``volumes:`` and ``tmpfs:``; ``volumes`` are those of the stack.

    ``root`` is the absolute path of the repository in the model.
    """
    stays = _stays(service)
    found: list[dict[str, Any]] = []
    for i, raw in enumerate(service.get("volumes") or []):
        at = report.at("volumes", i)
        match raw.get("type"):
            case "bind":
                found.append(_bind(raw, root, at, stays=stays))
            case "volume":
                found.append(_volume(raw, volumes, root, at, stays=stays))
            case "tmpfs":
                found.append(_tmpfs(raw, at))
            case kind:
                at.refuse(
                    f"volumes: docker stack deploy does not know the type {kind}",
                    "put the files into the image, or use configs:",
                )
    return [
        *found,
        *(_short_tmpfs(text, report) for text in plain.words(service.get("tmpfs") or [])),
    ]


def _stays(service: Raw) -> bool:
    """Whether the service says on which nodes its tasks run."""
    deploy = service.get("deploy") or {}
    if str(deploy.get("mode") or "").startswith("global"):
        return True
    constraints = (deploy.get("placement") or {}).get("constraints") or []
    return any(_ONE_NODE.match(str(each)) for each in constraints)


def _mount(raw: Raw, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": kind, "target": str(raw.get("target") or "")}
    if raw.get("source"):
        found["source"] = str(raw["source"])
    if raw.get("read_only"):
        found["read_only"] = plain.truth(raw["read_only"])
    return found


def _bind(raw: Raw, root: str, report: Violations, *, stays: bool) -> dict[str, Any]:
    found, source = _mount(raw, "bind"), str(raw.get("source") or "").replace("$$", "$")
    options: Raw = raw.get("bind") or {}
    _of_repository(source, root, report)
    if not host_mounts.within(source, root) and not stays and not _everywhere(source):
        report.warn(f"volumes: {source} must exist on each node that may run it", _KEEP)
    if options.get("propagation"):
        found["bind"] = {"propagation": str(options["propagation"])}
    if options.get("selinux"):
        hint = "label the directory on the nodes: chcon -t container_file_t"
        report.refuse("volumes: a Swarm labels nothing for SELinux", hint, "bind", "selinux")
    if str(options.get("recursive") or "enabled") != "enabled":
        hint = "leave it out"
        report.refuse("volumes: docker stack deploy does not know bind.recursive", hint, "bind")
    return found


def _of_repository(source: str, root: str, report: Violations) -> None:
    at = host_mounts.place(source, root, AgentPlaces())
    if at is not None:
        where = f"./{at}" if at else "the repository"
        report.refuse(
            f"volumes: {where} is a file of the repository, which nodes do not have", _USE_OBJECTS
        )


def _everywhere(source: str) -> bool:
    return source in _SOCKETS or any(host_mounts.within(source, each) for each in _EVERYWHERE)


def _volume(
    raw: Raw, volumes: Raw, root: str, report: Violations, *, stays: bool
) -> dict[str, Any]:
    found, name = _mount(raw, "volume"), str(raw.get("source") or "")
    options: Raw = raw.get("volume") or {}
    volume: Raw = volumes.get(name) or {}
    driver = volume.get("driver_opts") or {}
    for mount in host_mounts.of({"services": {"": {"volumes": [raw]}}, "volumes": volumes}):
        _of_repository(mount.source, root, report)
    shared = volume.get("driver") not in {None, "", "local"} or driver.get("type") not in {
        None, "", "none", "tmpfs",
    }  # fmt: skip
    if name and not stays and not shared:
        where = (
            "a Swarm does not look where it is"
            if volume.get("external")
            else "each node has its own"
        )
        report.warn(f"volumes: the volume {name} does not go along to another node: {where}", _KEEP)
    if options.get("nocopy"):
        found["volume"] = {"nocopy": plain.truth(options["nocopy"])}
    if options.get("subpath"):
        hint = "mount the whole volume"
        report.refuse("volumes: docker stack deploy does not know volume.subpath", hint, "volume")
    if options.get("labels"):
        hint = "put them to the volume, below volumes:"
        report.warn("volumes: labels of a mount are left out", hint, "volume", "labels")
    return found


def _tmpfs(raw: Raw, report: Violations) -> dict[str, Any]:
    found, options = _mount(raw, "tmpfs"), raw.get("tmpfs") or {}
    if options.get("size") not in {None, "", 0, "0"}:
        size = report.read(plain.size, options["size"], "tmpfs", "size")
        found["tmpfs"] = {"size": size or 0}
    mode = options.get("mode")
    if mode is not None and report.read(plain.mode, mode, "tmpfs", "mode") != _TMPFS_MODE:
        hint = "leave it out: it is 1777"
        report.refuse(
            "volumes: docker stack deploy does not know tmpfs.mode", hint, "tmpfs", "mode"
        )
    return found


def _short_tmpfs(text: str, report: Violations) -> dict[str, Any]:
    target, _, options = text.partition(":")
    words = options.split(",")
    sizes = [word.removeprefix("size=") for word in words if word.startswith("size=")]
    more = sorted({word for word in words if not word.startswith("size=")} - _TMPFS_WORDS)
    if more:
        hint = "leave it out"
        report.refuse(f"tmpfs: docker stack deploy does not know {', '.join(more)}", hint, "tmpfs")
    return _tmpfs({"target": target, "tmpfs": {"size": sizes[-1] if sizes else None}}, report)
