"""Why a host cannot read an encrypted file, told from the file and the public half of its key."""

from __future__ import annotations

from collections.abc import Sequence

from agent.domain.errors import PermanentError
from agent.domain.sops import metadata
from agent.domain.sops.metadata import SopsFile

_SHOWN = 16
"""Characters of a key by which a person knows it."""
_LISTED = 4
_SAID = "this host's age key cannot decrypt it"
_ADD = (
    "see that the host's age.pub in the repository is this key, then run commitd secrets "
    "recipients --write --update where a key is that can read the file"
)


def refusal(content: bytes, path: str, own: Sequence[str], *, others: bool) -> PermanentError:
    """The error for the file at ``path`` which none of the host's identities opened.

    ``own`` are their recipients, as far as they can be told. ``others`` says that there are
    identities of which they cannot: post-quantum ones and plugins.
    """
    try:
        file = metadata.read(content, path)
    except PermanentError:
        file = None
    if file is None:
        return PermanentError(_SAID, where=path)
    for place, recipient in enumerate(file.recipients, 1):
        if recipient in own:
            line = metadata.line_of(content, recipient)
            return _is_recipient(file, place, f"{path}:{line}")
    if not file.recipients:
        kinds = ", ".join(file.others) or "other kinds"
        return PermanentError(
            f"{_SAID}: it is encrypted for keys of {kinds}, for none of age", where=path, hint=_ADD
        )
    count = len(file.recipients)
    found = f"its {count} recipients" if count > 1 else "its one recipient"
    found += f" ({_some(file.recipients)})"
    if others:
        message = f"{_SAID}: which of {found} is this host's cannot be told from a key of its kind"
        hint = "if its public half is not among them, add it and run sops updatekeys"
        return PermanentError(message, where=path, hint=hint)
    verb = "is" if len(own) == 1 else "are"
    none = f"{verb} none of" if count > 1 else f"{verb} not"
    return PermanentError(f"{_SAID}: {' and '.join(own)} {none} {found}", where=path, hint=_ADD)


def _is_recipient(file: SopsFile, place: int, where: str) -> PermanentError:
    """The host's key is recipient number ``place``, from 1, and the file is closed to it still."""
    path = where.rpartition(":")[0]
    mine = f"{file.recipients[place - 1][:_SHOWN]}… is recipient {place} of {len(file.recipients)}"
    if file.groups > 1:
        return PermanentError(
            f"{_SAID} alone: its key {mine}, but keys of {file.groups} groups must come together",
            where=where,
            hint=f"set shamir_threshold: 1 in .sops.yaml, then sops updatekeys {path}",
        )
    return PermanentError(
        f"{_SAID}: its key {mine}, but what follows that line is not encrypted for it; a hand or a "
        "merge has mixed the entries up",
        where=where,
        hint=f"put the file back as it was, or run sops rotate -i {path} where another of its "
        "keys is",
    )


def _some(keys: Sequence[str]) -> str:
    shown = [f"{key[:_SHOWN]}…" for key in keys[:_LISTED]]
    return ", ".join([*shown, "…"] if len(keys) > _LISTED else shown)
