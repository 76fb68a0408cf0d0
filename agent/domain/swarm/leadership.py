"""Which manager of a Swarm acts: the one that leads its Raft group.

    no Swarm, a worker      refused, until a person changes it
    no leader, or unknown   wait, and touch nothing
    another one leads       stand by
    this one leads          act

There is no election of our own.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from agent.domain.errors import ConfigError, TransientError
from agent.domain.swarm.model import Membership, SwarmNode

_NO_SWARM = {"", "inactive"}


class Place(Struct, frozen=True, kw_only=True):
    """What this manager is among the others: its ID and name, the leader's, whether it leads."""

    id: str
    node: str
    leader: str
    leader_id: str
    leads: bool


def node_id(found: Membership) -> str:
    """The ID of this manager in its Swarm.

    Raises :class:`ConfigError` where no agent can deploy to a Swarm, and :class:`TransientError`
    while that is not known.
    """
    if found.state in _NO_SWARM:
        raise ConfigError(
            "docker.mode is swarm, and this engine is in no Swarm",
            hint="docker swarm init, or docker swarm join with the token of a manager; or remove"
            " docker.mode",
        )
    if found.state == "locked":
        raise TransientError("the Swarm is locked on this manager", hint="docker swarm unlock")
    if found.state != "active":
        raise TransientError(
            f"this engine's part in the Swarm is {found.state}", hint="docker info says why"
        )
    if not found.control:
        raise ConfigError(
            "docker.mode is swarm, and this node is a worker",
            hint="run the agent on a manager, or make it one: docker node promote on a manager",
        )
    return found.node_id


def place(nodes: Sequence[SwarmNode], own: str) -> Place | None:
    """Of the manager with the ID ``own`` among all ``nodes``; None: it is none of them.

    Raises :class:`TransientError` while nobody leads.
    """
    mine = next((node for node in nodes if node.id == own), None)
    if mine is None or mine.role != "manager":
        return None
    leader = next((node for node in nodes if node.leads), None)
    if leader is None:
        raise no_leader()
    return Place(
        id=own,
        node=_name(mine, nodes),
        leader=_name(leader, nodes),
        leader_id=leader.id,
        leads=leader is mine,
    )


def no_leader(said: str = "") -> TransientError:
    """While too few managers answer; ``said`` is what the engine says of it."""
    more = f" ({said})" if said else ""
    return TransientError(
        f"the Swarm has no leader, so nothing is touched{more}",
        hint="start managers until more than half of them answer",
    )


def _name(node: SwarmNode, nodes: Sequence[SwarmNode]) -> str:
    """Its machine's name; with its ID where another machine has the same."""
    alone = sum(each.hostname == node.hostname for each in nodes) == 1
    return node.hostname if alone else f"{node.hostname} ({node.id[:12]})"
