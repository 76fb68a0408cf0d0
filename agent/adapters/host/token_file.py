"""A token that others show to the agent, from a file."""

from __future__ import annotations

import os
from pathlib import Path

from agent.adapters.host.key_file import out_of_sight, refuse_open
from agent.domain.errors import ConfigError

_SHORTEST, _LONGEST = 16, 4096
"""Characters."""


def read_token(path: Path, what: str) -> bytes:
    """The token in the file, without white space around it; ``what`` names the setting.

    Raises :class:`ConfigError`; never shows a byte of it. Blocks.
    """
    try:
        # Without waiting, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(_LONGEST + 1).strip()
    except OSError as err:
        message = f"{what}: the file cannot be read: {err.strerror}"
        hint = out_of_sight(path) if isinstance(err, FileNotFoundError) else None
        raise ConfigError(message, where=str(path), hint=hint) from None
    refuse_open(path, mode)
    if not token.isascii() or not token.decode("ascii", "replace").isprintable():
        raise ConfigError(f"{what}: the token is not one line of ASCII", where=str(path))
    if not _SHORTEST <= len(token) <= _LONGEST:
        message = f"{what}: the token has {len(token)} characters, and needs {_SHORTEST} at least"
        raise ConfigError(message, where=str(path), hint=f"openssl rand -hex 32 > {path}")
    return token
