"""A container as the engine shows it, and the labels that Compose and Swarm put on one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from agent.domain.adjustable import Settings

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
CONFIG_HASH = "com.docker.compose.config-hash"
ONEOFF = "com.docker.compose.oneoff"
HOOK = "com.docker.compose.hook"
REPLACE = "com.docker.compose.replace"
WORKING_DIR = "com.docker.compose.project.working_dir"
NUMBER = "com.docker.compose.container-number"
SWARM_TASK = "com.docker.swarm.task.id"

KEPT_PREFIX = "commitd-evicted-"
"""Begins the names of evicted containers that are kept for a while."""

_BUILT_IN = frozenset({"default", "bridge", "host", "none"})
_ID = re.compile(r"[0-9a-f]{64}")
_TEMPORARY_NAME = re.compile(r"[0-9a-f]{12}_.+")


class CutOff(Struct, frozen=True):
    """That a container runs in namespaces that have ended.

    Its ``owner``, by name if that is known, is ``gone``, or was started again later.
    """

    owner: str
    gone: bool


class TaskOnNode(Struct, frozen=True, kw_only=True):
    """One task of a Swarm's service: its ``state`` in the engine's word, and the name of its node.

    ``node`` is None while it has none.
    """

    node: str | None
    state: str


class Container(Struct, frozen=True, kw_only=True):
    """One container as the engine lists it. ``state`` is the engine's word (running, exited …).

    ``network`` is the one it was started with; an event does not tell it. It was
    ``recently_started`` while a listing says that it has run for less than a minute. It ``joins``
    namespaces of containers, by ID or name; a listing tells it of the network alone. ``created``
    and ``started`` are in seconds since the epoch; only an inspect tells ``started``, and
    ``created`` as a fraction. ``cut_off`` is what follows for its namespaces, once somebody has
    looked. ``networks`` are the names of those that it is connected to, ``settings`` what else can
    be changed while it runs, which only an inspect tells; None: not known. ``tasks`` are those of a
    Swarm's service that are wanted now; None: it is a container.
    """

    id: str
    name: str
    image: str
    state: str
    labels: Mapping[str, str]
    exit_code: int | None = None
    health: str | None = None
    created: float = 0.0
    restart: str | None = None
    network: str | None = None
    recently_started: bool = False
    joins: frozenset[str] = frozenset()
    started: float | None = None
    cut_off: CutOff | None = None
    networks: frozenset[str] | None = None
    settings: Settings | None = None
    tasks: tuple[TaskOnNode, ...] | None = None

    @property
    def project(self) -> str | None:
        """The Compose project it claims to belong to."""
        return self.labels.get(PROJECT)

    @property
    def service(self) -> str | None:
        """The Compose service it claims to belong to."""
        return self.labels.get(SERVICE)

    @property
    def one_off(self) -> bool:
        """Made by ``compose run`` or by a hook."""
        return self.labels.get(ONEOFF, "False") == "True" or HOOK in self.labels

    @property
    def hook(self) -> bool:
        """Made by Compose to run before its service is started."""
        return HOOK in self.labels

    @property
    def counted(self) -> bool:
        """Whether Compose takes it for one of its service's, running or not."""
        return self.labels.get(ONEOFF) == "False" and CONFIG_HASH in self.labels

    @property
    def kept(self) -> bool:
        """Evicted, and kept for a while."""
        return self.name.startswith(KEPT_PREFIX)

    @property
    def temporary(self) -> bool:
        """The new half of an unfinished recreate: later it loses the name, not the label."""
        return REPLACE in self.labels and _TEMPORARY_NAME.fullmatch(self.name) is not None

    @property
    def lost_network(self) -> str | None:
        """The network that it was started with, if it is not connected to that any more."""
        name = self.network or ""
        if self.networks is None or ":" in name or name in _BUILT_IN or _ID.fullmatch(name):
            return None
        return name if name not in self.networks else None

    @property
    def alive(self) -> bool:
        """Has a process, or will have one again by itself."""
        return self.state in {"running", "restarting", "paused"}
