"""The host's age key: made once, never shown; its public half, worked out from it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.adapters import private_file
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
    try:
        private_file.make(path, content)
    except OSError as err:
        raise ConfigError(f"no key can be put there: {err.strerror}", where=str(path)) from None


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
