"""A commit's tree to look things up in: directories, symlinks, YAML files read once."""

from __future__ import annotations

import hashlib
import posixpath
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from msgspec import Struct

from agent.domain import documents
from agent.domain.documents import Document
from agent.domain.errors import PermanentError


class TreeEntry(Struct, frozen=True):
    """One path of a commit; ``mode`` as Git writes it (100644, 120000, 160000), size in bytes."""

    path: str
    mode: str
    oid: str
    size: int


Tree = Mapping[str, TreeEntry]

Inputs = tuple[tuple[str, str], ...]
"""Files by path, each with its Git object, and the mode behind it where that is no plain file's."""


PLAINTEXT_PREFIX = ".decrypted."
PLAIN = "100644"
EXECUTABLE = "100755"
REGULAR = frozenset({PLAIN, EXECUTABLE})
SYMLINK = "120000"
GITLINK = "160000"
YAML_SUFFIXES = (".yaml", ".yml")
MAX_LINK = 4096
"""Bytes of a symlink's target, as Linux has it."""
_MAX_HOPS = 40
MAX_TOTAL = 48 * 1024 * 1024
"""Bytes of all files that are read together; of more, the largest are not."""


def blob_id(content: bytes) -> str:
    """What Git calls a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def small(tree: Tree) -> dict[str, str]:
    """Paths and Git objects of what can be held in memory: all but the largest files."""
    found: dict[str, str] = {}
    total = 0
    for entry in sorted(tree.values(), key=lambda entry: (entry.size, entry.path)):
        total += entry.size
        if entry.size > documents.MAX_BYTES or total > MAX_TOTAL:
            break
        if entry.mode != GITLINK:
            found[entry.path] = entry.oid
    return found


class Snapshot:
    """``contents`` maps paths of ``tree`` to bytes; not every path needs to be there.

    ``paths`` are all of the tree, sorted; ``parsed`` the documents that are known already.
    """

    def __init__(
        self,
        tree: Tree,
        contents: Mapping[str, bytes],
        parsed: dict[str, Document | PermanentError] | None = None,
    ) -> None:
        self.tree = tree
        self._contents = contents
        self.paths = sorted(tree)
        self._links = [path for path in self.paths if tree[path].mode == SYMLINK]
        self._documents = {} if parsed is None else parsed

    def part(self, paths: Iterable[str]) -> Snapshot:
        """The same tree with the contents of these paths alone; what is parsed is shared."""
        contents = {path: self._contents[path] for path in paths if path in self._contents}
        return Snapshot(self.tree, contents, self._documents)

    def below(self, directory: str) -> list[str]:
        """Every path below ``directory``, in order; all of them for ``""``."""
        return _range(self.paths, directory)

    def holds(self, directory: str) -> bool:
        """Whether there is such a directory. Git knows no empty ones."""
        if not directory:
            return bool(self.paths)
        at = bisect_left(self.paths, f"{directory}/")
        return at < len(self.paths) and self.paths[at].startswith(f"{directory}/")

    def regular(self, path: str) -> bool:
        """Whether there is a file, and not a link to one."""
        return path in self.tree and self.tree[path].mode in REGULAR

    def content(self, path: str) -> bytes:
        """The bytes of one file of the tree. Raises :class:`PermanentError` if not at hand."""
        if path not in self._contents:
            size = self.tree[path].size
            message, hint = "the file is not read as YAML", "call it *.yaml or *.yml"
            if size > documents.MAX_BYTES:
                message = (
                    f"the file is {size:,} bytes long, more than the limit of "
                    f"{documents.MAX_BYTES:,}"
                )
                hint = "keep data out of the repository"
            elif path.endswith(YAML_SUFFIXES):
                message = "not read: it is another host's, or there is too much YAML around it"
                hint = "keep it beside the stacks, and data out of the repository"
            raise PermanentError(message, where=path, hint=hint)
        return self._contents[path]

    def document(self, path: str) -> Document:
        """One YAML file, parsed the first time. Raises :class:`PermanentError`."""
        content = self.content(path)
        if path not in self._documents:
            try:
                self._documents[path] = documents.load(content, path)
            except PermanentError as err:
                self._documents[path] = err
        found = self._documents[path]
        if isinstance(found, PermanentError):
            raise found
        return found

    def resolve(self, path: str) -> tuple[str | None, list[str]]:
        """Where ``path`` really is, and the symlinks on the way there.

        None when it leads nowhere, or out of the repository.
        """
        links: list[str] = []
        entry = self.tree.get(path)
        # Below a link Git has nothing, so that what is in the tree is reached without one.
        if entry.mode != SYMLINK if entry else not self._links:
            return (path if entry or self.holds(path) else None), links
        real = ""
        pending = path.split("/")[::-1]
        while pending:
            part = pending.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                if not real:
                    return None, links
                real = posixpath.dirname(real)
                continue
            real = posixpath.join(real, part)
            entry = self.tree.get(real)
            if entry is None or entry.mode != SYMLINK:
                continue
            links.append(real)
            target = self._contents.get(real, b"/").decode(errors="replace")
            if target.startswith("/") or len(links) > _MAX_HOPS:
                return None, links
            pending += target.split("/")[::-1]
            real = posixpath.dirname(real)
        return (real if real in self.tree or self.holds(real) else None), links

    def closure(self, names: Iterable[str]) -> set[str]:
        """The files behind ``names``: those below directories, and those that links lead to."""
        found: set[str] = set()
        looked: set[str] = set()
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in looked:
                continue
            looked.add(name)
            real, links = self.resolve(name)
            found.update(links)
            if real is None:
                continue
            if real in self.tree:
                found.add(real)
            elif real not in looked or real == name:
                looked.add(real)
                found.update(self.below(real))
                pending += _range(self._links, real)
        return found


def _range(ordered: list[str], directory: str) -> list[str]:
    if not directory:
        return list(ordered)
    # "0" comes right after "/".
    return ordered[bisect_left(ordered, f"{directory}/") : bisect_left(ordered, f"{directory}0")]
