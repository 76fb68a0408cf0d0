"""What a check of a repository found: how bad, which rule, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Whether a finding stops a merge."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the repository that a person should know.

    ``rule`` names the kind for machines (``pins``, ``recipients`` …); ``where`` is ``file:line`` or
    ``file``, relative to the repository. ``message`` and ``hint`` never hold a secret value.
    """

    level: Level
    rule: str
    where: str
    message: str
    hint: str | None = None
