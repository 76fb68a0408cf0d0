"""Decrypted files: one that the agent reads, and beside the ciphertext a copy for who mounts it.

                     ┌▶ PRIVATE/stacks/web/.decrypted.x.secret.env    0600, read by the agent alone
    SOPS ─plaintext──┤        ▲ a link of the export, for ``env_file:``
                     └▶ CHECKOUT/stacks/web/.decrypted.x.secret.env   for mounts, and for people

A container that mounts the copy can change it, or put anything in its place. So it is never read
to be used: it is compared, and put right. All files are 0600, there whole or not at all, and never
written through a symlink. With ``volatile`` both are on a tmpfs, and in the checkout stands a
symlink to the copy: only that very link is ours, whatever else is in its place is replaced.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from agent.adapters import shared_tree
from agent.domain.config import Config
from agent.domain.errors import PermanentError
from agent.domain.repository import secret_files
from agent.domain.repository.layout import plaintext_path

log = logging.getLogger("commitd.secrets")

Owner = tuple[int, int]
"""Numeric user and group."""

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""A directory on the way that is missing, a file or a symlink: nothing of ours is behind it."""
_MODE = 0o600
_NEW = ".new"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PlaintextStore:
    """Files that are named by their paths in the repository. All methods block.

    ``checkout`` has the copies, ``export`` what Compose reads, ``checkout`` itself unless it is
    given. Below ``state`` and ``runtime`` are the agent's own files: ``volatile`` ones in
    ``runtime`` alone. An owner that is None is the agent's own user.
    """

    def __init__(
        self,
        checkout: Path,
        runtime: Path,
        *,
        state: Path,
        export: Path | None = None,
        volatile: bool = False,
    ) -> None:
        self.checkout = checkout
        self.export = export or checkout
        self.older = state / "older"
        """For older versions of env files, of stacks that were rolled back."""
        self.profiles = runtime / "seccomp"
        """For what Compose reads when it makes a container."""
        self._privates = (state / "plaintext", runtime / "plaintext")
        self._private = self._privates[volatile]
        self._mounted = runtime / "secrets"
        self._volatile = volatile
        self._seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    @classmethod
    def of(cls, config: Config, checkout: Path, export: Path) -> Self:
        """That of a host."""
        volatile = config.secrets is not None and config.secrets.store == "runtime"
        state, runtime = config.state_dir, config.runtime_dir
        return cls(checkout, runtime, state=state, export=export, volatile=volatile)

    def place(self, path: str) -> Path:
        """Where the agent's own file is."""
        return self._private / path

    def foreign_link(self, source: str) -> str | None:
        """The first link on the way to a mount's ``source`` that is neither Git's nor our own.

        None: there is none, or it is not in the checkout. Raises OSError.
        """
        return shared_tree.foreign_link_to(self.checkout, self.export, source, self.link)

    def link(self, path: str) -> str | None:
        """Where the agent's own link at ``path`` in the checkout leads; None: there is none."""
        return str(self._mounted / path) if self._volatile else None

    def present(self, path: str, owner: Owner | None = None) -> bool:
        """Whether the file is there; its copy, and whom that belongs to, are put right."""
        try:
            with ExitStack() as held:
                handle = self._open(path, held)
                self._show(path, handle, owner)
        except (OSError, PermanentError):
            return False
        return True

    def read(self, path: str) -> bytes:
        """The bytes; raises OSError."""
        with ExitStack() as held:
            handle = self._open(path, held)
            return shared_tree.read(handle, os.fstat(handle).st_size)

    def hidden(self, paths: Iterable[str]) -> tuple[str, ...] | None:
        """What of the secret files with these ``paths`` in Git no message may show.

        None: one cannot be read.
        """
        try:
            return secret_files.hidden({path: self.read(plaintext_path(path)) for path in paths})
        except OSError:
            return None

    def _open(self, path: str, held: ExitStack) -> int:
        directory, name = shared_tree.enter(self._private, path, held)
        return shared_tree.open_regular(name, directory, held)

    def write(self, path: str, content: bytes, owner: Owner | None = None) -> None:
        """Put ``content`` there, durably: temporary file, fsync, rename, fsync of the directory.

        Raises :class:`PermanentError` when a directory on the way is a symlink or missing, OSError
        when the disk refuses; the old file then stays as it was.
        """
        with ExitStack() as held:
            self._enter(self.checkout, path, held)
            directory, name = shared_tree.enter(self._private, path, held, make=True)
            new = f"{name}{_NEW}"
            _replace(directory, new, _file(content, None))
            try:
                # The copy before: if what follows fails, it is made that of the old file again.
                self._show(path, shared_tree.open_regular(new, directory, held), owner)
                os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(new, dir_fd=directory)
                raise
            os.fsync(directory)
        for other in self._others:
            _delete(other, path)

    def _show(self, path: str, source: int, owner: Owner | None) -> None:
        """Have the copy and the links be as they are to be. Raises as :meth:`write` does."""
        with ExitStack() as held:
            beside = self._enter(self.checkout, path, held)
            place = beside
            if self._volatile:
                place = shared_tree.enter(self._mounted, path, held, make=True)
            if not self._right(path, place, source, owner):
                content = shared_tree.read(source, os.fstat(source).st_size)
                if _signature(source) == self._seen.get(path, ((), ()))[0]:
                    log.warning("%s was changed by something else: writing it again", path)
                _replace(*place, _file(content, owner))
                self._right(path, place, source, owner)
            if self._volatile:
                _link(*beside, self._mounted / path)
            if self.export != self.checkout:
                _link(*self._enter(self.export, path, held), self._private / path)

    def _enter(self, tree: Path, path: str, held: ExitStack) -> tuple[int, str]:
        try:
            return shared_tree.enter(tree, path, held)
        except OSError as err:
            raise PermanentError(
                f"the plaintext cannot be written: {err.strerror}", where=path
            ) from None

    def _right(self, path: str, place: tuple[int, str], source: int, owner: Owner | None) -> bool:
        """Whether the copy is what it is to be; mode and owner are put right in place."""
        with ExitStack() as held:
            try:
                copy = shared_tree.open_regular(place[1], place[0], held)
            except OSError:
                return False
            size, info = os.fstat(source).st_size, os.fstat(copy)
            # Another name of the file can be in a place that is not ours to give away.
            if info.st_nlink != 1 or info.st_size != size:
                return False
            if (_signature(source), _signature(copy)) != self._seen.get(path) and (
                shared_tree.read(source, size) != shared_tree.read(copy, size)
            ):
                return False
            try:
                _give(copy, owner)
            except OSError:  # of another owner, whose mode only CAP_FOWNER could change
                return False
            self._seen[path] = (_signature(source), _signature(copy))
            return True

    def delete(self, path: str, *, with_copy: bool = True) -> None:
        """Remove the file if it is there, and the copy of it that containers may mount.

        Raises OSError when it stays.
        """
        self._seen.pop(path, None)
        copies = (self._mounted, self.checkout) if with_copy else ()
        for base in (*self._privates, self.export, *copies):
            if with_copy or base != self.checkout:
                _delete(base, path)

    @property
    def _others(self) -> list[Path]:
        """Where a file may be left from when the configuration was another."""
        others = [base for base in self._privates if base != self._private]
        return others if self._volatile else [*others, self._mounted]


def _signature(handle: int) -> tuple[int, ...]:
    """What changes with the content of a file, and cannot be set back."""
    info = os.fstat(handle)
    return (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _file(content: bytes, owner: Owner | None) -> Callable[[str, int], None]:
    def create(name: str, directory: int) -> None:
        with os.fdopen(os.open(name, _CREATE, _MODE, dir_fd=directory), "wb") as file:
            _give(file.fileno(), owner)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    return create


def _link(directory: int, name: str, target: Path) -> None:
    """Have ``name`` be a symlink to ``target``."""
    with suppress(OSError):
        if os.readlink(name, dir_fd=directory) == str(target):
            return
    _replace(directory, name, lambda new, there: os.symlink(target, new, dir_fd=there))


def _give(handle: int, owner: Owner | None) -> None:
    """Have the file belong to ``owner`` and be readable by nobody else."""
    info = os.fstat(handle)
    if stat.S_IMODE(info.st_mode) != _MODE:
        os.fchmod(handle, _MODE)
    wanted = owner or (os.geteuid(), os.getegid())
    if (info.st_uid, info.st_gid) != wanted:
        os.fchown(handle, *wanted)


def _replace(directory: int, name: str, create: Callable[[str, int], None]) -> None:
    """Put what ``create`` makes in the place of ``name``, at once."""
    # Always the same name: what a killed agent left of it goes here or with the file itself.
    temporary = _temporary(name)
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory)
    try:
        create(temporary, directory)
        try:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except IsADirectoryError:
            # The engine makes one where a file that it is to mount is missing.
            os.rmdir(name, dir_fd=directory)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def _delete(base: Path, path: str) -> None:
    with ExitStack() as held:
        try:
            directory, name = shared_tree.enter(base, path, held)
        except OSError as err:
            if err.errno not in _GONE:
                raise
            return
        for each in (_temporary(name), _temporary(f"{name}{_NEW}"), f"{name}{_NEW}", name):
            try:
                os.unlink(each, dir_fd=directory)
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                with suppress(OSError):  # with something in it, it is not the engine's, nor ours
                    os.rmdir(each, dir_fd=directory)


def _temporary(name: str) -> str:
    return f"{name}.tmp"
