"""Whose container is this: the one decision that both the cycle and the event stream use."""

from __future__ import annotations

from dataclasses import dataclass

from agent.domain.container import SWARM_TASK, Container
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import ProtectionSet
from agent.domain.reconcile.exemptions import Exemptions

UNDONE = "it was brought back by commitd undo"


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


def classify(container: Container, protected: ProtectionSet, exemptions: Exemptions) -> Ownership:
    """Decide by ID, project and service, then by the rules from Git.

    Only what nothing else speaks for is undeclared.
    """
    if container.id in exemptions.helpers:
        return Exempt("a helper of the agent")
    reason = _undeclared(container, protected)
    if reason is None:
        return Declared()
    if rule := _rule(container, protected, exemptions):
        return Exempt(rule)
    return Undeclared(reason)


def _undeclared(container: Container, protected: ProtectionSet) -> Reason | None:
    """Why the container is no service of a protected stack, or None if it is one."""
    project = container.project
    if not project:
        return Reason.NO_PROJECT
    if project not in protected.services:
        return Reason.UNKNOWN_PROJECT
    services = protected.services[project]
    if container.one_off or (services is not None and container.service not in services):
        return Reason.UNKNOWN_SERVICE
    return None


def _rule(container: Container, protected: ProtectionSet, exemptions: Exemptions) -> str | None:
    if exemptions.suspension(container.project):
        return "it is suspended"
    if container.id in exemptions.undone:
        return UNDONE
    if SWARM_TASK in container.labels:
        return "a Swarm task"
    if container.project in protected.services and (container.one_off or container.temporary):
        return "a one-off, a hook or one half of a recreate, of a declared stack"
    return next((f"allowed by {r.where}" for r in protected.allow if r.matches(container)), None)
