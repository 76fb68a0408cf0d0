"""Which places of a stack surely have one model: those where all values that it can see are equal.

A host's values are for all of its stacks, and most of them look at few. A variable that no file of
a stack names changes nothing in its model:

    words in its files ∩ variables in its env files ──▶ what can be told apart

A file whose words cannot be told for sure (an escape that writes a letter, an env file with quotes
over several lines) counts as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.domain.compose import placeholders
from agent.domain.errors import PermanentError
from agent.domain.repository import interpolation
from agent.domain.repository.desired import EnvFile, Stack
from agent.domain.review.repository_scan import NOWHERE

Place = tuple[str, str]
"""A host (``repository_scan.NOWHERE``: none) and a stack."""
Same = tuple[Stack, list[Place]]
"""A stack, and the places where all of its values are the same."""

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLAIN = re.compile(
    rb"""[ \t]*(?:\#[^\r\n]*
    |([A-Za-z_][A-Za-z0-9_]*)=([A-Za-z0-9_./:,@+*=-]*|'[^'"\\$\r\n]*'|"[^'"\\$\r\n]*"))?""",
    re.VERBOSE,
)
"""A line of an env file that every reader takes alike."""


def exactly(places: Iterable[tuple[str, Stack]]) -> list[Same]:
    """Each stack once, with the places where its values and what Compose may do are the same."""
    same: dict[tuple[object, ...], Same] = {}
    for host, stack in places:
        # The order of the files decides, and the kind: neither is in their contents.
        values = tuple((file.oid, file.secret) for file in stack.environment)
        allowed = (stack.policy.builds, stack.variables)
        same.setdefault((stack.name, values, *allowed), (stack, []))[1].append((host, stack.name))
    return list(same.values())


def surely(places: Iterable[tuple[str, Stack]], contents: Mapping[str, bytes]) -> list[list[Same]]:
    """The same, those together that have one model if Compose can make any."""
    alike: dict[object, list[Same]] = {}
    for number, (stack, same) in enumerate(exactly(places)):
        words = None if same[0][0] == NOWHERE else _Words.of(stack, contents)
        values = words.values if words else number
        alike.setdefault((stack.name, values), []).append((stack, same))
    return list(alike.values())


@dataclass(frozen=True, slots=True)
class _Words:
    """``texts`` are all that may name a variable; ``files`` the values of one stack, in order."""

    stack: Stack
    texts: tuple[bytes, ...]
    files: tuple[tuple[EnvFile, tuple[tuple[str, str], ...] | None], ...]

    @classmethod
    def of(cls, stack: Stack, contents: Mapping[str, bytes]) -> _Words | None:
        """None: they are not known."""
        files = [(file, _pairs(file, contents.get(file.path))) for file in stack.environment]
        apart = {file.path for file, pairs in files if pairs is not None}
        paths = [path for path, _ in stack.inputs if path not in apart]
        texts = [contents[path] for path in paths if path in contents]
        if len(texts) < len(paths) or any(map(interpolation.hides_names, paths, texts)):
            return None
        return cls(stack, tuple(texts), tuple(files))

    def has(self, variable: str) -> bool:
        """Whether one of the files may name it."""
        word = variable.encode()
        alone = re.compile(rb"(?<![A-Za-z0-9_])%s(?![A-Za-z0-9_])" % re.escape(word))
        return any(word in text and alone.search(text) for text in self.texts)

    @property
    def values(self) -> tuple[object, ...]:
        """All that decides on the model, and can be another one on another host."""
        apart = {file.path for file, _ in self.files}
        seen: list[object] = [self.stack.policy.builds, self.stack.variables]
        seen += [each for each in self.stack.inputs if each[0] not in apart]
        for file, pairs in self.files:
            if pairs is None:
                seen.append((file.oid, file.secret))
            elif kept := tuple(pair for pair in pairs if self._matters(pair[0])):
                seen.append((kept, file.secret))
        return tuple(seen)

    def _matters(self, variable: str) -> bool:
        return (
            not _NAME.fullmatch(variable)  # an env file may pass on what has another name
            or interpolation.steers(variable)
            or interpolation.refused(variable) is not None
            or self.has(variable)
        )


def _pairs(file: EnvFile, content: bytes | None) -> tuple[tuple[str, str], ...] | None:
    """What a file of values sets, as it is written; None where only Compose can tell."""
    if content is None:
        return None
    if file.secret:
        try:
            return tuple(placeholders.values(content, file.path).items())
        except PermanentError:
            return None
    lines = [_PLAIN.fullmatch(line) for line in content.split(b"\n")]
    found = [line.groups() for line in lines if line]
    if len(found) < len(lines):
        return None
    return tuple((key.decode(), value.decode(errors="replace")) for key, value in found if key)
