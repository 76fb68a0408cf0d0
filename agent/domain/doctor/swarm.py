"""The Swarm that this machine is a manager of: who leads, and what it can still lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agent.domain.doctor import versions
from agent.domain.doctor.finding import Code, Finding, Level, ok, problem, unknown, warning
from agent.domain.shortened import some_of
from agent.domain.swarm.leadership import Place
from agent.domain.swarm.model import SwarmNode

_NAMED = 5


def leadership(place: Place) -> Finding:
    """Who leads; of the agents of other managers nothing is known here."""
    if place.leads:
        return ok(Code.SWARM, f"this manager ({place.node}) leads the Swarm: its agent deploys")
    return ok(
        Code.SWARM,
        f"this manager ({place.node}) stands by: the agent on {place.leader} deploys,"
        " if one runs there",
    )


def last_leader(place: Place, wrote: str | None, nodes: Iterable[SwarmNode]) -> Iterator[Finding]:
    """``wrote`` is the ID of the manager whose agent led last; None: none has yet."""
    leader = next((node for node in nodes if node.leads), None)
    if leader is None or wrote == leader.id or (wrote is None and place.leads):
        return
    said = f"no agent has deployed from {place.leader} since it leads the Swarm"
    yield warning(Code.SWARM, said, f"on {place.leader}: systemctl status commitd")


def managers(nodes: Sequence[SwarmNode]) -> Iterator[Finding]:
    """Whether managers answer, and how many more may be lost."""
    found = [node for node in nodes if node.role == "manager"]
    silent = [node.hostname for node in found if not node.reachable]
    quorum, answer = len(found) // 2 + 1, len(found) - len(silent)
    if silent:
        yield warning(
            Code.SWARM,
            f"{answer} of {len(found)} managers answer: {some_of(silent, _NAMED)} not",
            "docker node ls; start them, or docker node demote what is gone for good",
        )
    if len(found) == 1:
        said = "one manager: without this machine nothing is deployed, and its Swarm is lost"
        yield warning(Code.SWARM, said, "three managers survive the loss of one")
    elif answer == quorum:
        yield warning(
            Code.SWARM,
            f"{answer} of {len(found)} managers answer and {quorum} must: one more that is lost"
            " stops the Swarm",
            "start or add managers (docker node promote): three survive the loss of one",
        )
    else:
        yield ok(Code.SWARM, f"{answer} of {len(found)} managers answer, {quorum} must")


def others(nodes: Sequence[SwarmNode]) -> Iterator[Finding]:
    """Nodes that are down or take no tasks, and their engines."""
    if down := [node.hostname for node in nodes if node.state == "down"]:
        said = f"{len(down)} of {len(nodes)} nodes are down: {some_of(down, _NAMED)}"
        yield warning(Code.SWARM, said, "start them, or docker node rm what is gone for good")
    if idle := [node.hostname for node in nodes if node.availability != "active"]:
        said = f"no tasks are given to {some_of(idle, _NAMED)} (drained or paused)"
        yield warning(Code.SWARM, said, "docker node update --availability active, if not wanted")
    for node in nodes:
        judged = versions.judge(Code.SWARM, versions.DOCKER, node.engine)
        if judged.level is not Level.OK:
            yield Finding(
                Code.SWARM, judged.level, f"{node.hostname}: {judged.what}", judged.remedy
            )
    many = "one node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    kinds = sorted({node.engine for node in nodes})
    yield ok(Code.SWARM, f"{many}, with Docker Engine {', '.join(kinds)}")


def no_part(why: str, remedy: str, *, for_good: bool) -> Finding:
    """This machine cannot deploy to a Swarm, or not now."""
    return problem(Code.SWARM, why, remedy) if for_good else unknown(Code.SWARM, why, remedy)
