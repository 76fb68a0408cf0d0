"""What stands in for secret values where there is no key: every name, and no value.

SOPS leaves the names in a dotenv file readable. A placeholder is a number, which fits most places
that a secret is put into, and follows from the ciphertext: it changes when the secret does.
"""

from __future__ import annotations

import hashlib

from agent.domain import dotenv
from agent.domain.errors import PermanentError

_SOPS_OWN = "sops_"
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


def _placeholder(sealed: str) -> str:
    number = int.from_bytes(hashlib.sha256(sealed.encode()).digest()[:8])
    return str(_LOWEST + number % _SPAN)
