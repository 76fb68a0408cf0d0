"""Whose container is this: the one decision that both the cycle and the event stream use."""

from __future__ import annotations

from msgspec import Struct

from agent.domain.container import SWARM_TASK, Container
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import ProtectionSet
from agent.domain.reconcile.exemptions import Exemptions


class Declared(Struct, frozen=True):
    """Part of a protected stack."""


class Exempt(Struct, frozen=True):
    """Not declared, and left alone. ``where`` is the place in Git of the rule that says so."""

    reason: Reason
    where: str | None = None


class Undeclared(Struct, frozen=True):
    """Nobody declared it."""

    reason: Reason


Ownership = Declared | Exempt | Undeclared


def classify(container: Container, protected: ProtectionSet, exemptions: Exemptions) -> Ownership:
    """Decide by ID, project and service, then by the rules from Git.

    Only what nothing else speaks for is undeclared. For a rival only a person on the host speaks:
    it keeps Compose from a declared stack, and labels and names are copied easily.
    """
    if container.id in exemptions.helpers:
        return Exempt(Reason.HELPER)
    reason = _undeclared(container, protected)
    if reason is None:
        return Declared()
    return _exempt(container, protected, exemptions, reason) or Undeclared(reason)


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
    return Reason.UNKNOWN_CONTAINER if container.id in protected.rivals else None


def _exempt(
    container: Container, protected: ProtectionSet, exemptions: Exemptions, reason: Reason
) -> Exempt | None:
    if exemptions.suspension(container.project):
        return Exempt(Reason.SUSPENDED)
    if container.id in exemptions.granted:
        return Exempt(Reason.UNDONE)
    # A Swarm task has no Compose project, and the new half of a recreate runs only once the old one
    # is gone.
    if reason is Reason.UNKNOWN_CONTAINER:
        return None
    if SWARM_TASK in container.labels:
        return Exempt(Reason.SWARM)
    if container.project in protected.services and (container.one_off or container.temporary):
        return Exempt(Reason.ONE_OFF)
    rules = (rule.where for rule in protected.allow if rule.matches(container))
    return next((Exempt(Reason.ALLOWED, where) for where in rules), None)
