"""Whether a file still says what its service is, once Compose has read it.

Compose puts in variables, and some of its versions sort lists. Both would give a service new tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.domain.swarm.spec import container


def different(spec: Mapping[str, Any], section: Mapping[str, Any]) -> list[str]:
    """What of ``section``, for ``docker stack deploy``, differs from ``spec``; no values."""
    ran = container(spec)
    dns = ran.get("DNSConfig") or {}
    health, labels = ran.get("Healthcheck") or {}, dict(ran.get("Labels") or {})
    labels = {key: value for key, value in labels.items() if not key.startswith("com.docker.stack")}
    variables: Mapping[str, str | None] = section.get("environment") or {}
    pairs = [key if value is None else f"{key}={value}" for key, value in variables.items()]
    test = (section.get("healthcheck") or {}).get("test") or []
    given = {
        "image": (section.get("image"), ran.get("Image")),
        "entrypoint": (section.get("entrypoint") or [], ran.get("Command") or []),
        "command": (section.get("command") or [], ran.get("Args") or []),
        "variables": (sorted(pairs), sorted(ran.get("Env") or [])),
        "labels": (section.get("labels") or {}, labels),
        "extra_hosts": (
            [" ".join(reversed(each.split(":", 1))) for each in section.get("extra_hosts") or []],
            ran.get("Hosts") or [],
        ),
        "dns": (section.get("dns") or [], dns.get("Nameservers") or []),
        "dns_search": (section.get("dns_search") or [], dns.get("Search") or []),
        "mounts": (
            [each["target"] for each in section.get("volumes") or []],
            [each["Target"] for each in ran.get("Mounts") or []],
        ),
        "healthcheck": (test, [] if health.get("Test") == ["NONE"] else health.get("Test") or []),
    }
    return [
        name
        for name, (new, now) in given.items()
        if _plain(new) != now and not (name == "image" and "@" not in str(now))
    ]


def _plain(value: Any) -> Any:
    """As Docker's command line puts it in, which undoes the doubling of ``$``."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(below) for key, below in value.items()}
    return value
