"""What stands in for secret values where there is no key: every name, and no value.

SOPS leaves the names in a dotenv file readable. A placeholder is a number, which fits most places
that a secret is put into, and follows from the ciphertext: it changes when the secret does.
"""

from __future__ import annotations

import hashlib
import re

from agent.domain.errors import PermanentError
from agent.domain.repository import dotenv

_SOPS_OWN = "sops_"
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_LOWEST, _SPAN = 10_000, 50_000


def values(ciphertext: bytes, path: str) -> dict[str, str]:
    """The variables of the SOPS dotenv file at ``path``, each with a placeholder of five digits.

    Raises :class:`PermanentError`.
    """
    try:
        pairs = dotenv.decrypted_values(ciphertext)
    except ValueError as err:
        raise PermanentError(str(err).replace("plaintext", "file"), where=path) from None
    return {
        key: _placeholder(value) for key, value in pairs.items() if not key.startswith(_SOPS_OWN)
    }


def plaintext(ciphertext: bytes, path: str) -> bytes:
    """The same as the file that SOPS would decrypt. Raises :class:`PermanentError`."""
    pairs = values(ciphertext, path)
    return "".join(f"{key}={value}\n" for key, value in pairs.items()).encode()


def guessed(content: bytes) -> tuple[dict[str, str], bool]:
    """The same of a file that may be anything, and whether those are surely all it sets.

    For one that is not encrypted, or is damaged.
    """
    text = content.decode(errors="replace")
    pairs = {entry.key: text[entry.start : entry.end] for entry in dotenv.entries(text)}
    named = {key: value for key, value in pairs.items() if _NAME.fullmatch(key)}
    own = {key: _placeholder(v) for key, v in named.items() if not key.startswith(_SOPS_OWN)}
    return own, len(named) == len(pairs)


def _placeholder(sealed: str) -> str:
    number = int.from_bytes(hashlib.sha256(sealed.encode()).digest()[:8])
    return str(_LOWEST + number % _SPAN)
