"""One host, as its status document has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from agent.domain.outcome import EvictionAction, Reason, short
from agent.domain.status import placement
from agent.surface.page.views.chips import ORDER, Chip, chip, container, of_host, sync

_SHOWN_SERVICES = 12


class Need(Struct, frozen=True, kw_only=True):
    """Something that waits: for a person, if it stands on top. ``command`` ends it, if one does."""

    subjects: str
    message: str
    since: str | None = None
    command: str | None = None


class Service(Struct, frozen=True, kw_only=True):
    """One container of a stack, or a service of a Swarm and on which nodes its ``tasks`` are."""

    name: str
    image: str
    state: Chip
    tasks: str


class Stack(Struct, frozen=True, kw_only=True):
    """One line of the table."""

    name: str
    sync: Chip
    health: Chip
    revision: str
    message: str | None
    services: tuple[Service, ...]
    more: int


class Elsewhere(Struct, frozen=True, kw_only=True):
    """That it is a peer whose own page is at ``url``; ``error`` is why it does not answer now."""

    url: str
    seen_at: str | None
    error: str | None


class Host(Struct, frozen=True, kw_only=True):
    """All that the page of a host shows. ``newer`` is a commit that is not followed yet.

    ``nodes`` are those of a Swarm, ``leader`` is the manager whose agent has the stacks, if that is
    another one.
    """

    name: str
    state: Chip
    verdict: str
    since: str | None
    looked_at: str | None
    needs: tuple[Need, ...]
    holds: tuple[Need, ...]
    stacks: tuple[Stack, ...]
    undeclared: tuple[Mapping[str, Any], ...]
    exempt: tuple[Mapping[str, Any], ...]
    remotes: tuple[Mapping[str, Any], ...]
    outside: tuple[Mapping[str, Any], ...]
    revision: Mapping[str, Any]
    newer: str
    count: Mapping[str, int]
    nodes: tuple[Mapping[str, Any], ...] = ()
    elsewhere: Elsewhere | None = None
    leader: str | None = None


def host(document: Mapping[str, Any]) -> Host:
    """The page of the host whose ``/v1/status`` this is."""
    stacks = sorted((_stack(each) for each in document["stacks"]), key=_urgency)
    undeclared = [_undeclared(each) for each in document["undeclared"]]
    exempt = [each for each in undeclared if each["action"].word == EvictionAction.EXEMPT]
    needed = [each for each in document["holds"] if not each["ends_alone"]]
    reported = {each["name"] for each in undeclared if each["action"].word == "reported"}
    others = [
        each
        for each in document["holds"]
        if each not in needed
        and not (each["subject"] in reported and each["reason"] == Reason.REPORT_ONLY)
    ]
    return Host(
        name=document["host"],
        state=of_host(document["state"]),
        verdict=document["verdict"],
        since=document["since"],
        looked_at=document["agent"]["looked_at"],
        needs=(*_of_host(document), *_alike(needed)),
        holds=tuple(_alike(others)),
        stacks=tuple(stacks),
        undeclared=tuple(each for each in undeclared if each not in exempt),
        exempt=tuple(exempt),
        remotes=tuple(map(_remote, document["remotes"])),
        outside=tuple(document.get("outside") or ()),
        revision=document["revision"],
        newer=_newer(document["revision"]),
        count=_counted(stacks),
        leader=(document.get("standby") or {}).get("leader"),
        nodes=tuple(map(_node, document.get("nodes") or ())),  # an older agent does not say
    )


def _of_host(document: Mapping[str, Any]) -> Iterable[Need]:
    """What is wrong with the agent or the engine, so that no cycle mends it."""
    name = document["host"]
    if not document["agent"]["running"]:
        said = "No agent runs here, so nothing is enforced."
        yield Need(subjects=name, message=said, command="systemctl status commitd")
    if error := document["engine"]["error"]:
        yield Need(subjects=name, message=error, command="systemctl status docker")
    told = {each["reason"] for each in document["holds"]}
    if not document["enrolled"] and not told & {Reason.NOT_ENROLLED, Reason.JOURNAL}:
        said = "This host is not enrolled: nothing undeclared is removed."
        yield Need(subjects=name, message=said, command="commitd enroll")


def _alike(holds: Iterable[Mapping[str, Any]]) -> Iterable[Need]:
    """Those that are held for the same reason and end in the same way are one."""
    found: dict[tuple[str, str | None], list[Mapping[str, Any]]] = {}
    for each in holds:
        found.setdefault((each["message"], each.get("command")), []).append(each)
    for (message, command), alike in found.items():
        yield Need(
            subjects=", ".join(each["subject"] for each in alike),
            message=message,
            since=min(each["since"] for each in alike),
            command=command,
        )


def _stack(stack: Mapping[str, Any]) -> Stack:
    well = stack["health"] == "healthy"
    services = tuple(_service(each, well=well) for each in stack["services"])
    return Stack(
        name=stack["name"],
        sync=sync(stack),
        health=chip(stack["health"]),
        revision=(stack["revision"] or "")[:7],
        message=stack["message"],
        services=services[:_SHOWN_SERVICES],
        more=max(0, len(services) - _SHOWN_SERVICES),
    )


def _service(service: Mapping[str, Any], *, well: bool) -> Service:
    return Service(
        name=service["name"] or "?",
        image=short(service["image"]),
        state=container(service["state"], service["health"], well=well),
        tasks=placement.line(service.get("tasks") or ()),  # an older agent does not say
    )


def _urgency(stack: Stack) -> tuple[int, str]:
    tones = (stack.sync.tone, stack.health.tone)
    return min(map(ORDER.index, tones)), stack.name


def _undeclared(record: Mapping[str, Any]) -> dict[str, Any]:
    undo = f"commitd undo {record['id'][:12]}" if record["undoable"] else None
    return {
        **record, "image": short(record["image"]), "action": chip(record["action"]),
        "command": undo,
    }  # fmt: skip


def _remote(remote: Mapping[str, Any]) -> dict[str, Any]:
    asked = remote["reachable"] or remote["error"]
    word = "answers" if remote["reachable"] else "down" if asked else "unknown"
    if remote["reachable"] and not remote["current"]:
        word = "unknown"
    return {**remote, "answer": chip(word), "head": (remote["head"] or "")[:7]}


def _node(node: Mapping[str, Any]) -> dict[str, Any]:
    role = "leader" if node["leads"] else node["role"]
    return {**node, "role": role, "state": chip(node["state"])}


def _newer(revision: Mapping[str, Any]) -> str:
    """The beginning of a commit that was looked at and is not followed; empty: there is none."""
    attempted = revision["attempted"]
    return attempted[:7] if attempted and attempted != revision["applied"] else ""


def _counted(stacks: Iterable[Stack]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in stacks:
        tone = ORDER[_urgency(each)[0]]
        found[tone] = found.get(tone, 0) + 1
    return found
