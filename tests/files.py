"""Writing many files at once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path


def write(root: Path, files: Mapping[str, str | bytes | None]) -> None:
    """Write files by their path below ``root``; None deletes a file or a whole directory."""
    for name, content in files.items():
        path = root / name
        if content is None:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
