"""A repository's files laid out for Compose in a throw-away directory, where no secret is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.domain.compose import placeholders
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.repository import checkout_safety
from agent.domain.repository.layout import SECRET_SUFFIX
from agent.domain.repository.tree import GITLINK, PLAINTEXT_PREFIX, SYMLINK, Tree

_SECRET = ".secret."  # noqa: S105  part of a file name
_NEVER = {"", ".", "..", ".git"}
"""Steps of a path that only a forged commit has."""


@contextmanager
def laid_out(tree: Tree, contents: Mapping[str, bytes]) -> Iterator[Path]:
    """The directory, while it is there; nothing leads out of it.

    A file whose content is not given is empty. Beside each secret dotenv file stands what would
    be its plaintext, with placeholders. Raises :class:`PermanentError`.
    """
    root = Path(os.path.realpath(tempfile.mkdtemp(prefix="commitd-")))
    try:
        try:
            for path, entry in tree.items():
                _put(root, path, entry.mode, contents.get(path, b""))
        except OSError as err:
            message = f"the files cannot be laid out: {err.strerror}"
            hint = "TMPDIR names another place"
            raise PermanentError(message, where=str(err.filename or root), hint=hint) from None
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _put(root: Path, path: str, mode: str, content: bytes) -> None:
    if mode == GITLINK or _NEVER & set(path.split("/")):
        return
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if mode != SYMLINK:
        place.write_bytes(content)
    elif checkout_safety.stays_inside(path, target := content.decode(errors="replace")):
        place.symlink_to(target)
    if _SECRET in place.name:
        place.with_name(f"{PLAINTEXT_PREFIX}{place.name}").write_bytes(_opened(path, content))


def _opened(path: str, content: bytes) -> bytes:
    """The lines that the agent would decrypt; none where that is not known without the key."""
    with suppress(CommitdError):
        if path.endswith(SECRET_SUFFIX):
            return placeholders.plaintext(content, path)
    return b""
