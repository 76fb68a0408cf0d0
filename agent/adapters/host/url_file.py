"""A URL that is a secret, from a file: whoever has it can use what it leads to."""

from __future__ import annotations

import os
from pathlib import Path

from agent.adapters.host.key_file import out_of_sight, refuse_open
from agent.domain.errors import ConfigError

_LONGEST = 4096
"""Bytes."""


def read_url(path: Path, what: str) -> str:
    """The URL in the file, the only line that is neither empty nor a comment (``#``).

    ``what`` names the setting. Raises :class:`ConfigError`; never shows a byte of it. Blocks.
    """
    try:
        # Without waiting, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LONGEST + 1)
    except OSError as err:
        message = f"{what}: the file cannot be read: {err.strerror}"
        hint = out_of_sight(path) if isinstance(err, FileNotFoundError) else None
        raise ConfigError(message, where=str(path), hint=hint) from None
    refuse_open(path, mode)
    lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
    urls = [line for line in lines if line and not line.startswith("#")]
    if len(content) > _LONGEST or len(urls) != 1 or not urls[0].isprintable():
        raise ConfigError(f"{what}: the file holds no single URL", where=str(path))
    scheme, separator, rest = urls[0].partition(":")
    if not (scheme and separator and rest) or " " in urls[0]:
        raise ConfigError(f"{what}: what the file holds is no URL", where=str(path))
    return urls[0]
