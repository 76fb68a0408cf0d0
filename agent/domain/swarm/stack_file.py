"""From the model that Compose resolves to what ``docker stack deploy -c -`` takes.

    Compose ──config──▶ model ──read──▶ Draft ┬─▶ findings ──▶ check, deploy (refused)
                                  contents ───┴─of─▶ text for the command line, objects for the API

The text is JSON in the strict schema 3.9, which the command lines of Docker 20.10 to 28 have alike.
In a model every ``$`` of a value is doubled; the command line puts in variables once more, so that
its values pass as they are. Configs and secrets cannot be changed in a Swarm: each is an object of
its own, called after its content, that the agent makes (``objects``), and the text names it as
external. Nothing is left out that would mean something else: it is refused (``service_keys``).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from agent.domain.compose import given
from agent.domain.compose.policy import Effect, Violation, summary
from agent.domain.errors import PermanentError
from agent.domain.swarm import plain, service_section
from agent.domain.swarm.model import KINDS, OURS, Kind, Mode
from agent.domain.swarm.violations import Violations

Model = Mapping[str, Any]

VERSION = "3.9"
_DIGITS = 12
_MAX_NAME = 64
_MAX_BYTES: Mapping[Kind, int] = {"configs": 1000 * 1024, "secrets": 500 * 1024}
MAX_CONTENT = max(_MAX_BYTES.values())
"""Bytes: so much of a file says already that it is too large."""
_ONE_HOST = frozenset({"bridge", "host", "ipvlan", "macvlan", "none", "null"})
_MAKE_NETWORK = "make the network with docker network create -d overlay, and declare it external"


class Source(Struct, frozen=True, kw_only=True):
    """Where the content of a config or secret comes from; one of the last three is set.

    ``key`` is its name in the stack's file. ``file`` is an absolute path, ``environment`` a
    variable of the stack, and ``content`` is written in the file itself.
    """

    kind: Kind
    key: str
    file: str | None = None
    environment: str | None = None
    content: bytes | None = None

    def __repr__(self) -> str:
        return f"Source({self.kind!r}, {self.key!r})"


class ObjectWanted(Struct, frozen=True, kw_only=True):
    """A config or secret that the stack's services use. ``template`` is the driver, None: none."""

    kind: Kind
    name: str
    content: bytes
    stack: str
    template: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"ObjectWanted({self.kind!r}, {self.name!r})"


class StackFile(Struct, frozen=True, kw_only=True):
    """``text`` is for the standard input of the command line alone: it can hold secrets.

    ``services`` are their modes by name; of a stack without any the command line refuses the file.
    """

    text: bytes
    objects: tuple[ObjectWanted, ...]
    services: Mapping[str, Mode]

    def __repr__(self) -> str:
        return f"StackFile({[*self.services]!r})"


class Draft(Struct, frozen=True, kw_only=True):
    """A stack's file as far as it can be written without the content of its objects."""

    stack: str
    document: Mapping[str, Any]
    sources: tuple[Source, ...]
    violations: tuple[Violation, ...]
    more: Mapping[tuple[Kind, str], Mapping[str, Any]] = field(default_factory=dict)

    @property
    def services(self) -> Mapping[str, Mode]:
        """The modes of its services, by name."""
        return {name: each["deploy"]["mode"] for name, each in self.document["services"].items()}

    def __repr__(self) -> str:
        return f"Draft({self.stack!r})"


def judge(stack: str, model: Model, root: str) -> list[Violation]:
    """What ``model`` says that a Swarm cannot do, or does in another way."""
    return list(read(stack, model, root).violations)


def read(stack: str, model: Model, root: str) -> Draft:
    """What ``model`` is in a Swarm; ``root`` is the absolute path of the repository in it."""
    report = Violations()
    services: Mapping[str, Model] = model.get("services") or {}
    document: dict[str, Any] = {"version": VERSION, "services": {}}
    for name in sorted(services):
        at = report.at("services", name, whose=name)
        document["services"][name] = service_section.written(name, model, stack, root, at)
    sections = document["services"].values()
    networks = _networks(model, sections, stack, report)
    volumes = _volumes(model, sections, report)
    sources: list[Source] = []
    more: dict[tuple[Kind, str], Mapping[str, Any]] = {}
    for kind in KINDS:
        used = {use["source"] for section in sections for use in section.get(kind) or ()}
        found: dict[str, Any] = {}
        for key in sorted(used):
            raw = (model.get(kind) or {}).get(key) or {}
            at = report.at(kind, key, whose=f"{kind}: {key}")
            if raw.get("external"):
                found[key] = {"external": True, "name": str(raw.get("name") or key)}
                if kind == "configs" and found[key]["name"].startswith("commitd-"):
                    said_of = f"{found[key]['name']} is commitd's own, as all commitd-…"
                    at.refuse(said_of, "call the config otherwise", "name")
            elif source := _source(kind, key, raw, at):
                sources.append(source)
                more[source.kind, key] = _more(raw, at)
        if found:
            document[kind] = found
    document |= {k: v for k, v in (("networks", networks), ("volumes", volumes)) if v}
    return Draft(
        stack=stack,
        document=document,
        sources=tuple(sources),
        violations=tuple(report.found),
        more=more,
    )


def of(draft: Draft, contents: Mapping[tuple[Kind, str], bytes], salt: str) -> StackFile:
    """The whole, with the ``contents`` of the objects by kind and key.

    ``salt`` is the cluster's own: without it a weak secret could be guessed from a name. Raises
    :class:`PermanentError` for what is refused, and for content that no object can have.
    """
    refused = [each for each in draft.violations if each.effect is Effect.REFUSED]
    if refused:
        raise PermanentError(summary(refused, Effect.REFUSED))
    document = {**draft.document}
    objects: list[ObjectWanted] = []
    for source in draft.sources:
        content = contents[source.kind, source.key]
        if not 0 < len(content) < _MAX_BYTES[source.kind]:
            most = _MAX_BYTES[source.kind] // 1024
            said = f"is empty, or larger than {most} KiB"
            raise PermanentError(
                f"{source.kind}: {source.key}: {said}: a Swarm keeps none of these",
                hint="put the file into the image, or on a volume",
            )
        extra = draft.more.get((source.kind, source.key)) or {}
        name = _name(draft.stack, source, content, extra, salt)
        objects.append(
            ObjectWanted(kind=source.kind, name=name, content=content, stack=draft.stack, **extra)
        )
        named = {source.key: {"external": True, "name": name}}
        document[source.kind] = {**(document.get(source.kind) or {}), **named}
    text = given.as_yaml(document)
    return StackFile(text=text, objects=tuple(objects), services=draft.services)


def _name(stack: str, source: Source, content: bytes, extra: Mapping[str, Any], salt: str) -> str:
    full = f"{stack}_{source.key}"
    said = json.dumps([source.kind, full, extra], sort_keys=True).encode()
    digest = hmac.new(salt.encode(), said + b"\0" + content, hashlib.sha256).hexdigest()[:_DIGITS]
    return f"{full[: _MAX_NAME - _DIGITS - 1]}_{digest}"


def _source(kind: Kind, key: str, raw: Model, report: Violations) -> Source | None:
    if raw.get("driver"):
        hint = f"make it by docker {kind[:-1]} create --driver, and declare it external"
        report.refuse("driver: commitd makes no objects that a driver fills", hint, "driver")
    elif raw.get("content") is not None:
        content = str(raw["content"]).replace("$$", "$").encode()
        return Source(kind=kind, key=key, content=content)
    elif raw.get("environment"):
        variable = str(raw["environment"]).replace("$$", "$")
        return Source(kind=kind, key=key, environment=variable)
    elif raw.get("file"):
        return Source(kind=kind, key=key, file=str(raw["file"]).replace("$$", "$"))
    else:
        report.refuse("is used, and nothing says what is in it", "give it a file:")
    return None


def _more(raw: Model, report: Violations) -> dict[str, Any]:
    """What an object has beside its content."""
    found: dict[str, Any] = {}
    if raw.get("template_driver"):
        found["template"] = str(raw["template_driver"]).replace("$$", "$")
    if raw.get("labels"):
        labels = _labels(raw, report)
        found["labels"] = {key: value.replace("$$", "$") for key, value in labels.items()}
    return found


def _labels(raw: Model, report: Violations) -> dict[str, str]:
    """What the file says; those of commitd are believed by its managers, so no file has them."""
    found: dict[str, str] = report.read(plain.texts, raw.get("labels") or {}, "labels") or {}
    if own := sorted(key for key in found if key.startswith("io.commitd.")):
        report.refuse(f"labels: {own[0]} is commitd's own", "use another label", "labels")
    return found


def _networks(
    model: Model, services: Iterable[Model], stack: str, report: Violations
) -> dict[str, dict[str, Any]]:
    used = {name for service in services for name in service.get("networks") or ["default"]}
    found: dict[str, dict[str, Any]] = {}
    for key in sorted(used):
        raw: Model = (model.get("networks") or {}).get(key) or {}
        at = report.at("networks", key, whose=f"networks: {key}")
        name = {"name": str(raw["name"])} if raw.get("name") else {}
        if raw.get("external"):
            found[key] = {"external": True, "name": str(raw.get("name") or key)}
            continue
        labels = _labels(raw, at)
        found[key] = {**name, **_network(raw, at), "labels": {**labels, OURS: stack}}
    return found


def _network(raw: Model, report: Violations) -> dict[str, Any]:
    found: dict[str, Any] = {}
    driver = str(raw.get("driver") or "")
    if driver in _ONE_HOST:
        report.refuse(f"driver: {driver} ends at one node", "leave it out: it is overlay", "driver")
    elif driver:
        found["driver"] = driver
    if raw.get("driver_opts"):
        found["driver_opts"] = report.read(plain.texts, raw["driver_opts"], "driver_opts") or {}
    for key in ("internal", "attachable"):
        if raw.get(key):
            found[key] = bool(report.read(plain.truth, raw[key], key))
    if ipam := _ipam(raw.get("ipam") or {}, report.at("ipam")):
        found["ipam"] = ipam
    known = {*found, "name", "labels", "driver", "internal", "attachable", "ipam", "external"}
    known |= {"driver_opts"}
    for key in sorted(raw.keys() - known):
        if key.startswith("x-") or raw[key] in _UNSET or (key, raw[key]) in _DEFAULTS:
            continue
        report.refuse(f"{key}: docker stack deploy does not know it", _MAKE_NETWORK, key)
    return found


_UNSET: tuple[Any, ...] = (None, "", [], {})
_DEFAULTS = (("enable_ipv4", True), ("enable_ipv6", False))


def _ipam(raw: Model, report: Violations) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if raw.get("driver"):
        found["driver"] = str(raw["driver"])
    if ranges := [
        {"subnet": str(each["subnet"])} for each in raw.get("config") or [] if each.get("subnet")
    ]:
        found["config"] = ranges
    for i, each in enumerate(raw.get("config") or []):
        for key in sorted(each.keys() - {"subnet"}):
            if each[key]:
                report.refuse(f"ipam: {key} cannot be said here", _MAKE_NETWORK, "config", i, key)
    if raw.get("options"):
        report.refuse("ipam: options cannot be said here", _MAKE_NETWORK, "options")
    return found


def _volumes(
    model: Model, services: Iterable[Model], report: Violations
) -> dict[str, dict[str, Any]]:
    used = {
        str(mount["source"])
        for service in services
        for mount in service.get("volumes") or ()
        if mount["type"] == "volume" and mount.get("source")
    }
    found: dict[str, dict[str, Any]] = {}
    for key in sorted(used):
        raw: Model = (model.get("volumes") or {}).get(key) or {}
        at = report.at("volumes", key, whose=f"volumes: {key}")
        if raw.get("external"):
            found[key] = {"external": True, "name": str(raw.get("name") or key)}
            continue
        found[key] = {k: str(raw[k]) for k in ("name", "driver") if raw.get(k)}
        if raw.get("driver_opts"):
            options = at.read(plain.texts, raw["driver_opts"], "driver_opts")
            found[key]["driver_opts"] = options or {}
        if raw.get("labels"):
            found[key]["labels"] = _labels(raw, at)
        for other in sorted(raw.keys() - {*found[key], "name", "driver", "external"}):
            if not other.startswith("x-") and raw[other]:
                hint = "leave it out"
                at.refuse(f"{other}: docker stack deploy does not know it", hint, other)
    return found
