"""What a clone holds, asked of one `git cat-file` that stays: names, contents, trees. Blocks.

Each object is hashed once more here: Git looks at the checksum of a pack, not at what an object in
it is called, and what is damaged must not be deployed.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from typing import NamedTuple

from agent.adapters import process
from agent.adapters.git.session import Pipe
from agent.domain.errors import PermanentError, TransientError
from agent.domain.repository.tree import EXECUTABLE, GITLINK, PLAIN, SYMLINK, TreeEntry

COMMAND = ("cat-file", "--batch-command", "--buffer")
_DIRECTORY = "40000"
_A_LINE = 62
"""Bytes of a line of `git ls-tree` without its path, by which the limit was chosen."""


class Known(NamedTuple):
    """An object: its name, kind, and size in bytes."""

    oid: str
    kind: str
    size: int


def look_up(pipe: Pipe, names: Sequence[str]) -> list[Known | None]:
    """What each of ``names`` is, in whatever way Git lets one name an object."""
    _ask(pipe, "info", names)
    return [_known(pipe.line()) for _ in names]


def read(pipe: Pipe, names: Sequence[str], most: int) -> list[bytes]:
    """The bytes of each object, as it is stored.

    Raises :class:`TooMuchError` for more than ``most`` bytes of them, and :class:`TransientError`
    for one that is missing or damaged.
    """
    _ask(pipe, "contents", names)
    found: list[bytes] = []
    left = most
    for name in names:
        header = _known(pipe.line())
        if header is None:
            raise TransientError(f"the object {name[:60]} is missing in the clone")
        left -= header.size
        if left < 0:
            raise process.TooMuchError(f"git cat-file printed more than {most:,} bytes")
        content = pipe.exactly(header.size + 1)[:-1]
        head = f"{header.kind} {header.size}\0".encode()
        if _hash(header.oid, head, content) != header.oid:
            raise TransientError(f"the object {header.oid} is damaged in the clone")
        found.append(content)
    return found


def tree(pipe: Pipe, commit: str) -> dict[str, TreeEntry]:
    """Every path of ``commit`` but directories, in Git's order.

    Raises :class:`PermanentError` for more paths than may be listed.
    """
    files: list[tuple[bytes, str, str]] = []
    parsed: dict[str, list[tuple[str, bytes, str]]] = {}
    level = [(b"", f"{commit}^{{tree}}")]
    left = process.MAX_OUTPUT
    while level:
        new = list(dict.fromkeys(oid for _, oid in level if oid not in parsed))
        for oid, content in zip(new, read(pipe, new, process.MAX_OUTPUT), strict=True):
            parsed[oid] = _entries(content, len(commit) // 2)
        below: list[tuple[bytes, str]] = []
        for prefix, oid in level:
            for mode, name, child in parsed[oid]:
                whole = prefix + name
                left -= _A_LINE + len(whole)
                if left < 0:
                    raise PermanentError(
                        f"more than {process.MAX_OUTPUT:,} bytes of paths", where="."
                    )
                if mode == _DIRECTORY:
                    below.append((whole + b"/", child))
                else:
                    files.append((whole, mode, child))
        level = below
    blobs = list(dict.fromkeys(oid for _, mode, oid in files if mode != GITLINK))
    sizes = {GITLINK: 0}
    for oid, known in zip(blobs, look_up(pipe, blobs), strict=True):
        if known is None:
            raise TransientError(f"the object {oid} is missing in the clone")
        sizes[oid] = known.size
    found: dict[str, TreeEntry] = {}
    for raw, mode, oid in sorted(files):
        path = raw.decode(errors="replace")
        found[path] = TreeEntry(path, mode, oid, sizes.get(oid, 0))
    return found


def _entries(content: bytes, width: int) -> list[tuple[str, bytes, str]]:
    """Mode, name and object of each entry of a tree."""
    found: list[tuple[str, bytes, str]] = []
    at = 0
    while at < len(content):
        space = content.index(b" ", at)
        end = content.index(b"\0", space)
        mode = _mode(int(content[at:space], 8))
        at = end + 1 + width
        found.append((mode, content[space + 1 : end], content[end + 1 : at].hex()))
    return found


def _mode(stored: int) -> str:
    """What Git takes a mode for, and checks out."""
    if stat.S_ISREG(stored):
        return EXECUTABLE if stored & stat.S_IXUSR else PLAIN
    if stat.S_ISLNK(stored):
        return SYMLINK
    return _DIRECTORY if stat.S_ISDIR(stored) else GITLINK


def _ask(pipe: Pipe, command: str, names: Sequence[str]) -> None:
    if any("\n" in name for name in names):
        raise PermanentError("a line break in the name of an object")
    lines = "".join(f"{command} {name}\n" for name in names)
    pipe.write(f"{lines}flush\n".encode())


def _known(header: bytes) -> Known | None:
    words = header.decode(errors="replace").rsplit(" ", 2)
    if len(words) != 3 or not words[2].isdigit():  # noqa: PLR2004  "NAME missing", or "ambiguous"
        return None
    return Known(words[0], words[1], int(words[2]))


def _hash(oid: str, *parts: bytes) -> str:
    kind = "sha1" if len(oid) == 40 else "sha256"  # noqa: PLR2004
    digest = hashlib.new(kind, usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
