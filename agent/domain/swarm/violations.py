"""What of a stack a Swarm cannot do, collected while the file for it is written.

Each has its place in the model and what to use instead. ``REFUSED`` is what would mean something
else without it; ``WARNED`` is left out or written another way, and ``ASKED`` is worth knowing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.domain.compose.policy import Effect, Violation
from agent.domain.documents import Path

RULE = "swarm"


class Violations:
    """Findings about what is at ``path`` of a model, and below; ``whose`` begins each message."""

    def __init__(
        self, path: Path = (), whose: str = "", into: list[Violation] | None = None
    ) -> None:
        self.path, self.whose = path, whose
        self.found: list[Violation] = [] if into is None else into

    def at(self, *keys: str | int, whose: str | None = None) -> Violations:
        """The same list, for what is at ``keys`` below."""
        return Violations((*self.path, *keys), self.whose if whose is None else whose, self.found)

    def refuse(self, message: str, hint: str, *at: str | int) -> None:
        """It would mean something else in a Swarm."""
        self._add(Effect.REFUSED, message, hint, at)

    def warn(self, message: str, hint: str, *at: str | int) -> None:
        """It is left out, or written another way."""
        self._add(Effect.WARNED, message, hint, at)

    def ask(self, message: str, hint: str, *at: str | int) -> None:
        """Worth knowing before the merge."""
        self._add(Effect.ASKED, message, hint, at)

    def read(self, kind: Callable[[Any], Any], value: Any, *at: str | int) -> Any:
        """The value by ``kind``; None, and a finding without the value, if it cannot be read."""
        try:
            return kind(value)
        except (ValueError, TypeError, AttributeError, LookupError) as err:
            said = str(err) if type(err) is ValueError and str(err).startswith("expected") else ""
            key = ".".join(str(each) for each in at if isinstance(each, str))
            self.refuse(
                f"{key}: cannot be read" + (f": {said}" if said else ""),
                "write it as the Compose specification has it",
                *at,
            )
            return None

    def _add(self, effect: Effect, message: str, hint: str, at: Path) -> None:
        self.found.append(
            Violation(
                effect=effect,
                rule=RULE,
                path=(*self.path, *at),
                message=f"{self.whose}: {message}" if self.whose else message,
                hint=hint or None,
            )
        )
