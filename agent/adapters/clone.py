"""A person's clone of the repository: its files, read, and replaced whole."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from agent.domain import sops_rules
from agent.domain.errors import ConfigError, PermanentError
from agent.domain.layout import COMPOSE_NAMES

_STACKS = "stacks"
_PLACES = ("global", "host", _STACKS)


class Clone:
    """Files below ``root``, named by paths relative to it with ``/``. All methods block."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    @classmethod
    def around(cls, start: Path) -> Clone:
        """The clone whose ``stacks/`` is in ``start`` or the nearest directory above it.

        Raises :class:`ConfigError`.
        """
        here = start.resolve()
        for directory in (here, *here.parents):
            if (directory / _STACKS).is_dir():
                return cls(directory)
        raise ConfigError(
            f"there is no directory {_STACKS}/ here or above",
            where=str(here),
            hint="go to your clone of the repository, or name it with --dir",
        )

    def stacks(self) -> list[str]:
        """Names of the stacks, sorted. Raises :class:`PermanentError`."""
        place = self.root / _STACKS
        try:
            return sorted(entry.name for entry in place.iterdir() if entry.is_dir())
        except OSError as err:
            raise _failed("read", err, _STACKS) from None

    def compose_files(self, stack: str) -> list[str]:
        """Paths of the Compose files of one stack."""
        paths = [f"{_STACKS}/{stack}/{name}" for name in COMPOSE_NAMES]
        return [path for path in paths if (self.root / path).exists()]

    def files(self) -> list[str]:
        """Paths of all files in the directories that matter, and ``.sops.yaml``; no links.

        Raises :class:`PermanentError`.
        """
        found = [sops_rules.PATH] if (self.root / sops_rules.PATH).is_file() else []

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

    def true_path(self, path: str) -> str:
        """The path of the file itself where ``path`` is a link.

        Raises :class:`PermanentError` when that is outside of the clone.
        """
        try:
            return (self.root / path).resolve().relative_to(self.root).as_posix()
        except ValueError:
            raise PermanentError(
                "the link leads out of the repository", where=path, hint="commit the file itself"
            ) from None
        except (OSError, RuntimeError):
            raise PermanentError(
                "the link leads nowhere", where=path, hint="commit the file itself"
            ) from None

    def read(self, path: str) -> bytes:
        """The bytes. Raises :class:`PermanentError`."""
        try:
            return (self.root / path).read_bytes()
        except OSError as err:
            raise _failed("read", err, path) from None

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
