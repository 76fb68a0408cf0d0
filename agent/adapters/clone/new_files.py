"""Files that are not there yet: nothing is written as long as one of them is in another's place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from agent.domain.errors import ConfigError, PermanentError


def write(root: Path, files: Mapping[str, str]) -> list[str]:
    """Write ``files``, named by paths below ``root``, and return those that were not there before.

    A file that is there already with the same content stays. Raises :class:`ConfigError` before
    anything is written when another one would be overwritten, or something is in its way, and
    :class:`PermanentError` when writing fails. Blocks.
    """
    missing = [path for path, text in files.items() if not _is_there(root, path, text)]
    for path in missing:
        file = root / path
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as new:
                new.write(files[path])
        except OSError as err:
            if not isinstance(err, FileExistsError):
                file.unlink(missing_ok=True)  # half a file would be in the way of the next try
            raise PermanentError(f"it cannot be written: {err.strerror}", where=str(file)) from None
    return missing


def _is_there(root: Path, path: str, text: str) -> bool:
    file = root / path
    for above in Path(path).parents:
        place = root / above
        through_link = above.parts and place.is_symlink()
        if through_link or (os.path.lexists(place) and not place.is_dir()):
            raise _in_the_way(place)
    if not os.path.lexists(file):
        return False
    try:
        if not file.is_symlink() and file.is_file() and file.read_bytes() == text.encode():
            return True
    except OSError:
        pass
    raise _in_the_way(file)


def _in_the_way(path: Path) -> ConfigError:
    hint = "take a new directory, or move it away"
    return ConfigError("it is there already and is not overwritten", where=str(path), hint=hint)
