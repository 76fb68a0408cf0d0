"""A repository's files laid out for Compose in a throw-away directory, beside any checkout."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio.to_thread

from agent.adapters.tasks import to_the_end
from agent.domain.compose import placeholders
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.repository import checkout_safety, secret_files
from agent.domain.repository.layout import SECRET_SUFFIX, plaintext_path
from agent.domain.repository.tree import GITLINK, SYMLINK, Tree

_MEMORY = "/dev/shm"  # noqa: S108  what it is for
_NEVER = {"", ".", "..", ".git"}
"""Steps of a path that only a forged commit has."""
_DOCKER, _CONFIGURATION = ".docker", {"config.json", "cli-plugins", "contexts"}
"""What Compose would take for the configuration of Docker's command line, and what of that it
reads: it runs in the stack's directory, and may know no home."""


@asynccontextmanager
async def laid_out(
    tree: Tree,
    contents: Mapping[str, bytes],
    plaintext: Mapping[str, bytes | Path] | None = None,
    *,
    at: Path | None = None,
) -> AsyncIterator[Path]:
    """The directory, while it is there, for its owner alone; no file of ``tree`` leads out of it.

    A file whose content is not given is empty. ``plaintext`` is what stands beside secrets, by
    their paths: the bytes, or where they are, to be linked to. If there is any the directory is in
    memory, because a kill would leave it there. None: beside each secret dotenv file stands one
    with placeholders. ``at`` is the directory to make, by default a new one. Raises
    :class:`PermanentError`.
    """
    root = await anyio.to_thread.run_sync(_directory, at, plaintext is not None)
    try:
        await anyio.to_thread.run_sync(_lay_out, root, tree, contents, plaintext)
        yield root
    finally:
        await to_the_end(partial(shutil.rmtree, root, ignore_errors=True))


def _directory(at: Path | None, in_memory: bool) -> Path:
    memory = _MEMORY if in_memory and os.access(_MEMORY, os.W_OK) else None
    return at or Path(os.path.realpath(tempfile.mkdtemp(prefix="commitd-", dir=memory)))


def _lay_out(
    root: Path,
    tree: Tree,
    contents: Mapping[str, bytes],
    plaintext: Mapping[str, bytes | Path] | None,
) -> None:
    try:
        root.mkdir(mode=0o700, exist_ok=True)
        sound = {p: e for p, e in tree.items() if e.mode != GITLINK and not _unwanted(p, e.mode)}
        for path, entry in sound.items():
            _put(root, path, entry.mode, contents.get(path, b""))
        beside = _placeholders(sound, contents) if plaintext is None else plaintext
        for path, there in beside.items():
            place = root / plaintext_path(path)
            if isinstance(there, Path):
                place.symlink_to(there)
            else:
                place.write_bytes(there)
    except OSError as err:
        message = f"the files cannot be laid out: {err.strerror}"
        hint = "TMPDIR names another place"
        raise PermanentError(message, where=str(err.filename or root), hint=hint) from None


def _unwanted(path: str, mode: str) -> bool:
    steps = path.split("/")
    configures = any(
        step == _DOCKER and below in _CONFIGURATION for step, below in pairwise(steps)
    ) or (steps[-1] == _DOCKER and mode == SYMLINK)
    return configures or not _NEVER.isdisjoint(steps)


def _placeholders(tree: Tree, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """What the agent would decrypt, by path; nothing where that is not known without the key."""
    found = dict.fromkeys(filter(secret_files.is_secret, tree), b"")
    for path in found:
        with suppress(CommitdError):
            if path.endswith(SECRET_SUFFIX):
                found[path] = placeholders.plaintext(contents.get(path, b""), path)
    return found


def _put(root: Path, path: str, mode: str, content: bytes) -> None:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    if mode != SYMLINK:
        place.write_bytes(content)
    elif checkout_safety.stays_inside(path, target := content.decode(errors="replace")):
        place.symlink_to(target)
