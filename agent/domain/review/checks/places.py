"""Where a stack's files say what its model says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any

from agent.domain import documents
from agent.domain.documents import Document, Path
from agent.domain.errors import PermanentError
from agent.domain.repository import references
from agent.domain.repository.desired import Stack
from agent.domain.repository.referenced import References
from agent.domain.repository.tree import YAML_SUFFIXES, Snapshot
from agent.domain.review import repository_scan

_USE = re.compile(r"(?<!\$)(?:\$\$)*\$\{?([A-Za-z_]\w*)")
_SINGLE = re.compile(r"=\s*'[^']*'")
"""A value of an env file in which Compose looks for no variable."""


class Places:
    """Of one stack. Its own Compose file comes first, then those it includes and extends.

    ``known`` are those of the stack as another host has it, whose files need not be read again.
    """

    def __init__(self, files: Snapshot, stack: Stack, known: Places | None = None) -> None:
        self.stack = stack
        self._files = files
        build = stack.policy.builds
        self.read: References = (
            known.read if known else references.follow(files, stack.compose, build=build)
        )
        self.documents: list[Document] = known.documents if known else list(self._parsed())
        plain = repository_scan.plain(stack)
        # Compose reads the .env beside what is included, whoever names it.
        plain += [path for path in sorted(self.read.paths) if path.rpartition("/")[2] == ".env"]
        self.env_files = list(dict.fromkeys([*plain, *sorted(self.read.env_files)]))

    def _parsed(self) -> Iterator[Document]:
        for path in self.read.compose:
            with suppress(PermanentError):  # a fault that was found before
                yield self._files.document(path)

    def of(self, *path: str | int) -> str:
        """``file:line`` of the value at ``path``, or of its nearest parent that is there."""
        for length in range(len(path), 0, -1):
            for document in self.documents:
                if path[:length] in document.lines:
                    return f"{document.name}:{document.lines[path[:length]]}"
        return f"{self.documents[0].name}:1"

    def has(self, *path: str | int) -> bool:
        """Whether one of the files says something there."""
        return any(path in document.lines for document in self.documents)

    def find(self, dotted: str) -> Path:
        """The path that ``dotted`` means, as far as one of the files has it."""
        lines = {path for document in self.documents for path in document.lines}
        words = dotted.split(".") if dotted else []

        def below(path: Path, rest: list[str]) -> Path:
            for number in range(1, len(rest) + 1):
                name = ".".join(rest[:number])
                for key in (name, int(name)) if name.isdigit() else (name,):
                    if (*path, key) in lines:
                        return below((*path, key), rest[number:])
            return path

        return below((), words)

    def behind(self, path: str) -> set[str]:
        """The files of the repository at or below ``path``, and those that links there lead to."""
        return self._files.closure(["" if path == "." else path])

    def services(self) -> Iterator[tuple[str, dict[Any, Any], Document]]:
        """Each service as one file writes it."""
        for document in self.documents:
            services = document.data.get("services")
            for name, service in services.items() if isinstance(services, dict) else ():
                if isinstance(service, dict):
                    yield str(name), service, document

    def content(self, path: str) -> bytes:
        """What a file of the repository holds; nothing if that is not at hand."""
        try:
            return self._files.content(path)
        except (PermanentError, KeyError):
            return b""

    def strings(self) -> Iterator[tuple[str, str]]:
        """Every text value of the Compose files with its ``file:line``."""
        for document in self.documents:
            for path, line in document.lines.items():
                if isinstance(text := documents.value(document.data, path), str):
                    yield f"{document.name}:{line}", text

    def mentions(self, variable: str) -> list[str]:
        """``file:line`` wherever the variable is used in a Compose file or an env file."""
        return self._uses.get(variable, [])

    @cached_property
    def _uses(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in [*(document.name for document in self.documents), *self.env_files]:
            text = self.content(path).decode(errors="replace")
            quoted = not path.endswith(YAML_SUFFIXES)
            for number, line in enumerate(text.split("\n"), 1):
                if not line.lstrip().startswith("#"):
                    names = _USE.findall(_SINGLE.sub("", line) if quoted else line)
                    for name in dict.fromkeys(names):
                        found.setdefault(name, []).append(f"{path}:{number}")
        return found


def is_yaml(where: str) -> bool:
    """Whether ``file:line`` is in a YAML file."""
    return where.rpartition(":")[0].endswith(YAML_SUFFIXES)
