"""What the containers of a model mount from the host, and what of that is whose.

    model ──of──▶ HostMount ┬──place──▶ a path of the repository ──covered──▶ files of Git in it
                            └──agents──▶ directories of the agent itself

A bind names its source itself; a volume of the driver ``local`` with ``o: bind`` is one as well.
Paths are compared as text, without the ``$`` that a model doubles; of links on the host only those
are known that lead to the agent's directories, and ``/var/run``. What is tracked is the whole tree
of the commit: a link among it counts as one file, and so does all that is behind it.
"""

from __future__ import annotations

import posixpath
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from msgspec import Struct

from agent.domain.documents import Path
from agent.domain.repository import hooks
from agent.domain.repository.tree import PLAINTEXT_PREFIX

Model = Mapping[str, Any]

CHECKOUT, EXPORT, GIT = "repo", "export", "git"
"""Directories in that of the agent's state."""
_VAR_RUN, _RUN = "/var/run", "/run"
"""The first has been a link to the second for ten years."""


class AgentPlaces(Struct, frozen=True, kw_only=True):
    """Directories that are the agent's own on its host, absolute.

    ``real`` are the same where links on the host lead, None: they are called so.
    """

    state: str = "/var/lib/commitd"
    config: str = "/etc/commitd"
    runtime: str = "/run/commitd"
    real: Self | None = None

    @property
    def named(self) -> tuple[tuple[str, str, str], ...]:
        """Each with what is in it, and its name; Git's, which is in that of the state, is first."""
        return (
            (f"{self.state}/{GIT}", "Git's directory", ""),
            (self.state, "the agent's journal, clone and secrets", "state"),
            (self.config, "the agent's configuration and keys", "configuration"),
            (self.runtime, "the agent's socket and secrets", "socket"),
        )


class HostMount(Struct, frozen=True, kw_only=True):
    """One mount of a service or a hook of it, which people call ``name``.

    ``path`` is where it stands in the model; ``source`` is absolute, ``target`` is in the
    container.
    """

    service: str
    name: str
    path: Path
    source: str
    target: str
    read_only: bool


def of(model: Model) -> Iterator[HostMount]:
    """Those of all services and their hooks, by service."""
    services: Mapping[str, Model] = model.get("services") or {}
    containers: list[tuple[str, str, Path, Model]] = [
        (name, name, ("services", name), service) for name, service in sorted(services.items())
    ]
    containers += [
        (hook.service, hook.name, ("services", hook.service, hook.key, hook.index), hook.spec)
        for hook in hooks.containers(services)
    ]
    for service, name, path, container in containers:
        for i, mount in enumerate(container.get("volumes") or []):
            source, read_only = _source(mount, model) if isinstance(mount, Mapping) else ("", True)
            if source.startswith("/"):
                yield HostMount(
                    service=service,
                    name=name,
                    path=(*path, "volumes", i),
                    source=posixpath.normpath(source),
                    target=str(mount.get("target", "")),
                    read_only=read_only,
                )


def _source(mount: Model, model: Model) -> tuple[str, bool]:
    """The host's path that is mounted, "" if it is none, and whether that is only for reading."""
    read_only = bool(mount.get("read_only"))
    source = str(mount.get("source") or "")
    if mount.get("type") == "bind":
        return source.replace("$$", "$"), read_only
    if mount.get("type") != "volume":
        return "", True
    volume = (model.get("volumes") or {}).get(source) or {}
    options = volume.get("driver_opts") or {}
    words = str(options.get("o", "")).split(",")
    if volume.get("driver", "local") != "local" or not {"bind", "rbind"} & set(words):
        return "", True
    below = str((mount.get("volume") or {}).get("subpath") or "")
    path = posixpath.join(str(options.get("device", "")), below).replace("$$", "$")
    return path, read_only or "ro" in words


def place(source: str, root: str, agent: AgentPlaces) -> str | None:
    """``source`` as a path of the repository, "" for all of it; None: it is somewhere else.

    ``root`` is where the repository is in the model, absolute.
    """
    for top in (root, f"{agent.state}/{CHECKOUT}", f"{agent.state}/{EXPORT}"):
        if within(source, top):
            return _plain(source).removeprefix(_plain(top)).strip("/")
    return place(source, root, agent.real) if agent.real else None


def within(path: str, directory: str) -> bool:
    """Whether ``path`` is ``directory`` or below it; both are absolute."""
    return f"{_plain(path)}/".startswith(f"{_plain(directory).rstrip('/')}/")


def _plain(path: str) -> str:
    """Without ``..`` and the link that each host has."""
    plain = posixpath.normpath(path)
    return _RUN + plain[len(_VAR_RUN) :] if f"{plain}/".startswith(f"{_VAR_RUN}/") else plain


def covered(tracked: Sequence[str], at: str) -> Sequence[str]:
    """The paths of ``tracked``, which is sorted, that somebody reaches who has ``at``.

    Of plaintext that is the encrypted file beside it.
    """
    if not at:
        return tracked
    directory, _, name = at.rpartition("/")
    encrypted = posixpath.join(directory, name.removeprefix(PLAINTEXT_PREFIX))
    parts = at.split("/")
    for path in (encrypted, *("/".join(parts[:n]) for n in range(len(parts), 0, -1))):
        where = bisect_left(tracked, path)
        if where < len(tracked) and tracked[where] == path:
            return (path,)
    # "0" comes right after "/".
    return tracked[bisect_left(tracked, f"{at}/") : bisect_left(tracked, f"{at}0")]


def replaceable(mount: HostMount, mounts: Iterable[HostMount]) -> HostMount | None:
    """Which of ``mounts`` lets a container decide what ``mount`` is, by a link that Docker follows.

    Not one of the same container that has it inside: there it is a mount point, which stays. Who
    has the whole host needs no link.
    """
    for outer in mounts:
        inside = mount.path[:-1] == outer.path[:-1] and within(mount.target, outer.target)
        below = within(mount.source, outer.source) and not within(outer.source, mount.source)
        if below and not (outer.read_only or inside or outer.source == "/"):
            return outer
    return None


def agents(source: str, agent: AgentPlaces) -> str | None:
    """What of the agent's own somebody reaches who has ``source``; None: nothing."""
    for directory, what, _ in agent.named:
        if within(source, directory):
            return what
    inside = [f"{name} ({d})" for d, _, name in agent.named[1:] if within(d, source)]
    if inside:
        listed = " and ".join(filter(None, (", ".join(inside[:-1]), inside[-1])))
        return f"which contains the agent's {listed}"
    return agents(source, agent.real) if agent.real else None
