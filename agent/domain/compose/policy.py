"""What a stack may not ask of the host, seen on the model that Compose resolved.

Compose runs a ``provider:`` as a program of the repository on the host, and ``build:`` runs the
repository's instructions with the engine's rights. The files of the repository were judged before
(``references``); here variables have their values.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain.repository import hooks
from agent.domain.repository.compose_paths import Variable

_SOCKETS = ("docker.sock", "podman.sock", "containerd.sock")
_NO_CONTEXT = ("docker-image://", "oci-layout://", "service:", "target:")
_HOST_SPACES = ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")


def refusals(model: Mapping[str, Any], root: str, *, build: bool = False) -> list[str]:
    """Why ``model`` (of ``compose config --format json``) must not be started; sorted.

    ``root`` is the absolute path of the repository; ``build`` allows ``build:`` inside of it.
    """
    found: list[str] = []
    for name, service in sorted((model.get("services") or {}).items()):
        if service.get("provider"):
            found.append(f"{name}: provider: would run a program of the repository on the host")
        if service.get("build") and not build:
            found.append(f"{name}: build: is not allowed; push an image and name it by its digest")
        elif service.get("build"):
            found += [
                f"{name}: build: {context!r} is not in the repository; commit what it is built from"
                for context in _contexts(service["build"])
                if not _inside(context, root)
            ]
    for kind in ("configs", "secrets"):
        for name, value in sorted((model.get(kind) or {}).items()):
            file = (value or {}).get("file")
            if file and not _inside(str(file), root):
                found.append(
                    f"{kind}: {name}: {str(file)!r} is not in the repository; commit the file, "
                    "or mount it from the host as a volume"
                )
    return found


@dataclass(frozen=True, slots=True)
class Ask:
    """What a service gets of the host beyond a container's walls, and the keys that say so.

    ``what`` begins with the hook that gets it, where that is not the service itself.
    """

    service: str
    path: tuple[str | int, ...]
    what: str


def climbing(variables: Iterable[Variable], names: Iterable[str]) -> list[tuple[Variable, str]]:
    """Which files must not be read whose ``names`` Compose has finished, and why.

    One message each, with ``file:line`` in front and without the value of a variable.
    """
    found: list[tuple[Variable, str]] = []
    for variable, name in zip(variables, names, strict=True):
        path = posixpath.normpath(posixpath.join(variable.base, name))
        place = variable.within
        away = name.startswith(("/", "~")) or f"{path}/".startswith("../")
        if away or (place and not _inside(path, place)):
            said = (
                f"{variable.where}: {variable.kind}: {variable.name!r} leads out of "
                f"{place or 'the repository'}; write the directory before the variable"
            )
            found.append((variable, said))
    return found


def asks(services: Mapping[str, Mapping[str, Any]]) -> list[Ask]:
    """All that ``services`` of a model ask in this way; allowed, sorted by service.

    Of a hook only what its service does not ask as well.
    """
    found: list[Ask] = []
    for name, service in sorted(services.items()):
        own = list(_asks(service))
        found += [Ask(name, (key,), what) for key, what in own]
        for hook in hooks.of_service(name, service, *hooks.KEYS):
            found += [
                Ask(name, (hook.key, hook.index, key), f"{hook.key}[{hook.index}]: {what}")
                for key, what in _asks(hook.spec)
                if (key, what) not in own
            ]
    return found


def _asks(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of one service or hook, and what it gets by them."""
    if container.get("privileged"):
        yield "privileged", "privileged"
    if container.get("use_api_socket"):
        yield "use_api_socket", "use_api_socket, the engine's socket and credentials"
    for mount in container.get("volumes") or []:
        source = str(mount.get("source", "")) if isinstance(mount, Mapping) else ""
        if source.endswith(_SOCKETS) and mount.get("type") == "bind":
            yield "volumes", f"mounts the engine's socket {source}"
    for key in _HOST_SPACES:
        if container.get(key) == "host":
            yield key, f"{key}: host"
    for each in sorted(container.get("cap_add") or []):
        yield "cap_add", f"cap_add {each}"
    for each in container.get("devices") or []:
        yield "devices", f"device {_device(each)}"


def notable(services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same in words."""
    return [f"{ask.service}: {ask.what}" for ask in asks(services)]


def _contexts(build: Mapping[str, Any]) -> list[str]:
    more = build.get("additional_contexts") or {}
    named = [str(build.get("context", "."))]
    named += [str(c) for c in more.values() if not str(c).startswith(_NO_CONTEXT)]
    return named


def _inside(path: str, root: str) -> bool:
    """Whether ``path``, which Compose made absolute, is at or below ``root``."""
    return f"{posixpath.normpath(path)}/".startswith(f"{posixpath.normpath(root)}/")


def _device(value: object) -> str:
    return str(value.get("source", value)) if isinstance(value, Mapping) else str(value)
