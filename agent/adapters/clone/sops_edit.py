"""A person's own SOPS, which changes files of a clone with whatever key that person has.

What it prints is not shown: only its exit code is translated. It may ask for a passphrase or a
touch on the terminal, which it opens itself.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from agent.domain.errors import ConfigError, PermanentError, TransientError
from agent.domain.repository.secret_files import sops_type

TIMEOUT_S = 120.0
_NO_KEY = 128


def opened(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The plaintext of encrypted files, by path, without those that this person cannot decrypt.

    Blocks, as the methods below.
    """
    program = shutil.which("sops")
    found: dict[str, bytes] = {}
    for path, ciphertext in files.items() if program else ():
        kind = sops_type(path)
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
