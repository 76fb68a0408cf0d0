"""Whose container is this: the one decision that both the cycle and the event stream use."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.model import SWARM_TASK, Container, Protected, Reason


@dataclass(frozen=True, slots=True)
class Declared:
    """Part of a protected stack."""


@dataclass(frozen=True, slots=True)
class Exempt:
    """Not declared, and left alone by ``rule``."""

    rule: str


@dataclass(frozen=True, slots=True)
class Undeclared:
    """Nobody declared it."""

    reason: Reason


Ownership = Declared | Exempt | Undeclared


def classify(container: Container, protected: Protected, helpers: frozenset[str]) -> Ownership:
    """Decide by project, service and ID.

    ``helpers`` are the IDs of the agent's own containers: a label could be copied by anyone.
    """
    if container.id in helpers:
        return Exempt("a helper of the agent")
    if SWARM_TASK in container.labels:
        return Exempt("a Swarm task")
    project = container.project
    if not project:
        return Undeclared(Reason.NO_PROJECT)
    if project not in protected.services:
        return Undeclared(Reason.UNKNOWN_PROJECT)
    if container.one_off:
        return Exempt("a one-off or hook of a declared stack")
    services = protected.services[project]
    if services is not None and container.service not in services:
        return Undeclared(Reason.UNKNOWN_SERVICE)
    return Declared()
