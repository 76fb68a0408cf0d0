"""A person's own SOPS, which encrypts, and changes files of a clone with that person's key.

What it prints while it decrypts is not shown: only its exit code is translated. It may ask for a
passphrase or a touch on the terminal, which it opens itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agent.adapters import process
from agent.domain.compose import redact
from agent.domain.errors import ConfigError, PermanentError, TransientError
from agent.domain.repository import encryption_faults, secret_files

TIMEOUT_S = 120.0
_NO_KEY = 128
_NO_RULES = ("--config", os.devnull)
_MOST = 300
"""Characters of what SOPS says."""


def opened(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The plaintext of encrypted files, by path, without those that this person cannot decrypt.

    Blocks, as the methods below.
    """
    program = shutil.which("sops")
    found: dict[str, bytes] = {}
    for path, ciphertext in files.items() if program else ():
        kind = secret_files.sops_type(path)
        with suppress(OSError, subprocess.TimeoutExpired):
            ended = subprocess.run(
                [str(program), "decrypt", "--input-type", kind, "--output-type", kind],
                input=ciphertext,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,
            )
            if ended.returncode == 0:
                found[path] = ended.stdout
    return found


class SopsEditor:
    """The ``sops`` on the PATH, working in the clone at ``root``. Its methods block."""

    def __init__(self, root: Path) -> None:
        program = shutil.which("sops")
        if program is None:
            raise ConfigError(
                "sops is not on this machine", hint="install it where the key to the secrets is"
            )
        self._program = program
        self._root = root

    def update_keys(self, path: str) -> None:
        """Encrypt the file's data key for the recipients of ``.sops.yaml``.

        Raises :class:`CommitdError`.
        """
        self._run(path, "updatekeys", "--yes", path)

    def new_data_key(self, path: str) -> None:
        """Encrypt the values anew, so that who kept the old data key can read no later version.

        Raises :class:`CommitdError`.
        """
        self._run(path, "rotate", "--in-place", path)

    def _run(self, path: str, *words: str) -> None:
        try:
            ended = subprocess.run(
                [self._program, *words],
                cwd=self._root,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TransientError(f"sops did not end within {TIMEOUT_S:g} s", where=path) from None
        except OSError as err:
            raise ConfigError(f"sops cannot be started: {err.strerror}") from None
        if ended.returncode == _NO_KEY:
            hint = "do it where one is: SOPS_AGE_KEY_FILE names its file"
            raise PermanentError("no key that is at hand can read it", where=path, hint=hint)
        if ended.returncode:
            message = f"sops {words[0]} ended with {ended.returncode}"
            raise PermanentError(message, where=path, hint=f"sops {' '.join(words)} says why")


async def seal(
    sops: Path, plaintext: bytes, path: str, recipients: Sequence[str], root: Path
) -> bytes:
    """The SOPS file of a dotenv ``plaintext`` that will be at ``path`` below ``root``.

    For ``recipients`` alone, whatever ``.sops.yaml`` says: SOPS refuses a file that none of its
    rules names, even with recipients given. Without recipients those rules count. Raises
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
