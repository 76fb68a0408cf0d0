"""The host's age key: made once, never shown; its public half, worked out from it."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.domain.errors import ConfigError
from agent.domain.sops import bech32

_PRIVATE, _PUBLIC = "age-secret-key-", "age"


def make(path: Path) -> None:
    """Put a new key there, in the form of ``age-keygen``: mode 0600, whole, and only if there is
    nothing yet. Raises :class:`ConfigError`.
    """
    key = X25519PrivateKey.generate()
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    identity = bech32.encode(_PRIVATE, key.private_bytes_raw()).upper()
    content = f"# created: {now}\n# public key: {_recipient(key)}\n{identity}\n"
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # A link, unlike a rename, never takes the place of a key that somebody else made now.
            os.link(temporary, path)
        finally:
            temporary.unlink()
        _keep_name(path.parent)
    except OSError as err:
        raise ConfigError(f"no key can be put there: {err.strerror}", where=str(path)) from None


def _keep_name(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def recipients(key: bytes) -> list[str]:
    """The public half of each X25519 identity in the file; other kinds are left out."""
    found = []
    for line in key.decode(errors="replace").splitlines():
        with suppress(ValueError):
            kind, data = bech32.decode(line.strip())
            if kind == _PRIVATE:
                found.append(_recipient(X25519PrivateKey.from_private_bytes(data)))
    return found


def has_others(key: bytes) -> bool:
    """Whether there are identities in the file that :func:`recipients` leaves out."""
    found = sum(line.strip().upper().startswith(b"AGE-") for line in key.splitlines())
    return found > len(recipients(key))


def _recipient(key: X25519PrivateKey) -> str:
    return bech32.encode(_PUBLIC, key.public_key().public_bytes_raw())
