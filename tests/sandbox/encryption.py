"""age keys and SOPS files, made with the real programs, as a person would."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.sandbox.process import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Kind = Literal["dotenv", "json", "yaml", "ini", "binary"]


@dataclass(frozen=True)
class AgeKey:
    """A key pair: the file (mode 0600) that decrypts, and the public `age1…` to encrypt for."""

    private: Path
    recipient: str


class Encryption:
    """Makes age keys and encrypts for them."""

    def __init__(self, root: Path, sops: Path) -> None:
        root.mkdir(mode=0o700)
        self._root = root
        self._sops = sops
        self._numbers = itertools.count(1)

    def new_key(self) -> AgeKey:
        """Create a key pair."""
        path = self._root / f"age-{next(self._numbers)}.txt"
        run(["age-keygen", "-o", path])
        path.chmod(0o600)
        return AgeKey(path, run(["age-keygen", "-y", path]).decode().strip())

    def encrypt(self, plaintext: str | bytes, recipients: Sequence[str], kind: Kind) -> bytes:
        """Encrypt a file of the given kind for `age1…` recipients; returns the SOPS file."""
        content = plaintext.encode() if isinstance(plaintext, str) else plaintext
        command: list[str | Path] = [self._sops, "encrypt", "--age", ",".join(recipients)]
        command += ["--input-type", kind, "--output-type", "json" if kind == "binary" else kind]
        # The empty directory keeps a `.sops.yaml` of the caller's out of it.
        return run(
            [*command, "--filename-override", f"secret.{kind}"], stdin=content, cwd=self._root
        )
