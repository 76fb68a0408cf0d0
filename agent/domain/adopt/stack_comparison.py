"""Whether a file still says what its service is, once Compose has read it.

Compose puts in variables, and some of its versions sort lists. Both would give a service new tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def different(spec: Mapping[str, Any], section: Mapping[str, Any]) -> list[str]:
    """What of ``section``, for ``docker stack deploy``, differs from ``spec``; no values."""
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    dns = container.get("DNSConfig") or {}
    health, labels = container.get("Healthcheck") or {}, dict(container.get("Labels") or {})
    labels = {key: value for key, value in labels.items() if not key.startswith("com.docker.stack")}
    variables: Mapping[str, str | None] = section.get("environment") or {}
    pairs = [key if value is None else f"{key}={value}" for key, value in variables.items()]
    test = (section.get("healthcheck") or {}).get("test") or []
    given = {
        "image": (section.get("image"), container.get("Image")),
        "entrypoint": (section.get("entrypoint") or [], container.get("Command") or []),
        "command": (section.get("command") or [], container.get("Args") or []),
        "variables": (sorted(pairs), sorted(container.get("Env") or [])),
        "labels": (section.get("labels") or {}, labels),
        "extra_hosts": (
            [" ".join(reversed(each.split(":", 1))) for each in section.get("extra_hosts") or []],
            container.get("Hosts") or [],
        ),
        "dns": (section.get("dns") or [], dns.get("Nameservers") or []),
        "dns_search": (section.get("dns_search") or [], dns.get("Search") or []),
        "mounts": (
            [each["target"] for each in section.get("volumes") or []],
            [each["Target"] for each in container.get("Mounts") or []],
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
