"""Which machine the keys beside a note belong to: a clone of it must not go by the same ones.

The number of a machine (``/etc/machine-id``) is not to be shown to others, so that the note holds a
digest of it, which is worth nothing elsewhere.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec
from msgspec import Struct

_WHAT = b"commitd: which machine the keys belong to"


class Identity(Struct, frozen=True, kw_only=True):
    """What was noted: the ``machine``, its name as a host, and the public halves of its keys."""

    machine: str
    host: str
    deploy_key: str | None = None
    age_keys: tuple[str, ...] = ()


def machine(machine_id: str) -> str | None:
    """What stands for a machine; None where it has no number yet (an image, a first boot)."""
    number = machine_id.strip()
    if len(number) != 32 or not all(c in "0123456789abcdef" for c in number):  # noqa: PLR2004
        return None
    return hmac.new(number.encode(), _WHAT, hashlib.sha256).hexdigest()


def read(content: bytes) -> Identity | None:
    """The note; None for a file that is none."""
    try:
        return msgspec.json.decode(content, type=Identity)
    except msgspec.DecodeError:
        return None


def written(identity: Identity) -> str:
    """The note as a file."""
    return msgspec.json.format(msgspec.json.encode(identity)).decode() + "\n"
