"""Encrypting what is adopted: for whom, and what the rules of ``.sops.yaml`` become by it.

Who shall read a secret follows from the repository (``readers``): the hosts that run its stack and
the people whose keys are listed. ``--age`` adds to these. Rules that commitd wrote are written
anew before anything is encrypted, so that they name the new stacks; those of a person's own count
as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Self

import anyio.to_thread
from msgspec import Struct

from agent.adapters.clone.clone import Clone
from agent.adapters.clone.sops_edit import seal
from agent.adapters.secrets.sops import BinarySops
from agent.control.authoring.recipients import files_that_decide
from agent.domain.config import Config
from agent.domain.errors import ConfigError
from agent.domain.recipients import rules
from agent.domain.recipients.access import Access


class Sealing(Struct, frozen=True):
    """The SOPS to encrypt with, and the recipients that a person has named."""

    sops: Path
    asked: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Config, asked: tuple[str, ...]) -> Self | None:
        """With the SOPS of the host's configuration, or of this machine; None without any.

        Raises :class:`CommitdError`. Blocks.
        """
        settings = config.secrets.sops if config.secrets else None
        if settings and settings.binary and settings.sha256:
            BinarySops(settings.binary, settings.sha256).verify()
            return cls(settings.binary, asked)
        if found := shutil.which("sops"):
            return cls(Path(found), asked)
        if asked:
            raise ConfigError("there is no sops on this machine to encrypt with")
        return None


class AdoptedSecrets:
    """Of the stacks whose files are ``new``, by path, for the clone."""

    def __init__(self, clone: Clone, sealing: Sealing | None, new: Mapping[str, bytes]) -> None:
        self._clone = clone
        self._sealing = sealing
        self._new = new

    @cached_property
    def _access(self) -> Access:
        return Access({**files_that_decide(self._clone), **self._new})

    @property
    def _rules(self) -> bytes | None:
        """``.sops.yaml`` as it is; None: there is none."""
        return self._clone.read(rules.PATH) if self._clone.has(rules.PATH) else None

    def update_rules(self) -> bool:
        """Write the rules that follow now, where the file has room for them; whether it changed.

        Raises :class:`PermanentError` when it is not known what follows. Blocks.
        """
        before = self._rules
        if before is None or rules.BEGIN.encode() not in before:
            return False
        after = rules.write(before, self._access)
        if after != before:
            self._clone.replace(rules.PATH, after)
        return after != before

    async def seal(self, path: str, plaintext: bytes) -> bytes | None:
        """The encrypted file; None where nobody is known who should read it, or SOPS is not here.

        Raises :class:`PermanentError`.
        """
        if self._sealing is None:
            return None
        recipients = await anyio.to_thread.run_sync(self._recipients, path)
        if recipients is None:
            return None
        return await seal(self._sealing.sops, plaintext, path, recipients, self._clone.root)

    def _recipients(self, path: str) -> tuple[str, ...] | None:
        """Empty: those of the rules in ``.sops.yaml``."""
        asked = self._sealing.asked if self._sealing else ()
        wanted = self._access.wanted(path)
        if self._access.problems:
            raise self._access.problems[0]
        if asked or self._rules is None:
            return tuple(dict.fromkeys([*asked, *wanted])) or None
        if rules.BEGIN.encode() in self._rules and not wanted:
            return None  # no rule that commitd wrote is for nobody
        return ()
