"""Encrypting for hosts with SOPS and age; the plaintext only goes through a pipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agent.adapters import process
from agent.domain.errors import PermanentError

TIMEOUT_S = 60.0


async def seal(
    sops: Path, plaintext: bytes, path: str, recipients: Sequence[str], root: Path
) -> bytes:
    """The SOPS file of a dotenv ``plaintext`` that will be at ``path`` below ``root``.

    Without ``recipients`` the rules of ``.sops.yaml`` count. Raises :class:`PermanentError`;
    what SOPS says is not shown.
    """
    chosen = ["--age", ",".join(recipients)] if recipients else []
    result = await process.run(
        [
            str(sops), "encrypt", *chosen, "--input-type", "dotenv", "--output-type", "dotenv",
            "--filename-override", str(root / path),
        ],
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"},
        timeout_s=TIMEOUT_S,
        cwd=root,
        stdin=plaintext,
    )  # fmt: skip
    if result.code != 0 or b"sops_mac=" not in result.out:
        raise PermanentError(
            f"sops ended with {result.code} and did not encrypt it",
            where=path,
            hint="is there an age recipient for it in .sops.yaml, or with --age?",
        )
    return result.out
