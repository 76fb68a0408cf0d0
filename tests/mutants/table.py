"""The table of rules that are broken on purpose: `mutants.toml`, one entry a rule.

An entry has an `id`, the `rule` in words, a `file`, the exact text `before` that stands in it once,
what it becomes `after`, and the `test` that fails then: a file, `::`, a name.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("mutants.toml")
_SYSTEM = "tests/system/"


class TableError(Exception):
    """An entry does not fit the code any more; the message says which, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One rule, broken."""

    id: str
    rule: str
    file: str
    before: str
    after: str
    test: str

    @property
    def needs_engine(self) -> bool:
        """Whether its test needs a sandbox; a unit test is quicker."""
        return self.test.startswith(_SYSTEM)

    def source(self, root: Path = ROOT) -> str:
        """The text of its file."""
        path = root / self.file
        if not path.is_file():
            raise TableError(f"{self.id}: there is no {self.file}: where is the rule now?")
        return path.read_text()

    def applied(self, text: str) -> str:
        """Its file's text without the rule."""
        found = text.count(self.before)
        if found != 1:
            many = "not there" if not found else f"there {found} times"
            raise TableError(f"{self.id}: in {self.file} this is {many}: {self.before!r}")
        return text.replace(self.before, self.after)


def read() -> list[Mutant]:
    """All of them, in the order of the table."""
    entries = tomllib.loads(TABLE.read_text())["mutant"]
    return [Mutant(**entry) for entry in entries]
