"""Files that Git has only a pointer to: hosts run no filters, so the pointer is what they get."""

from __future__ import annotations

MAX_BYTES = 1024
"""Of a pointer; what is longer is the file itself."""
_BEGIN = b"version https://git-lfs.github.com/spec/"

MESSAGE = "Git has only an LFS pointer in the place of this file, and hosts fetch nothing from LFS"
HINT = "git lfs untrack it, then git add --renormalize"


def is_pointer(content: bytes) -> bool:
    """Whether a file is a pointer of Git LFS."""
    return content.startswith(_BEGIN) and len(content) <= MAX_BYTES
