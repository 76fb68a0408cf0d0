"""The files that a Compose document names, as it is written: nothing is followed here."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from agent.domain.documents import Path

NO_CONTEXT = ("docker-image://", "service:", "target:")
"""How what is built from begins that is no directory and no repository."""


class PathKind(StrEnum):
    """What a file is named for; the value is the key in the Compose file."""

    INCLUDE = "include"
    INCLUDE_ENV = "env_file of the include"
    DIRECTORY = "project_directory"
    EXTENDS = "extends"
    ENV_FILE = "env_file"
    LABEL_FILE = "label_file"
    CONFIG = "configs"
    SECRET = "secrets"  # noqa: S105  a key of Compose
    BIND = "volumes"
    BUILD = "build"
    PROFILE = "security_opt"


class PathMention(Struct, frozen=True, kw_only=True):
    """One name of a file, and the path in the document where it stands.

    ``raw`` is an env file that Compose takes line by line, without a grammar of its own; ``target``
    is where a mount is in the container, as it is written.
    """

    kind: PathKind
    name: str
    at: Path
    required: bool = True
    raw: bool = False
    target: str = ""


class NamedMount(Struct, frozen=True, kw_only=True):
    """A mount from the host as a file has it, at ``where`` (``file:line``).

    ``service`` is "" for a volume of the file, which has no ``target``. ``path`` is absolute on the
    host, or from the top of the repository, which is ""; None: a variable decides on it.
    """

    service: str
    path: str | None
    target: str
    where: str


Scope = tuple[tuple[str, ...], ...]
"""The env files with which the includes on the way to a file finish its variables, outermost first.

What is set further out wins: the stack's own values over all of these.
"""


class Variable(Struct, frozen=True, kw_only=True):
    """A name that only Compose can finish, at ``where`` (``file:line``), with values of ``scope``.

    It is relative to ``base``; what is below ``within`` counts as read. Both are directories of the
    repository. ``at`` is the path in the document.
    """

    kind: PathKind
    name: str
    base: str
    within: str
    where: str
    at: Path = ()
    scope: Scope = ()


class Include(Struct, frozen=True):
    """One entry of ``include:``; the first file is the main one, the others override it."""

    files: tuple[PathMention, ...]
    env_files: tuple[PathMention, ...]
    directory: PathMention | None


def climbing(variables: Iterable[Variable], names: Iterable[str]) -> list[tuple[Variable, str]]:
    """Which files must not be read whose ``names`` Compose has finished, and why.

    One message each, with ``file:line`` in front and without the value of a variable.
    """
    found: list[tuple[Variable, str]] = []
    for variable, name in zip(variables, names, strict=True):
        path = posixpath.normpath(posixpath.join(variable.base, name))
        place = variable.within
        away = name.startswith(("/", "~")) or f"{path}/".startswith("../")
        if away or (place and not f"{path}/".startswith(f"{place}/")):
            said = (
                f"{variable.where}: {variable.kind}: {variable.name!r} leads out of "
                f"{place or 'the repository'}; write the directory before the variable"
            )
            found.append((variable, said))
    return found


def includes(data: dict[Any, Any]) -> Iterator[Include]:
    """The entries of ``include:``."""
    entries = data.get("include")
    for i, entry in enumerate(entries if isinstance(entries, list) else []):
        at: Path = ("include", i)
        if isinstance(entry, dict):
            files = _names(PathKind.INCLUDE, entry.get("path"), (*at, "path"))
            values = _names(PathKind.INCLUDE_ENV, entry.get("env_file"), (*at, "env_file"))
            where = entry.get("project_directory")
            directory = (
                PathMention(kind=PathKind.DIRECTORY, name=where, at=(*at, "project_directory"))
                if isinstance(where, str) and where
                else None
            )
            yield Include(tuple(files), tuple(values), directory)
        else:
            yield Include(tuple(_names(PathKind.INCLUDE, entry, at)), (), None)


def extends(service: dict[Any, Any], at: Path) -> tuple[PathMention | None, str] | None:
    """The file (None: this one) and the service that ``service`` extends."""
    found = service.get("extends")
    if isinstance(found, str):
        return None, found
    if not isinstance(found, dict) or not isinstance(found.get("service"), str):
        return None
    file = found.get("file")
    where = (*at, "extends", "file")
    mention = (
        PathMention(kind=PathKind.EXTENDS, name=file, at=where) if isinstance(file, str) else None
    )
    return mention, found["service"]


def of_service(service: Mapping[Any, Any], at: Path) -> Iterator[PathMention]:
    """Its env and label files, mounts, seccomp profiles, and the directories it is built from."""
    yield from _env_files(service.get("env_file"), (*at, "env_file"))
    yield from _names(PathKind.LABEL_FILE, service.get("label_file"), (*at, "label_file"))
    mounts = service.get("volumes")
    for i, mount in enumerate(mounts if isinstance(mounts, list) else []):
        source, target = mount, ""
        if isinstance(mount, dict):
            source = mount.get("source") if mount.get("type") == "bind" else None
            target = str(mount.get("target") or "")
        elif isinstance(mount, str):
            source = mount_source(mount)
            target = mount[len(source) + 1 :].partition(":")[0] if source else ""
        if isinstance(source, str) and source:
            yield PathMention(
                kind=PathKind.BIND,
                name=source,
                at=(*at, "volumes", i),
                required=False,
                target=target,
            )
    options = service.get("security_opt")
    for i, option in enumerate(options if isinstance(options, list) else []):
        if isinstance(option, str) and (profile := seccomp_profile(option)):
            yield PathMention(kind=PathKind.PROFILE, name=profile, at=(*at, "security_opt", i))
    yield from _build(service.get("build"), (*at, "build"))


def of_project(data: dict[Any, Any]) -> Iterator[PathMention]:
    """The files of the top-level ``configs:``, ``secrets:`` and ``volumes:``."""
    for kind in (PathKind.CONFIG, PathKind.SECRET):
        for name, value in _mapping(data.get(kind.value)).items():
            file = _mapping(value).get("file")
            if isinstance(file, str) and file:
                yield PathMention(kind=kind, name=file, at=(kind.value, name, "file"))
    for name, value in _mapping(data.get("volumes")).items():
        options = _mapping(_mapping(value).get("driver_opts"))
        device = options.get("device")
        # As Compose has it: of every other driver and option the device is no path to resolve.
        if (
            _mapping(value).get("driver") == "local"
            and options.get("o") == "bind"
            and isinstance(device, str)
            and device
        ):
            at = ("volumes", name, "driver_opts", "device")
            yield PathMention(kind=PathKind.BIND, name=device, at=at, required=False)


def mount_source(text: str) -> str | None:
    """The host's path of a mount in short form; None for a volume."""
    level = 0
    for i, char in enumerate(text):
        if text.startswith("${", i):
            level += 1
        elif char == "}" and level:
            level -= 1
        elif char == ":" and not level:
            return text[:i] if text[0] in "./~$" else None
    return None


def seccomp_profile(option: str) -> str | None:
    """The file that Compose reads for one entry of ``security_opt:``; None: it reads none."""
    key, sign, name = option.partition("=")
    if not sign:
        key, _, name = option.partition(":")
    return name if key == "seccomp" and name not in {"", "unconfined", "builtin"} else None


def literal(name: str) -> tuple[str, bool]:
    """What stands before the first variable of ``name``, and whether there is one."""
    parts = name.split("$$")
    for i, part in enumerate(parts):
        if "$" in part:
            return "$".join([*parts[:i], part.partition("$")[0]]), True
    return "$".join(parts), False


def _env_files(value: Any, at: Path) -> Iterator[PathMention]:
    for i, entry in enumerate(value if isinstance(value, list) else [value]):
        here = (*at, i) if isinstance(value, list) else at
        if isinstance(entry, str) and entry:
            yield PathMention(kind=PathKind.ENV_FILE, name=entry, at=here)
        elif isinstance(entry, dict) and isinstance(entry.get("path"), str) and entry["path"]:
            required = str(entry.get("required", True)).lower() != "false"
            raw = entry.get("format") == "raw"
            yield PathMention(
                kind=PathKind.ENV_FILE,
                name=entry["path"],
                at=(*here, "path"),
                required=required,
                raw=raw,
            )


def _build(value: Any, at: Path) -> Iterator[PathMention]:
    """Contexts, and the Dockerfile, which may stand outside of its context."""
    if isinstance(value, str):
        yield PathMention(kind=PathKind.BUILD, name=value, at=at)
    elif isinstance(value, dict):
        context, file = value.get("context", "."), value.get("dockerfile")
        yield from _names(PathKind.BUILD, context, (*at, "context"))
        if isinstance(context, str) and isinstance(file, str) and file and ":" not in context:
            yield PathMention(kind=PathKind.BUILD, name=f"{context}/{file}", at=(*at, "dockerfile"))
        more = value.get("additional_contexts")
        where = (*at, "additional_contexts")
        if isinstance(more, dict):
            for key, context in more.items():
                yield from _names(PathKind.BUILD, context, (*where, key))
        for i, pair in enumerate(more if isinstance(more, list) else []):
            yield from _names(PathKind.BUILD, str(pair).partition("=")[2], (*where, i))


def _names(kind: PathKind, value: Any, at: Path) -> Iterator[PathMention]:
    """A string or a list of strings."""
    for i, name in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(name, str) and name:
            yield PathMention(kind=kind, name=name, at=(*at, i) if isinstance(value, list) else at)


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}
