"""What a check of a repository found: how bad, which rule, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in the repository: what, where (``file:line``), what to do.

    ``rule`` is the kind of fault for ``commitd check``.
    """

    message: str
    where: str
    hint: str | None = None
    rule: str = field(default="layout", compare=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class Level(StrEnum):
    """Whether a finding stops a merge."""

    ERROR = "error"
    WARNING = "warning"


class Finding(Struct, frozen=True, kw_only=True):
    """One thing about the repository that a person should know.

    ``rule`` names the kind for machines (``pins``, ``recipients`` …); ``where`` is ``file:line`` or
    ``file``, relative to the repository. ``message`` and ``hint`` never hold a secret value.
    """

    level: Level
    rule: str
    where: str
    message: str
    hint: str | None = None
