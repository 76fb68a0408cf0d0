"""Seccomp profiles by what is in them. Compose reads such a file, and hashes its name alone.

So it gets another name for another profile: a private file called by its hash, in the place of the
one in the repository.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from agent.adapters import shared_tree
from agent.domain.errors import PermanentError, TransientError

_LARGEST = 1024 * 1024
"""Bytes; those that people write have some ten thousand."""


def read(root: Path, base: Path, names: Iterable[str], where: str) -> dict[str, bytes]:
    """What the files ``names`` say, relative to ``base``, all below ``root``. Blocks.

    Raises :class:`PermanentError` for one that is not in the repository or too large, said of
    ``where``.
    """
    found: dict[str, bytes] = {}
    for name in names:
        real = os.path.realpath(base / name)
        try:
            path = Path(real).relative_to(os.path.realpath(root))
            with ExitStack() as held:
                directory, last = shared_tree.enter(root, path.as_posix(), held)
                handle = shared_tree.open_regular(last, directory, held)
                content = shared_tree.read(handle, _LARGEST + 1)
        except (OSError, ValueError):
            raise PermanentError(
                f"security_opt: the seccomp profile {name!r} is not a file of the repository",
                where=where,
                hint="commit it beside the Compose file, and name it by a relative path",
            ) from None
        if len(content) > _LARGEST:
            raise PermanentError(
                f"security_opt: the seccomp profile {name!r} has more than the limit of "
                f"{_LARGEST} bytes",
                where=where,
                hint="make it shorter",
            )
        found[name] = content
    return found


def called(directory: Path, content: bytes) -> Path:
    """Where the private file with this content is."""
    return directory / f"{hashlib.sha256(content).hexdigest()}.json"


def provide(files: Mapping[Path, bytes]) -> None:
    """Have these private files there. Blocks; raises :class:`TransientError`."""
    for path, content in files.items():
        try:
            if path.exists() and path.read_bytes() == content:
                continue
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(f".{secrets.token_hex(4)}")
            temporary.write_bytes(content)
            temporary.chmod(0o600)
            temporary.replace(path)
        except OSError as err:
            message = f"the seccomp profile cannot be written: {err.strerror}"
            raise TransientError(message, where=str(path)) from None
