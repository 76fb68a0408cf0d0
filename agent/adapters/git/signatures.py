"""Whose signature a commit carries: Git verifies, with keys of the host, not of the repository.

Git's word for it is one letter; only ``G`` counts, a good signature of a trusted key. ``U`` is a
good signature of somebody nobody named.

    a check ─▶ new, empty home ─▶ the keys of the host's file, each trusted ─▶ Git ─▶ home deleted

What GPG was told before is not there any more, whichever of its files or daemons keeps keys: a key
that left the host's file is unknown from the next check on. Where GPG keeps keys by a daemon
(``use-keyboxd``), that one ends with the check. Git itself reads ``allowed_signers`` each time.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters import process
from agent.adapters.git.commits import Commits
from agent.adapters.tasks import to_the_end
from agent.domain.config import Signatures
from agent.domain.errors import ConfigError, TransientError

_WHAT = {
    "N": "is not signed (with a key of SSH or GPG)",
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
_PREFIX = "gnupg-"
_PROGRAMS = {
    "gpg.openpgp.program": "gpg",
    "gpg.ssh.program": "ssh-keygen",
    # Whom it trusts is a list of the machine's, not the agent's.
    "gpg.x509.program": "false",
}


class Verifier:
    """Checks commits against ``policy``; GPG's files are below ``place`` while it does."""

    def __init__(self, policy: Signatures, commits: Commits, place: Path) -> None:
        self._policy = policy
        self._commits = commits
        self._place = place

    async def refusal(self, applied: str | None, sha: str) -> str | None:
        """Why ``sha`` must not be applied after ``applied``; None when it may.

        With ``require: all`` every commit that is new counts, merges included; on a new host only
        the head, for nothing was trusted before. Raises :class:`ConfigError` for unusable keys.
        """
        policy = self._policy
        if policy.require == "none":
            return None
        commits = f"{applied}..{sha}" if policy.require == "all" and applied else f"-1 {sha}"
        settings = _PROGRAMS | {
            "gpg.minTrustLevel": "undefined",
            "gpg.ssh.allowedSignersFile": str(policy.allowed_signers or "/dev/null"),
        }
        options = [word for pair in settings.items() for word in ("-c", "=".join(pair))]
        async with self._trusting(policy.gpg_keyring) as home:
            env = {"GNUPGHOME": str(home)}
            lines = await self._commits.signers(commits.split(), options, env)
        for commit, letter, signer, subject in lines:
            if letter != "G":
                by = f" ({signer})" if signer else ""
                what = _WHAT.get(letter, "cannot be verified")
                return f"{commit[:7]} “{subject}” {what}{by}"
        return None

    @asynccontextmanager
    async def _trusting(self, keyring: Path | None) -> AsyncIterator[Path]:
        """A home of GPG for one check, in which it trusts exactly the keys of ``keyring``.

        Each key by name: gpg 2.4 is silent about trust under ``trust-model always``, and Git takes
        silence for a stranger.
        """
        home = await anyio.to_thread.run_sync(self._new_home)
        try:
            if keyring:
                await _gpg(home, keyring, "--import", "--", str(keyring))
                listed = await _gpg(home, keyring, "--list-keys", "--with-colons")
                keys = _primary_keys(listed.decode(errors="replace"))
                trust = "".join(f"{key}:{_ULTIMATE}:\n" for key in keys)
                await _gpg(home, keyring, "--import-ownertrust", stdin=trust.encode())
            yield home
        finally:
            with anyio.CancelScope(shield=True):
                await _end_daemons(home)
            await to_the_end(lambda: shutil.rmtree(home, ignore_errors=True))

    def _new_home(self) -> Path:
        for left in self._place.glob(f"{_PREFIX}*"):  # by an agent that was killed
            shutil.rmtree(left, ignore_errors=True)
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._place))
        (home / "gpg.conf").write_text("trust-model direct\nno-auto-key-retrieve\n")
        return home


async def _gpg(home: Path, keyring: Path, *words: str, stdin: bytes = b"") -> bytes:
    result = await _run(home, "gpg", "--batch", "--quiet", *words, stdin=stdin)
    if result.code != 0:
        raise ConfigError("GPG cannot read the keys", where=str(keyring), hint="gpg --export")
    return result.out


async def _end_daemons(home: Path) -> None:
    """Of this home alone. They end by themselves, too, but not before they notice that it is gone.

    Without the program, or within its time, nothing worse happens than that.
    """
    with suppress(TransientError):
        await _run(home, "gpgconf", "--kill", "all")


async def _run(home: Path, *words: str, stdin: bytes = b"") -> process.Result:
    return await process.run(
        words,
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "GNUPGHOME": str(home),
            "HOME": "/nonexistent",
        },
        stdin=stdin,
        timeout_s=_GPG_TIMEOUT_S,
    )


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
