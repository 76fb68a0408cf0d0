"""Only commits that carry a signature the host trusts are applied, if it asks for one."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import run

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet


class Signers:
    """SSH keys, of which the host trusts the first."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("ada", "mallory"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / name])
        self.allowed = root / "allowed_signers"
        self.allowed.write_text(f"ada@example.org {(root / 'ada.pub').read_text()}")

    def sign(self, fleet: Fleet, name: str | None) -> None:
        """From now on commits are signed by `name`, or by nobody."""
        fleet.workspace.git("config", "gpg.format", "ssh")
        fleet.workspace.git("config", "commit.gpgSign", "true" if name else "false")
        fleet.workspace.git("config", "user.signingKey", str(self.root / (name or "ada")))


@pytest.fixture
def signers(tmp_path: Path) -> Signers:
    return Signers(tmp_path)


def _commit(fleet: Fleet, value: str) -> str:
    more = f"    environment: {{VALUE: '{value}'}}\n"
    return fleet.commit(
        f"value {value}",
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose(more=more)},
    )


def _host(fleet: Fleet, signers: Signers, require: str) -> Host:
    signatures = {"require": require, "allowed_signers": str(signers.allowed)}
    return fleet.host(signatures=signatures)


def _applied(host: Host) -> str | None:
    applied: str | None = host.json("status")["revision"]["applied"]
    return applied


@pytest.mark.parametrize(
    ("signer", "complaint"), [(None, "is not signed"), ("mallory", "does not know")]
)
def test_a_head_without_a_trusted_signature_is_held_and_named(
    fleet: Fleet, signers: Signers, signer: str | None, complaint: str
) -> None:
    signers.sign(fleet, "ada")
    first = _commit(fleet, "1")
    host = _host(fleet, signers, "head")
    assert host.once().returncode == 0
    signers.sign(fleet, signer)
    bad = _commit(fleet, "2")
    result = host.once()
    assert result.returncode == 3
    assert _applied(host) == first
    assert bad[:7] in result.stderr
    assert complaint in result.stderr
    signers.sign(fleet, "ada")
    good = _commit(fleet, "3")
    assert host.once().returncode == 0
    assert _applied(host) == good


def test_with_all_every_commit_on_the_way_must_be_signed_merges_included(
    fleet: Fleet, signers: Signers
) -> None:
    signers.sign(fleet, "ada")
    first = _commit(fleet, "1")
    host = _host(fleet, signers, "all")
    assert host.once().returncode == 0
    fleet.workspace.git("checkout", "--quiet", "-b", "side")
    signers.sign(fleet, None)
    fleet.workspace.write({"notes.md": "unsigned"})
    unsigned = fleet.workspace.commit("on the side")
    signers.sign(fleet, "ada")
    fleet.workspace.git("checkout", "--quiet", "main")
    fleet.workspace.git("merge", "--quiet", "--no-ff", "--no-edit", "side")
    fleet.push()
    result = host.once()
    assert result.returncode == 3
    assert unsigned[:7] in result.stderr
    assert _applied(host) == first


def test_a_signature_by_gpg_counts_with_the_hosts_key_ring(fleet: Fleet, tmp_path: Path) -> None:
    home = Path(
        tempfile.mkdtemp(prefix="gpg-", dir="/run")
    )  # its agent's socket needs a short path
    env = os.environ | {"GNUPGHOME": str(home)}
    subprocess.run(
        ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "ada@example.org"],
        env=env,
        check=True,
    )
    keyring = tmp_path / "keyring.gpg"
    exported = subprocess.run(["gpg", "--export"], env=env, check=True, capture_output=True)
    keyring.write_bytes(exported.stdout)
    program = tmp_path / "gpg-of-ada"
    program.write_text(f'#!/bin/sh\nGNUPGHOME={home} exec gpg "$@"\n')
    program.chmod(0o755)
    fleet.workspace.git("config", "gpg.program", str(program))
    fleet.workspace.git("config", "user.signingKey", "ada@example.org")
    fleet.workspace.git("config", "commit.gpgSign", "true")
    first = _commit(fleet, "1")
    host = fleet.host(signatures={"require": "head", "gpg_keyring": str(keyring)})
    result = host.once()
    assert result.returncode == 0, result.stderr
    fleet.workspace.git("config", "commit.gpgSign", "false")
    _commit(fleet, "2")
    assert host.once().returncode == 3
    assert _applied(host) == first
    subprocess.run(["gpgconf", "--kill", "all"], env=env, check=False)
