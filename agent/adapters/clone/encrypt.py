"""Encrypting for hosts with SOPS and age; the plaintext only goes through a pipe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from agent.adapters import process
from agent.domain.compose import redact
from agent.domain.errors import PermanentError
from agent.domain.repository import encryption_faults, secret_files

TIMEOUT_S = 60.0
_NO_RULES = ("--config", os.devnull)
_MOST = 300
"""Characters of what SOPS says."""


async def seal(
    sops: Path, plaintext: bytes, path: str, recipients: Sequence[str], root: Path
) -> bytes:
    """The SOPS file of a dotenv ``plaintext`` that will be at ``path`` below ``root``.

    For ``recipients`` alone, whatever ``.sops.yaml`` says: SOPS refuses a file that none of its
    rules names, also when it is told for whom. Without recipients those rules count. Raises
    :class:`PermanentError` with what SOPS says, and nothing of the plaintext.
    """
    rules, chosen = (_NO_RULES, ["--age", ",".join(recipients)]) if recipients else ((), [])
    result = await process.run(
        [
            str(sops), *rules, "encrypt", *chosen, "--input-type", "dotenv",
            "--output-type", "dotenv", "--filename-override", str(root / path),
        ],
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent"},
        timeout_s=TIMEOUT_S,
        cwd=root,
        stdin=plaintext,
    )  # fmt: skip
    by_rules = "name recipients with --age, or mend the rule for it in .sops.yaml"
    if result.code != 0 or not result.out:
        lines = result.err.decode(errors="replace").split("\n")
        said = redact.text(" / ".join(filter(None, map(str.strip, lines))), _words(plaintext, path))
        message = f"sops does not encrypt it: {said[:_MOST] or f'it ended with {result.code}'}"
        raise PermanentError(message, where=path, hint=None if recipients else by_rules)
    if fault := encryption_faults.examine(result.out, path)[1]:
        raise PermanentError(fault.message, where=path, hint=by_rules)
    return result.out


def _words(plaintext: bytes, path: str) -> list[str]:
    return [*secret_files.words(path, plaintext), *plaintext.decode(errors="replace").split("\n")]
