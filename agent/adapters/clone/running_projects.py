"""Compose projects as people started them: found by their labels, read from their own files."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct

from agent.adapters.compose.compose import Compose
from agent.adapters.engine import images
from agent.adapters.engine.containers import from_inspect
from agent.adapters.engine.engine import Engine
from agent.domain import documents
from agent.domain.adopt import convert
from agent.domain.adopt.running_project import Origin, ProjectValues
from agent.domain.container import PROJECT, WORKING_DIR, Container
from agent.domain.errors import PermanentError
from agent.domain.repository import image_reference as references

_FILES = "com.docker.compose.project.config_files"
_VALUES = "com.docker.compose.project.environment_file"


class Project(Struct, frozen=True, kw_only=True):
    """What the labels of its containers say: absolute paths, and which containers there are."""

    name: str
    directory: Path
    files: tuple[Path, ...]
    env_files: tuple[Path, ...]
    containers: tuple[tuple[Container, str], ...]
    """Without one-offs, each with the ID of its image."""


async def find(engine: Engine) -> tuple[list[Project], list[Container]]:
    """The projects that run here, by name, and the running containers that belong to none."""
    listed = [c for c in await engine.containers() if not c.one_off]
    by_project: dict[str, list[Container]] = {}
    for container in listed:
        if container.project:
            by_project.setdefault(container.project, []).append(container)
    projects = []
    for name, containers in sorted(by_project.items()):
        if not any(c.alive for c in containers):
            continue
        raws = [await engine.inspect(c.id) for c in containers]
        seen = tuple((from_inspect(raw), str(raw["Image"])) for raw in raws if raw)
        labels = containers[0].labels
        directory = Path(labels.get(WORKING_DIR, "/"))
        # The label names only files that were asked for.
        values = _paths(labels, _VALUES) or _default(directory)
        projects.append(
            Project(
                name=name,
                directory=directory,
                files=_paths(labels, _FILES),
                env_files=values,
                containers=seen,
            )
        )
    return projects, [c for c in listed if PROJECT not in c.labels and c.alive]


def _paths(labels: Mapping[str, str], label: str) -> tuple[Path, ...]:
    return tuple(Path(path) for path in labels.get(label, "").split(",") if path)


def _default(directory: Path) -> tuple[Path, ...]:
    path = directory / ".env"
    return (path,) if path.is_file() else ()


async def read(compose: Compose, engine: Engine, project: Project) -> Origin:
    """All that decides on the project's containers, from its own files; changes nothing.

    Raises :class:`CommitdError` when the files are not there any more, or say something else than
    what runs.
    """
    if not project.files:
        raise PermanentError("its containers do not say where its Compose file is")
    if gone := [path for path in (*project.files, *project.env_files) if not path.is_file()]:
        message = "the file it was started from is not on this host (any more)"
        hint = "put it back there, or add the stack by hand"
        raise PermanentError(message, where=str(gone[0]), hint=hint)
    words = _words(project)
    # Of services that no profile has started, too: their secrets are in the same files.
    model = await compose.read(*words, "--profile", "*", "config", cwd=project.directory)
    services: Mapping[str, Mapping[str, Any]] = model.get("services") or {}
    _same_services(project, services)
    name, content = str(project.files[0]), _bytes(project.files[0])
    if len(project.files) > 1 or _leads_on(content, name):
        name = f"{project.directory}/compose.yaml (merged)"
        content = _dump(
            await compose.read(
                *words, "--profile", "*", "config", "--no-interpolate", cwd=project.directory
            ),
            project.files,
            services,
        )
    found = convert.env_files(content, name, str(project.directory))
    return Origin(
        project=project.name,
        name=name,
        directory=str(project.directory),
        home=os.environ.get("HOME", "/root"),
        content=content,
        environment={
            each: {key: _literal(value) for key, value in (raw.get("environment") or {}).items()}
            for each, raw in services.items()
        },
        binds={
            each: {
                posixpath.normpath(str(volume.get("target"))): _literal(volume["source"]) or ""
                for volume in raw.get("volumes") or []
                if volume.get("type") == "bind"
            }
            for each, raw in services.items()
        },
        interpolation={
            str(path): await _values(compose, project, path, raw=False)
            for path in project.env_files
        },
        env_files={
            str(path): await _values(compose, project, path, raw=raw)
            for path, raw in _there(found).items()
        },
        pins=await _pins(engine, project, services, documents.load(content, name).data),
        raw=not found or await _knows_raw(compose),
    )


async def _knows_raw(compose: Compose) -> bool:
    """Whether this Compose reads env files of the format ``raw``: 2.30 and newer do."""
    entry = {"path": os.devnull, "format": "raw"}
    asked = {"services": {"x": {"image": "x", "env_file": [entry]}}}
    words = ("--project-name", "x", "--file", "-", "--env-file", os.devnull, "config")
    try:
        await compose.read(*words, cwd=Path("/"), stdin=json.dumps(asked).encode())
    except PermanentError:
        return False
    return True


def _there(named: Mapping[str, bool]) -> dict[Path, bool]:
    return {path: raw for name, raw in named.items() if (path := Path(name)).is_file()}


def _words(project: Project) -> list[str]:
    words = ["--project-name", project.name, "--project-directory", str(project.directory)]
    for path in project.files:
        words += ["--file", str(path)]
    return words + _env_words(project)


def _env_words(project: Project) -> list[str]:
    paths = project.env_files or (Path("/dev/null"),)
    return [word for path in paths for word in ("--env-file", str(path))]


def _same_services(project: Project, services: Mapping[str, Mapping[str, Any]]) -> None:
    """Else the repository would not declare something that runs, or declare something else."""
    for container, _ in project.containers:
        service = container.service or ""
        if service not in services:
            message = f"{container.name} runs, and its service {service} is not in the files"
            hint = "remove the container, or put the service back"
            raise PermanentError(message, where=str(project.files[0]), hint=hint)
        if services[service].get("profiles"):
            raise PermanentError(
                f"{container.name} runs by a profile of its service, and the agent starts none",
                where=str(project.files[0]),
                hint="take profiles: off the service, or remove the container",
            )
        said = services[service].get("image")
        if said and said != container.image:
            message = f"{container.name} runs {container.image}, its file says {said}"
            hint = "docker compose up first, or put back what runs"
            raise PermanentError(message, where=str(project.files[0]), hint=hint)


def _leads_on(content: bytes, name: str) -> bool:
    """Whether the file is only a part of the whole."""
    data = documents.load(content, name).data
    if not isinstance(data, dict):
        return False
    services = data.get("services")
    found = services.values() if isinstance(services, dict) else ()
    return "include" in data or any(isinstance(s, dict) and "extends" in s for s in found)


def _dump(
    model: dict[str, Any], files: tuple[Path, ...], resolved: Mapping[str, Mapping[str, Any]]
) -> bytes:
    model.pop("name", None)
    for name, service in (model.get("services") or {}).items():
        # Before a variable has its value, Compose takes a path for the name of a volume.
        binds = {
            volume.get("target"): volume
            for volume in resolved[name].get("volumes") or []
            if volume.get("type") == "bind"
        }
        if volumes := service.get("volumes"):
            service["volumes"] = [binds.get(v.get("target"), v) for v in volumes]
        # As a bare word it can become any other entry. What is not there would lead out of the
        # repository, by its absolute path.
        entries = service.pop("env_file", None) or []
        there = [e for e in entries if e.get("required") is not False or Path(e["path"]).exists()]
        plain = [e if "format" in e else e["path"] for e in there]
        if plain:
            service["env_file"] = plain
        for key in ("command", "entrypoint"):
            if key in service and service[key] is None:
                del service[key]
    text = yaml.safe_dump(model, sort_keys=False, allow_unicode=True, width=1000)
    return f"# Merged from {', '.join(path.name for path in files)}.\n{text}".encode()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as err:
        raise PermanentError(f"it cannot be read: {err.strerror}", where=str(path)) from None


def _literal(value: object) -> str | None:
    """Compose writes ``$`` as ``$$`` where it has resolved everything."""
    return None if value is None else str(value).replace("$$", "$")


async def _values(compose: Compose, project: Project, path: Path, *, raw: bool) -> ProjectValues:
    """An env file as Compose itself reads it."""
    entry = {"path": str(path)} | ({"format": "raw"} if raw else {})
    asked = {"services": {"x": {"image": "x", "env_file": [entry]}}}
    model = await compose.read(
        "--project-name", "x", "--project-directory", str(project.directory), "--file", "-",
        *_env_words(project), "config",
        cwd=project.directory,
        stdin=json.dumps(asked).encode(),
    )  # fmt: skip
    found = model["services"]["x"].get("environment") or {}
    return ProjectValues(_bytes(path), {key: _literal(value) or "" for key, value in found.items()})


async def _pins(
    engine: Engine,
    project: Project,
    services: Mapping[str, Mapping[str, Any]],
    data: Any,
) -> dict[str, str]:
    """Images as the file has them, to what runs by its digest."""
    pins: dict[str, str] = {}
    for container, image_id in project.containers:
        said = str(services[container.service or ""].get("image") or "")
        written = ((data.get("services") or {}).get(container.service) or {}).get("image")
        if not said or not isinstance(written, str) or references.pinned(said):
            continue
        wanted = references.parse(said)
        known = [references.parse(each) for each in await images.digests(engine, image_id)]
        same = [
            each.digest
            for each in known
            if (each.registry, each.repository) == (wanted.registry, wanted.repository)
        ]
        digest = wanted.digest if wanted.digest in same else next(iter(same), None)
        if digest is None:
            message = f"{container.name}: {said} is on this host alone, so it cannot be pinned"
            hint = "push it to a registry and name it from there"
            raise PermanentError(message, where=str(project.files[0]), hint=hint)
        pinned = wanted.at(digest)
        if pins.setdefault(written, pinned) != pinned:
            message = f"{container.name} runs another {said} than other services"
            hint = "docker compose up first"
            raise PermanentError(message, where=str(project.files[0]), hint=hint)
    return pins
