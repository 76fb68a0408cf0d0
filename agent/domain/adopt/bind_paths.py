"""Where on the host the data of a Compose project is, whatever directory its file moves to."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from agent.domain.adopt.running_project import Origin
from agent.domain.documents import Document, Path

_MOUNT = re.compile(r"((?:\$\{[^{}]*\}|[^:])*):([^:]*)(.*)", re.DOTALL)
_FIRST = re.compile(r"\$\{?(\w+)(?::?-([^{}]*))?", re.ASCII)


def wanted(document: Document, origin: Origin) -> dict[Path, str]:
    """The values to be written so that every mount stays what it is, by their place.

    Raises :class:`PermanentError` with a place where nobody can tell what is mounted.
    """
    found: dict[Path, str] = {}
    services = document.data.get("services")
    for name, service in services.items() if isinstance(services, dict) else ():
        mounts = service.get("volumes") if isinstance(service, dict) else None
        for i, mount in enumerate(mounts if isinstance(mounts, list) else ()):
            found |= _mount(document, origin, ("services", name, "volumes", i), mount)
    return found


def _mount(document: Document, origin: Origin, at: Path, mount: object) -> Mapping[Path, str]:
    if isinstance(mount, str) and (parts := _MOUNT.fullmatch(mount)):
        source, target, rest = parts.groups()
        if source.startswith((".", "~")):
            return {at: f"{_absolute(origin, source)}:{target}{rest}"}
        if _leads_beside(origin, source):
            return {at: f"{_bound(document, origin, at, target)}:{target}{rest}"}
    elif isinstance(mount, dict) and mount.get("type") == "bind":
        source = mount.get("source")
        if not isinstance(source, str):
            return {}
        if _leads_beside(origin, source):
            return {(*at, "source"): _bound(document, origin, at, str(mount.get("target")))}
        if not source.startswith(("/", "$")):
            return {(*at, "source"): _absolute(origin, source)}
    return {}


def _leads_beside(origin: Origin, source: str) -> bool:
    """Whether it begins with a variable, and that with no absolute path."""
    first = _FIRST.match(source)
    if not first:
        return False
    value = ""
    for values in origin.interpolation.values():
        value = values.values.get(first[1], value)
    return not (value or first[2] or "").startswith("/")


def _bound(document: Document, origin: Origin, at: Path, target: str) -> str:
    """What is mounted at ``target``, as Compose resolves it."""
    path = origin.binds.get(str(at[1]), {}).get(posixpath.normpath(target))
    if path is None:
        raise document.error(at, "nobody can tell where this data is", "write the path out")
    return path.replace("$", "$$")


def _absolute(origin: Origin, path: str) -> str:
    if path == "~" or path.startswith("~/"):
        return posixpath.normpath(origin.home + path[1:])
    return posixpath.normpath(posixpath.join(origin.directory, path))
