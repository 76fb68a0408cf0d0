"""Which plaintext is wanted, and what of that which was decrypted may be used."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from msgspec import Struct

from agent.adapters.secrets.plaintext_store import Owner
from agent.adapters.secrets.sops import Opened
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.repository import encryption_faults, plaintext_faults
from agent.domain.repository.desired import DesiredState, Stack


class Wanted(Struct, frozen=True):
    """The plaintext of which Git object, and whose; ``variables`` for Compose, or just a file."""

    oid: str
    owner: Owner | None
    variables: bool


def needed(desired: DesiredState) -> dict[str, Wanted]:
    """What all that is declared needs in place, by the path of its ciphertext."""
    found: dict[str, Wanted] = {}
    for stack in desired.stacks:
        for path, wanted in of_stack(stack).items():
            # What a stack that was rolled back shares with others stays as it is for those.
            if stack.name in desired.rolled_back and not stack.owns(path) and wanted.variables:
                continue
            # Others may name it too; what it is and whom it belongs to, its own stack says.
            if path not in found or stack.owns(path):
                found[path] = wanted
    return found


def of_stack(stack: Stack) -> dict[str, Wanted]:
    """What one stack needs, by the path of its ciphertext."""
    variables = {file.path for file in stack.environment}
    return {
        path: Wanted(oid, stack.owner(path), path in variables)
        for path, oid in stack.secrets.items()
    }


def no_secrets(contents: Mapping[str, bytes]) -> dict[str, Opened]:
    """The errors of files, by path, that SOPS need not be asked about: they are no secrets."""
    found: dict[str, Opened] = {}
    for path, content in contents.items():
        with suppress(PermanentError):  # SOPS may be able to read what this cannot
            if fault := encryption_faults.examine(content, path)[1]:
                found[path] = fault
    return found


def unusable(path: str, wanted: Wanted, opened: Opened) -> str | None:
    """Why the plaintext must not be used, or None."""
    if isinstance(opened, CommitdError):
        return str(opened)
    return plaintext_faults.unusable(path, opened) if wanted.variables else None
