"""Containers as the engine's answers describe them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agent.domain import adjustable
from agent.domain.container import Container
from agent.domain.release.health_check import HealthCheck

START_DOCKER = "if Docker is stopped: systemctl start docker"

_STOP_LIMIT_S, _LONGEST_STOP_S = 10.0, 3600.0
"""Of a container that says nothing, as the engine has it; and the most of all."""
_EXIT = re.compile(r"Exited \((\d+)\)")
_RECENT = re.compile(r"Up (?:Less than a second|\d+ seconds?)\b")
_NAMESPACES = ("NetworkMode", "PidMode", "IpcMode")
_LIMITS = (
    "BlkioWeight", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime",
    "CpuShares", "CpusetCpus", "CpusetMems", "Memory", "MemoryReservation", "MemorySwap",
    "NanoCpus", "PidsLimit",
)  # fmt: skip
"""What docker update changes, as the engine calls it."""
_HEALTHS = {"healthy", "unhealthy", "starting"}
_HEALTH = re.compile(r"\((?:health: )?(healthy|unhealthy|starting)\)")


def from_listing(raw: Any) -> Container:
    """One entry of a listing."""
    names = [name.lstrip("/") for name in raw["Names"]] or [raw["Id"][:12]]
    status = raw["Status"] or ""
    ended = _EXIT.search(status)
    health = _HEALTH.search(status)
    network = (raw.get("HostConfig") or {}).get("NetworkMode")
    return Container(
        id=raw["Id"],
        name=min(names, key=len),
        image=raw["Image"],
        state=raw["State"],
        labels=raw["Labels"] or {},
        exit_code=int(ended[1]) if ended else None,
        health=health[1] if health else None,
        created=int(raw["Created"]),
        network=network,
        recently_started=bool(_RECENT.match(status)),
        joins=_joined(network),
        networks=_networks(raw),
    )


def from_inspect(raw: Mapping[str, Any]) -> Container:
    """The container that an inspect describes."""
    state, config = raw["State"], raw["Config"]
    health = (state.get("Health") or {}).get("Status")
    return Container(
        id=raw["Id"],
        name=raw["Name"].lstrip("/"),
        image=config["Image"],
        state=state["Status"],
        labels=config.get("Labels") or {},
        exit_code=state["ExitCode"] if state["Status"] == "exited" else None,
        health=health if health in _HEALTHS else None,  # "none", or empty: there is no check
        restart=raw["HostConfig"]["RestartPolicy"]["Name"],
        network=raw["HostConfig"].get("NetworkMode"),
        joins=_joined(*(raw["HostConfig"].get(key) for key in _NAMESPACES)),
        created=_time(raw.get("Created")) or 0.0,
        started=_time(state.get("StartedAt")),
        networks=_networks(raw),
        settings=settings_of(raw),
    )


def settings_of(raw: Mapping[str, Any]) -> adjustable.Settings:
    """What of an inspected container can be changed while it runs."""
    host, name = raw["HostConfig"], raw["Name"].lstrip("/")
    policy = host["RestartPolicy"]
    found: dict[str, int | str] = {key: host[key] for key in _LIMITS if host.get(key)}
    if policy["Name"] not in {"", "no"}:
        tries = policy.get("MaximumRetryCount")
        found[adjustable.RESTART] = policy["Name"] + (f":{tries}" if tries else "")
    networks = (raw.get("NetworkSettings") or {}).get("Networks") or {}
    for network, endpoint in networks.items():
        # Older engines add the short ID by themselves; the name goes with the container.
        words = set(endpoint.get("Aliases") or ()) - {raw["Id"][:12], name}
        addresses = endpoint.get("IPAMConfig") or {}
        fixed = (addresses.get("IPv4Address"), addresses.get("IPv6Address"))
        found[adjustable.NETWORK + network] = " ".join([*sorted(words), *filter(None, fixed)])
    return tuple(sorted(found.items()))


def updated(settings: Mapping[str, int | str]) -> dict[str, Any]:
    """Settings as the engine's API takes them for an update."""
    body: dict[str, Any] = dict(settings)
    if policy := body.get(adjustable.RESTART):
        name, _, tries = policy.partition(":")
        body[adjustable.RESTART] = {"Name": name, "MaximumRetryCount": int(tries or 0)}
    return body


def _time(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _networks(raw: Mapping[str, Any]) -> frozenset[str] | None:
    found = (raw.get("NetworkSettings") or {}).get("Networks")
    return None if found is None else frozenset(found)


def _joined(*modes: str | None) -> frozenset[str]:
    """The containers that these modes of namespaces name, by ID or name."""
    pairs = ((mode or "").partition(":") for mode in modes)
    return frozenset(name for kind, _, name in pairs if kind == "container" and name)


def health_check_of(raw: Mapping[str, Any]) -> HealthCheck | None:
    """What checks the health of an inspected container: its image's word with its file's over it.

    The engine has times in nanoseconds and 0 where nobody says anything.
    """
    check = raw["Config"].get("Healthcheck") or {}
    if (check.get("Test") or ["NONE"])[0] == "NONE":
        return None
    times = ("Interval", "Timeout", "StartPeriod", "StartInterval")
    interval, timeout, period, early = (float(check.get(key) or 0) / 1e9 for key in times)
    return HealthCheck.of(interval, timeout, int(check.get("Retries") or 0), period, early)


def volumes_of(raw: Mapping[str, Any]) -> list[str]:
    """Names of the volumes mounted into an inspected container, anonymous ones included."""
    mounts = raw.get("Mounts") or []
    return sorted(m["Name"] for m in mounts if m.get("Type") == "volume" and m.get("Name"))


def stop_limit(raw: Mapping[str, Any]) -> float:
    """For how many seconds a container is waited for when it is stopped, an hour at most.

    A negative number of its own stands for no end.
    """
    own = (raw.get("Config") or {}).get("StopTimeout")
    if own is None:
        return _STOP_LIMIT_S
    return float(min(own, _LONGEST_STOP_S)) if own >= 0 else _LONGEST_STOP_S


def binds_of(raw: Mapping[str, Any]) -> frozenset[str]:
    """The host's paths that are mounted into an inspected container."""
    mounts = raw.get("Mounts") or []
    return frozenset(m["Source"] for m in mounts if m.get("Type") == "bind")


def redacted(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth keeping of an inspect: no environment values, no arguments, no secret."""
    config, host = raw["Config"], raw["HostConfig"]
    return {
        "Id": raw["Id"],
        "Name": raw["Name"],
        "Created": raw["Created"],
        "Image": raw["Image"],
        "Config": {
            "Image": config["Image"],
            # Labels hold credentials too; those of Docker's own tools say whose it was.
            "Labels": {
                key: value if key.startswith("com.docker.") else ""
                for key, value in (config.get("Labels") or {}).items()
            },
            "Env": sorted({pair.partition("=")[0] for pair in config.get("Env") or []}),
            "StopSignal": config.get("StopSignal"),
        },
        "HostConfig": {
            "RestartPolicy": host["RestartPolicy"],
            "AutoRemove": host.get("AutoRemove"),
            "NetworkMode": host.get("NetworkMode"),
            "Binds": host.get("Binds"),
            "PortBindings": host.get("PortBindings"),
        },
        "Mounts": [
            {key: mount.get(key) for key in ("Type", "Name", "Source", "Destination")}
            for mount in raw.get("Mounts") or []
        ],
    }
