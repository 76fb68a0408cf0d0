"""Whether a file that is called secret is encrypted as its name says, and if not, why.

Everybody who asks that asks here: the layout, ``commitd check``, ``commitd secrets`` and the host
before it runs SOPS. What SOPS says of such a file depends on the format that it takes it for, and
to encrypt it once more is often the wrong remedy.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress

from agent.domain import lfs
from agent.domain.errors import PermanentError
from agent.domain.repository.secret_files import sops_type
from agent.domain.sops import metadata
from agent.domain.sops.metadata import SopsFile
from agent.domain.sops.scope import Scope

_PUSHED = "what has been pushed in the clear must be changed"
_ENDED_BY_CR = re.compile(rb"^sops_lastmodified=[^\n]*\r$", re.MULTILINE)
_NAMES = {"dotenv": "x.secret.env", "yaml": "x.secret.yaml", "json": "x.secret.json",
          "ini": "x.secret.ini"}  # fmt: skip
"""Files by the names that :func:`metadata.read` tells them apart by."""


def examine(content: bytes, path: str) -> tuple[SopsFile | None, PermanentError | None]:
    """What the file tells if it is encrypted, and why nobody can use it as a secret, if so.

    A single value in the clear is none of these faults; SOPS refuses it, or it is meant. Raises
    :class:`PermanentError` for a file that is not of its kind.
    """
    if lfs.is_pointer(content):
        return None, PermanentError(lfs.MESSAGE, where=path, hint=lfs.HINT)
    file = metadata.read(content, path)
    return file, _fault(file, content, path)


def _fault(file: SopsFile | None, content: bytes, path: str) -> PermanentError | None:
    kind = sops_type(path)
    if file is not None and file.services:
        return _asks(file, content, path)
    if file is not None and file.unprotected:
        return _unprotected(path, file.unprotected)
    if file is not None and kind == "dotenv" and _ENDED_BY_CR.search(content):
        return PermanentError(
            "the lines end with CR LF, and SOPS reads the CR as a part of each value",
            where=path,
            hint=f"sed -i 's/\\r$//' {path}; '*.secret.* -text' in .gitattributes keeps Git from "
            "doing it again",
        )
    found = _kind(content) if file is None or kind == "binary" else kind
    if file is not None and found in {kind, None}:
        return None
    if found is not None:
        return _another(path, found, kind)
    if metadata.ENCRYPTED.encode() in content:
        return PermanentError(
            "the values are encrypted and what SOPS needs to decrypt them is not there: the end of "
            "the file is cut off or damaged",
            where=path,
            hint=f"put the file back as it was (git log -p -- {path}); do not encrypt it again",
        )
    hint = f"sops encrypt -i {path}; {_PUSHED}"
    return PermanentError("the file is called secret but is not encrypted", where=path, hint=hint)


def _asks(file: SopsFile, content: bytes, path: str) -> PermanentError:
    """SOPS tries all keys of a file, also where the one of age is right."""
    kinds = ", ".join(file.services)
    return PermanentError(
        f"it is also encrypted for {kinds}, which SOPS would contact; keep only age recipients",
        where=f"{path}:{metadata.line_of(content, file.services[0])}",
        hint=f"leave {kinds} out of the rule for it in .sops.yaml, then sops updatekeys {path}",
    )


def in_the_clear(file: SopsFile, path: str) -> list[PermanentError]:
    """The error for each value that SOPS should have encrypted, and which is why it refuses it."""
    return [
        PermanentError(
            f"{name} stands here in the clear: it was not written by sops",
            where=f"{path}:{line}",
            hint=f"take it out, set it with sops edit {path}, and change it if it was pushed",
        )
        for name, line in file.plain
    ]


def _unprotected(path: str, scope: Scope) -> PermanentError:
    rule = f"{scope.kind} {scope.text!r}"
    return PermanentError(
        f"nothing in the file is encrypted: its rule, {rule}, leaves all of it in the clear",
        where=path,
        hint=f"take {scope.kind} out of the rule for it in .sops.yaml, then sops decrypt -i {path} "
        f"&& sops encrypt -i {path}; {_PUSHED}",
    )


def _another(path: str, found: str, kind: str) -> PermanentError:
    inner = found if "binary" in {found, kind} else kind
    decrypt = f"sops decrypt --input-type {found} --output-type {inner} {path}"
    encrypt = f"sops encrypt --input-type {kind} --output-type {kind} --filename-override {path}"
    message = f"SOPS has encrypted it as {_called(found)}, and its name says {_called(kind)}"
    hint = f"{decrypt} | {encrypt} > new, and put that in its place"
    return PermanentError(message, where=path, hint=hint)


def _called(kind: str) -> str:
    return "one piece of data (binary)" if kind == "binary" else kind


def _kind(content: bytes) -> str | None:
    """As what SOPS has encrypted ``content``, whatever its name; None: it did not."""
    with suppress(ValueError, RecursionError):
        data = json.loads(content)
        if metadata.read(content, _NAMES["json"]) is None:
            return None
        return "binary" if isinstance(data, dict) and data.keys() == {"data", "sops"} else "json"
    for kind, name in _NAMES.items():
        with suppress(PermanentError):
            if metadata.read(content, name) is not None:
                return kind
    return None
