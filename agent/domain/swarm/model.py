"""Services, tasks and nodes of a Swarm, as its managers list them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from agent.domain.swarm.spec import container

STACK = "com.docker.stack.namespace"
"""The label that ``docker stack deploy`` puts on all that it makes."""
EVICTED = "io.commitd.evicted"
"""The label of a service that was ended because nobody declared it, with what it was before."""
OURS = "io.commitd.stack"
"""The label, with the stack's name, of what the agent deploys: nothing without it is removed."""

_STOP_S = 10.0
_ENDED = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})

Mode = Literal["replicated", "global", "replicated-job", "global-job"]
Kind = Literal["configs", "secrets"]
"""What of a Swarm's objects, as the engine's API and Compose files call them."""
KINDS: tuple[Kind, ...] = ("configs", "secrets")


class SwarmService(Struct, frozen=True, kw_only=True):
    """One service. ``wanted`` is how many tasks it asks for; None: one on each node that fits.

    ``update`` is the state of its last update (``updating``, ``paused``, ``completed``,
    ``rollback_started``, ``rollback_paused``, ``rollback_completed``), None if there was none or it
    had nothing to do, ``update_message`` what the engine says of it, and ``update_began`` when it
    began. It is ``reversible`` while the engine knows an older spec. ``iteration`` counts how often
    a job was started: each update starts it again. ``configs`` and ``secrets`` are the IDs of the
    objects that it uses, or used before its last update; ``networks`` are IDs. ``created`` and
    ``updated`` are in seconds since the epoch. ``spec`` is what the engine was asked for, as its
    API writes it, environment included: it must not be logged. ``version`` must be given to change
    it: another change meanwhile makes that fail.
    """

    id: str
    name: str
    version: int
    labels: Mapping[str, str]
    image: str
    mode: Mode
    wanted: int | None
    created: float
    updated: float
    update: str | None
    update_message: str
    update_began: float = 0.0
    reversible: bool = False
    iteration: int = 0
    configs: frozenset[str]
    secrets: frozenset[str]
    networks: frozenset[str]
    spec: Mapping[str, Any]

    @property
    def stack(self) -> str | None:
        """The stack it belongs to: by its label, and by its name, which begins with that.

        All that ``docker stack deploy`` makes is named so. What only copies the label is of no
        stack, or it could go by the name of a service that is declared.
        """
        stack = self.labels.get(STACK)
        return stack if stack and self.name.startswith(f"{stack}_") else None

    @property
    def short_name(self) -> str:
        """Its name in the file of its stack."""
        return self.name.removeprefix(f"{self.stack}_") if self.stack else self.name

    @property
    def is_job(self) -> bool:
        """Whether its tasks are to end."""
        return self.mode.endswith("-job")

    @property
    def stop_s(self) -> float:
        """For how many seconds a task of it may take to end before it is killed."""
        grace = container(self.spec).get("StopGracePeriod")
        return _STOP_S if grace is None else grace / 1e9

    @property
    def volumes(self) -> list[str]:
        """Names of the volumes that it mounts, where its tasks run; they stay when it goes."""
        mounts = container(self.spec).get("Mounts") or ()
        found = {m.get("Source") for m in mounts if m.get("Type") == "volume" and m.get("Source")}
        return sorted(found)

    @property
    def kept(self) -> bool:
        """Evicted, and kept for a while."""
        return EVICTED in self.labels


class SwarmTask(Struct, frozen=True, kw_only=True):
    """One task. ``desired`` and ``state`` are the engine's words (running, shutdown, rejected …).

    ``slot`` tells the tasks of a replicated service apart, and is 0 for a global one.
    ``error`` is what the engine or the node says of its failure. ``at`` is when it came to its
    state by the clock of its node, ``created`` by that of the managers, both in seconds since the
    epoch. ``spec`` is the part of the service's spec that it was made from,
    ``iteration`` which start of a job it belongs to.
    """

    id: str
    service_id: str
    node_id: str
    slot: int
    desired: str
    state: str
    error: str
    exit_code: int | None
    at: float
    created: float
    container_id: str
    spec: Mapping[str, Any]
    iteration: int = 0

    @property
    def over(self) -> bool:
        """Whether it has ended, and will not run again."""
        return self.state in _ENDED


class SwarmNode(Struct, frozen=True, kw_only=True):
    """One machine of the Swarm. ``state`` is ``ready`` or ``down``; ``leads``: the Raft leader."""

    id: str
    hostname: str
    role: Literal["manager", "worker"]
    availability: str
    state: str
    leads: bool
    engine: str
    reachable: bool = True


class Membership(Struct, frozen=True, kw_only=True):
    """What this machine is in a Swarm. ``state`` is ``active``, ``inactive``, ``pending`` …

    ``cluster`` is the Swarm's ID and None on a worker, ``control`` whether it is a manager that
    answers.
    """

    state: str
    node_id: str
    cluster: str | None
    control: bool


class SwarmObject(Struct, frozen=True, kw_only=True):
    """A config or a secret."""

    kind: Kind
    id: str
    name: str
    labels: Mapping[str, str]

    @property
    def stack(self) -> str | None:
        """The stack that the agent made it for; None: the agent has not made it."""
        return self.labels.get(OURS)
