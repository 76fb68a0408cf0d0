"""Whose signature a commit carries: Git verifies, with keys of the host, not of the repository.

Git's word for it is one letter; only ``G`` counts, a good signature of a trusted key. ``U`` is a
good signature of somebody nobody named.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio.to_thread

from agent.adapters import process
from agent.adapters.git.repository import Repository
from agent.domain.config import Signatures
from agent.domain.errors import ConfigError

_WHAT = {
    "N": "is not signed",
    "B": "has a bad signature",
    "U": "is signed by a key that this host does not know",
    "E": "is signed by a key that this host does not know",
    "X": "has a signature that has expired",
    "Y": "is signed by a key that has expired",
    "R": "is signed by a key that was revoked",
}
_GPG_TIMEOUT_S = 30.0
_ULTIMATE = 6
"""In gpg's list of owners whom it trusts: as one's own."""


class Verifier:
    """Checks commits against ``policy``; GPG's own files go to ``home``."""

    def __init__(self, policy: Signatures, repository: Repository, home: Path) -> None:
        self._policy = policy
        self._repository = repository
        self._home = home

    async def refusal(self, applied: str | None, sha: str) -> str | None:
        """Why ``sha`` must not be applied after ``applied``; None when it may.

        With ``require: all`` every commit that is new counts, merges included; on a new host only
        the head, for nothing was trusted before. Raises :class:`ConfigError` for unusable keys.
        """
        policy = self._policy
        if policy.require == "none":
            return None
        commits = f"{applied}..{sha}" if policy.require == "all" and applied else f"-1 {sha}"
        env = {"GNUPGHOME": str(self._home)}
        options = ["-c", "gpg.minTrustLevel=undefined"]
        signers = policy.allowed_signers or Path("/dev/null")
        options += ["-c", f"gpg.ssh.allowedSignersFile={signers}"]
        if policy.gpg_keyring:
            await self._import(policy.gpg_keyring)
        lines = await self._repository.signers(commits.split(), options, env)
        for commit, letter, signer, subject in lines:
            if letter != "G":
                by = f" ({signer})" if signer else ""
                what = _WHAT.get(letter, "cannot be verified")
                return f"{commit[:7]} “{subject}” {what}{by}"
        return None

    async def _import(self, keyring: Path) -> None:
        """A key ring of the agent's own that trusts exactly the keys of the host's file.

        Each key by name: gpg 2.4 is silent about trust under ``trust-model always``, and Git takes
        silence for a stranger.
        """
        await anyio.to_thread.run_sync(self._clear_home)
        await self._gpg(keyring, "--import", "--", str(keyring))
        listed = await self._gpg(keyring, "--list-keys", "--with-colons")
        keys = _primary_keys(listed.decode(errors="replace"))
        trust = "".join(f"{key}:{_ULTIMATE}:\n" for key in keys)
        await self._gpg(keyring, "--import-ownertrust", stdin=trust.encode())

    def _clear_home(self) -> None:
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for old in ("pubring.kbx", "trustdb.gpg"):
            (self._home / old).unlink(missing_ok=True)
        (self._home / "gpg.conf").write_text("trust-model direct\nno-auto-key-retrieve\n")

    async def _gpg(self, keyring: Path, *words: str, stdin: bytes = b"") -> bytes:
        result = await process.run(
            ["gpg", "--batch", "--quiet", "--no-autostart", *words],
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "GNUPGHOME": str(self._home),
                "HOME": "/nonexistent",
            },
            stdin=stdin,
            timeout_s=_GPG_TIMEOUT_S,
        )
        if result.code != 0:
            raise ConfigError("GPG cannot read the keys", where=str(keyring), hint="gpg --export")
        return result.out


def _primary_keys(listing: str) -> list[str]:
    """The fingerprints of the keys, without their subkeys, from gpg's ``--with-colons``."""
    found: list[str] = []
    kind = ""
    for line in listing.splitlines():
        fields = line.split(":")
        if fields[0] == "fpr" and kind == "pub":
            found.append(fields[9])
        kind = fields[0]
    return found
