"""What the host itself exempts at this moment: suspensions, helpers, what a person brought back."""

from __future__ import annotations

from msgspec import Struct


class Suspension(Struct, frozen=True):
    """A person took a stack, or with ``stack`` None the whole host, out of the agent's hands.

    ``until`` is in seconds since the epoch; None: until it is resumed. ``since`` is ISO 8601.
    ``actor`` is that person, where known.
    """

    stack: str | None
    until: float | None
    reason: str
    since: str
    actor: str | None = None


class Exemptions(Struct, frozen=True):
    """What the host itself, at this moment, takes out of the agent's hands.

    ``helpers`` are the IDs of the agent's own containers: a label could be copied by anyone.
    ``granted`` are the IDs of containers that a person brought back for a time.
    """

    helpers: frozenset[str] = frozenset()
    granted: frozenset[str] = frozenset()
    suspensions: tuple[Suspension, ...] = ()

    @property
    def host(self) -> Suspension | None:
        """The suspension of the whole host, if there is one."""
        return next((each for each in self.suspensions if each.stack is None), None)

    def suspension(self, project: str | None) -> Suspension | None:
        """What keeps the agent from touching this project, if anything."""
        found = (each for each in self.suspensions if each.stack == project)
        return self.host or (next(found, None) if project else None)
