"""A person's clone of the repository: its files, read, and replaced whole."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from agent.domain.errors import ConfigError, PermanentError
from agent.domain.recipients import rules
from agent.domain.repository.layout import PLAINTEXT_PREFIX, SECRET_SUFFIX
from agent.domain.repository.tree import PLAIN, SYMLINK, TreeEntry, blob_id

_STACKS = "stacks"
_PLACES = ("global", "host", _STACKS)


class Clone:
    """Files below ``root``, named by paths relative to it with ``/``. All methods block."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @classmethod
    def around(cls, start: Path, named_by: str) -> Clone:
        """The clone whose ``stacks/`` is in ``start`` or the nearest directory above it.

        ``named_by`` is how the person names another on the command line. Raises
        :class:`ConfigError`.
        """
        here = start.resolve()
        for directory in (here, *here.parents):
            if (directory / _STACKS).is_dir():
                return cls(directory)
        message = f"there is no directory {_STACKS}/ here or above"
        hint = f"go to your clone of the repository, or name it: {named_by}"
        raise ConfigError(message, where=str(here), hint=hint)

    def stacks(self) -> list[str]:
        """Names of the stacks, sorted. Raises :class:`PermanentError`."""
        place = self.root / _STACKS
        try:
            return sorted(entry.name for entry in place.iterdir() if entry.is_dir())
        except OSError as err:
            raise _failed("read", err, _STACKS) from None

    def files(self) -> list[str]:
        """Paths of all files in the directories that matter, and ``.sops.yaml``; no links.

        Raises :class:`PermanentError`.
        """
        found = [rules.PATH] if (self.root / rules.PATH).is_file() else []

        def fail(err: OSError) -> None:
            raise _failed("read", err, os.path.relpath(err.filename or self.root, self.root))

        for place in filter(lambda name: (self.root / name).is_dir(), _PLACES):
            for directory, _, names in os.walk(self.root / place, onerror=fail):
                here = Path(directory)
                found += [
                    (here / name).relative_to(self.root).as_posix()
                    for name in names
                    if not (here / name).is_symlink()
                ]
        return sorted(found)

    def read(self, path: str) -> bytes:
        """The bytes. Raises :class:`PermanentError`."""
        try:
            return (self.root / path).read_bytes()
        except OSError as err:
            raise _failed("read", err, path) from None

    def has(self, path: str) -> bool:
        """Whether anything is there, be it a link to nowhere."""
        return os.path.lexists(self.root / path)

    def everything(
        self, *, only: tuple[str, ...] = ()
    ) -> tuple[dict[str, TreeEntry], dict[str, bytes]]:
        """The files as Git would have them, those included that it ignores, and their bytes.

        Without plaintext. With ``only``, the bytes of files whose names end so, where these can be
        read. Raises :class:`PermanentError`.
        """
        tree: dict[str, TreeEntry] = {}
        contents: dict[str, bytes] = {}
        for base, directories, names in os.walk(self.root):
            directories[:] = sorted(set(directories) - {".git"})
            links = [each for each in directories if Path(base, each).is_symlink()]
            for name in (*names, *links):
                place = Path(base, name)
                path = place.relative_to(self.root).as_posix()
                link = place.is_symlink()
                if name.startswith(PLAINTEXT_PREFIX) or not (link or place.is_file()):
                    continue
                mode = SYMLINK if link else PLAIN
                tree[path] = TreeEntry(path, mode, "", 0)
                if only and not link and not name.endswith(only):
                    continue
                try:
                    content = str(place.readlink()).encode() if link else place.read_bytes()
                except OSError as err:
                    if only:
                        continue
                    raise _failed("read", err, path) from None
                tree[path] = TreeEntry(path, mode, blob_id(content), len(content))
                contents[path] = content
        return tree, contents

    def around_stacks(self, host: str) -> dict[str, bytes]:
        """What decides on every stack of ``host``: policy and plain values, by path.

        Secrets are left out. Raises :class:`PermanentError`.
        """
        found: dict[str, bytes] = {}
        for place in ("global", f"host/{host}"):
            directory = self.root / place
            for name in sorted(p.name for p in directory.iterdir()) if directory.is_dir() else ():
                if name == "commitd.yaml" or (
                    name.endswith(".env") and not name.endswith(SECRET_SUFFIX)
                ):
                    found[f"{place}/{name}"] = self.read(f"{place}/{name}")
        return found

    def create(self, path: str, content: bytes, *, private: bool = False) -> None:
        """Write a file that is not there yet, with its directories.

        ``private``: for its owner alone. Raises :class:`PermanentError`.
        """
        target = self.root / path
        try:
            if not target.parent.resolve().is_relative_to(self.root):
                raise PermanentError("a link leads out of the repository", where=path)
            target.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(target, flags, 0o600 if private else 0o644), "wb") as file:
                file.write(content)
        except OSError as err:
            raise _failed("written", err, path) from None

    def discard(self, path: str) -> None:
        """Take back a file that was just created, and its directory if that is empty then."""
        target = self.root / path
        with suppress(OSError):
            target.unlink()
            target.parent.rmdir()

    def replace(self, path: str, content: bytes) -> None:
        """Put ``content`` in the place of a file, if there is one: whole or not at all, mode kept.

        Raises :class:`PermanentError`; the old file then stays.
        """
        target = self.root / path
        try:
            before = target.stat() if target.exists() else None
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            temporary = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    if before:
                        with suppress(PermissionError):  # it stays ours, as with any editor
                            os.fchown(file.fileno(), before.st_uid, before.st_gid)
                    os.fchmod(file.fileno(), before.st_mode & 0o7777 if before else 0o644)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as err:
            raise _failed("written", err, path) from None


def _failed(what: str, err: OSError, path: str) -> PermanentError:
    return PermanentError(f"it cannot be {what}: {err.strerror}", where=path)
