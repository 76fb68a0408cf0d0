"""The status document of another agent, which may be of another version, or no agent at all.

What is there has to be of its type, and no longer than an agent would make it; what is not known
here is left out, so that nothing of it reaches a page. Commands and IDs, which a person copies to a
shell, are taken only in the form in which an agent writes them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from agent.domain.errors import PermanentError

_SUBJECT = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_COMMAND = re.compile(
    rf"commitd (enroll|resume|(resume|retry|approve) {_SUBJECT})|docker stop {_SUBJECT}"
)
"""What :mod:`agent.domain.status.remedy` writes."""
_Name = Annotated[str, Meta(max_length=20_000)]
_Id = Annotated[str, Meta(pattern="^[0-9a-z]{12,64}$")]
"""Of a container, or a service of a Swarm."""
_Sha = Annotated[str, Meta(pattern="^[0-9a-f]{4,64}$")]
_Count = Annotated[int, Meta(ge=0, le=10**9)]


class Agent(Struct, frozen=True):
    """Whether it works, and when it looked last."""

    running: bool
    looked_at: _Name | None
    error: _Name | None


class Engine(Struct, frozen=True):
    """Whether the engine answers it."""

    answers: bool
    error: _Name | None


class Revision(Struct, frozen=True):
    """The commits of the host."""

    applied: _Sha | None
    attempted: _Sha | None
    remote: _Name | None
    author: _Name | None
    committed_at: _Name | None
    subject: _Name | None


class Remote(Struct, frozen=True):
    """One remote, as that host sees it."""

    name: _Name
    reachable: bool
    head: _Sha | None
    relation: _Name
    checked_at: _Name | None
    error: _Name | None
    down_since: _Name | None
    lag: _Count | None
    current: bool


class Task(Struct, frozen=True):
    """One task of a Swarm's service."""

    node: _Name | None
    state: _Name


class Node(Struct, frozen=True):
    """One machine of a Swarm."""

    name: _Name
    role: _Name
    state: _Name
    availability: _Name
    leads: bool
    engine: _Name


class Service(Struct, frozen=True):
    """One container, or a service of a Swarm. An agent that is older says nothing of tasks."""

    name: _Name | None
    image: _Name
    state: _Name
    health: _Name | None
    tasks: Annotated[list[Task], Meta(max_length=2000)] | None = None


class Working(Struct, frozen=True):
    """What is being done."""

    action: _Name
    since: _Name


class Stack(Struct, frozen=True):
    """One stack. An agent that is older does not say to what it went back."""

    name: _Name
    sync: _Name
    health: _Name
    revision: _Sha | None
    reason: _Name | None
    message: _Name | None
    working: Working | None
    services: Annotated[list[Service], Meta(max_length=1000)]
    rolled_back_to: _Sha | None = None


class Undeclared(Struct, frozen=True):
    """A container that nobody declared."""

    id: _Id
    name: _Name
    image: _Name
    action: _Name
    reason: _Name
    message: _Name
    at: _Name
    undoable: bool


class Hold(Struct, frozen=True):
    """What waits. An agent that is older names no command, nor whether it ends alone."""

    subject: _Name
    reason: _Name
    message: _Name
    since: _Name
    needs_person: bool
    ends_alone: bool | None = None
    command: _Name | None = None


class Failing(Struct, frozen=True):
    """What it cannot tell others."""

    name: _Name
    error: _Name
    since: _Name


class Standby(Struct, frozen=True):
    """That it is a manager of a Swarm which another one leads."""

    leader: _Name


class PeerStatus(Struct, frozen=True):
    """All of it that is shown."""

    host: _Name
    enrolled: bool
    state: _Name
    verdict: _Name
    since: _Name | None
    agent: Agent
    engine: Engine
    revision: Revision
    remotes: Annotated[list[Remote], Meta(max_length=100)]
    stacks: Annotated[list[Stack], Meta(max_length=2000)]
    undeclared: Annotated[list[Undeclared], Meta(max_length=2000)]
    holds: Annotated[list[Hold], Meta(max_length=2000)]
    outside: Annotated[list[Failing], Meta(max_length=200)] = []
    nodes: Annotated[list[Node], Meta(max_length=500)] = []
    standby: Standby | None = None


_DECODER = msgspec.json.Decoder(PeerStatus)


def read(content: bytes) -> dict[str, Any]:
    """The document, of the shape that :func:`agent.domain.status.report.status` makes.

    Raises :class:`PermanentError` for anything else. Takes 10 ms a megabyte.
    """
    try:
        found = _DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError, ValueError) as err:
        wrong = str(err)[:200] if isinstance(err, msgspec.ValidationError) else "it is no JSON"
        message = f"what answers there is no agent of a version that is known here: {wrong}"
        raise PermanentError(message) from None
    document: dict[str, Any] = msgspec.to_builtins(found)
    for hold in document["holds"]:
        if hold["ends_alone"] is None:
            hold["ends_alone"] = not hold["needs_person"]
        if hold["command"] is not None and not _COMMAND.fullmatch(hold["command"]):
            hold["command"] = None
    return document
