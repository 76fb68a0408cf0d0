"""All that the state of a host is judged by, read once; whoever judges reads the same.

The agent gathers it at the end of a cycle, ``commitd status`` and the API whenever they are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from agent.domain.container import Container
from agent.domain.outcome import Action, Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.release.release import Attempt, Release

if TYPE_CHECKING:  # a host does without it
    from agent.domain.swarm.model import SwarmNode


class LastLook(Struct, frozen=True):
    """When the agent last looked at everything (ISO 8601; None: never).

    ``error`` is why each cycle since then has failed; None: none has. ``swarm`` is what the engine
    of a plain host was in a Swarm then, ``manager`` or ``worker``; None: in none.
    """

    at: str | None = None
    error: str | None = None
    swarm: str | None = None


class Ongoing(Struct, frozen=True, kw_only=True):
    """Something that is being done now, as the journal has it; ``since`` is ISO 8601."""

    action: Action
    subject: str
    reason: Reason
    message: str
    since: str


class Facts(Struct, frozen=True, kw_only=True):
    """All that a verdict is made of. ``containers`` is None when the engine does not answer.

    ``now`` is in seconds since the epoch. ``declared``, ``attempted`` and ``holds`` are as the
    journal keeps them. ``remotes`` are their last answers, each with ``patience``: for how many
    seconds an answer is taken for one of now; the agent's own looks have ``patience`` too.
    ``rollbacks`` are stacks that went back to an older release: to the digest that failed, and
    why. ``approved`` are commits that a person accepted, those ``without_data`` also with what
    starts without its data. ``working`` is what ``running``, an agent that holds the host's lock,
    is doing. ``standby`` is the manager of the Swarm that acts, where that is another one, and
    ``nodes`` are the machines of that Swarm, by name. ``no_manager`` is why an engine that answers
    cannot tell what runs in the Swarm.
    """

    host: str
    now: float
    enrolled: bool
    declared: Mapping[str, Any] | None
    attempted: Mapping[str, Any] | None
    remotes: tuple[Mapping[str, Any], ...]
    releases: Mapping[str, Release]
    attempts: Mapping[str, Attempt]
    holds: tuple[Mapping[str, Any], ...]
    suspensions: tuple[Suspension, ...]
    rollbacks: Mapping[str, tuple[str, str]]
    approved: frozenset[str]
    containers: tuple[Container, ...] | None
    running: bool
    look: LastLook
    patience: float
    working: tuple[Ongoing, ...] = ()
    without_data: frozenset[str] = frozenset()
    standby: str | None = None
    nodes: tuple[SwarmNode, ...] = ()
    no_manager: str | None = None

    @property
    def applied(self) -> str | None:
        """The commit that is checked out and enforced."""
        sha: str | None = ((self.declared or {}).get("revision") or {}).get("sha")
        return sha

    @property
    def stacks(self) -> Mapping[str, str]:
        """The digests of the stacks that the applied commit declares and that can be read."""
        found: Mapping[str, str] = (self.declared or {}).get("stacks", {})
        return found

    @property
    def broken(self) -> Mapping[str, str]:
        """The declared stacks that cannot be read, and why."""
        found: Mapping[str, str] = (self.declared or {}).get("broken", {})
        return found

    @property
    def notes(self) -> Mapping[str, str]:
        """What in the files of declared stacks has no effect, by stack."""
        found: Mapping[str, str] = (self.declared or {}).get("notes", {})
        return found

    @property
    def accepted_lately(self) -> bool:
        """Whether the agent has not looked at everything since it went to the applied commit."""
        attempted = self.attempted or {}
        at = attempted.get("at") if attempted.get("sha") == self.applied else None
        return self.running and at is not None and (self.look.at or "") < at

    def age(self, at: str | None) -> float | None:
        """How many seconds ago ``at`` (ISO 8601) was; None if that is no time."""
        try:
            return self.now - datetime.fromisoformat(at or "").timestamp()
        except ValueError:
            return None

    def fresh(self, remote: Mapping[str, Any]) -> bool:
        """Whether the remote has answered, and so lately that it is known to answer now."""
        age = self.age(remote["checked_at"])
        return bool(remote["reachable"]) and age is not None and age <= remote["patience"]
