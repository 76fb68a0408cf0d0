"""What a plan consists of: deploys, removals, evictions, holds and exemptions."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from agent.domain.container import Container
from agent.domain.outcome import Cause, Reason
from agent.domain.repository.allow_rules import AllowRule
from agent.domain.repository.desired import Stack


class Deploy(Struct, frozen=True):
    """Bring one stack to its declared state."""

    stack: Stack
    reason: Reason
    causes: tuple[Cause, ...] = ()


class RemoveStack(Struct, frozen=True, kw_only=True):
    """Take a whole project down; its volumes stay.

    The stack ``after`` must be up before; ``first``: it makes room for what is deployed.
    """

    project: str
    reason: Reason
    causes: tuple[Cause, ...] = ()
    after: str | None = None
    first: bool = False


class Evict(Struct, frozen=True):
    """End one container that nobody declared."""

    container: Container
    reason: Reason


class Exempted(Struct, frozen=True):
    """A running container that nobody declared, and why it stays.

    ``where`` is the place in Git of the rule that exempts it, if it is one from there.
    """

    container: Container
    reason: Reason
    where: str | None = None


class Hold(Struct, frozen=True):
    """Something that is not done, and what it waits for.

    ``needs_person`` when only a decision on the host or a commit that answers it ends the hold;
    ``actor`` is the person who ordered it.
    """

    subject: str
    reason: Reason
    detail: str
    needs_person: bool = False
    actor: str | None = None

    @property
    def message(self) -> str:
        """Why, for people."""
        return self.reason.message(self.detail)


class Plan(Struct, frozen=True, kw_only=True):
    """All that the next cycle will do, in a fixed order, and all that it will not."""

    deploys: tuple[Deploy, ...] = ()
    removals: tuple[RemoveStack, ...] = ()
    evictions: tuple[Evict, ...] = ()
    holds: tuple[Hold, ...] = ()
    exempt: tuple[Exempted, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing to do (there may be holds)."""
        return not (self.deploys or self.removals or self.evictions)


class ProtectionSet(Struct, frozen=True, kw_only=True):
    """What must not be evicted: applied, desired and in flight, together.

    ``services`` maps a project to its services, or to None where any service may belong to it.
    ``allow`` are the rules of ``revision``, the commit that all this follows from. While ``doubt``
    is set, nothing at all may be removed, for the reason it gives; unless ``enrolled``, nothing
    that was here first; with a journal that was ``begun_anew`` nobody knows what was. ``rivals``
    are the IDs of containers that say they are of one of these services and took nobody's place.
    """

    services: Mapping[str, frozenset[str] | None]
    doubt: str | None = None
    allow: tuple[AllowRule, ...] = ()
    revision: str | None = None
    enrolled: bool = False
    begun_anew: bool = False
    rivals: frozenset[str] = frozenset()


def one_of_a_kind(holds: list[Hold]) -> list[Hold]:
    """Hundreds of containers that wait for the same limit are one hold."""
    many = [hold for hold in holds if hold.reason is Reason.RATE]
    if not many:
        return holds
    waiting = Hold("undeclared", Reason.RATE, f"{many[0].detail}; more of them wait")
    return [*(hold for hold in holds if hold.reason is not Reason.RATE), waiting]
