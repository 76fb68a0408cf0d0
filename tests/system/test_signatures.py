"""Only commits that carry a signature the host trusts are applied, if it asks for one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class GpgSigner:
    """A key of GPG, in a home of its own."""

    def __init__(self, root: Path, name: str) -> None:
        # Its agent's socket needs a short path.
        self._home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/run"))
        self._address = f"{name}@example.org"
        self._program = root / f"gpg-of-{name}"
        self._program.write_text(f'#!/bin/sh\nGNUPGHOME={self._home} exec gpg "$@"\n')
        self._program.chmod(0o755)
        self._gpg("--batch", "--quiet", "--passphrase", "", "--quick-gen-key", self._address)
        self.keys = self._gpg("--export")

    def _gpg(self, *words: str) -> bytes:
        return subprocess.run([self._program, *words], check=True, capture_output=True).stdout

    def sign(self, fleet: Fleet) -> None:
        """From now on commits are signed by it."""
        fleet.workspace.git("config", "gpg.format", "openpgp")
        fleet.workspace.git("config", "gpg.program", str(self._program))
        fleet.workspace.git("config", "user.signingKey", self._address)
        fleet.workspace.git("config", "commit.gpgSign", "true")

    def end(self) -> None:
        """Its agent, too."""
        env = os.environ | {"GNUPGHOME": str(self._home)}
        subprocess.run(["gpgconf", "--kill", "all"], env=env, check=False)
        shutil.rmtree(self._home, ignore_errors=True)


@pytest.fixture
def by_gpg(tmp_path: Path) -> Iterator[tuple[GpgSigner, GpgSigner]]:
    """Ada and Eve."""
    both = GpgSigner(tmp_path, "ada"), GpgSigner(tmp_path, "eve")
    yield both
    for signer in both:
        signer.end()


def test_a_signature_by_gpg_counts_with_the_hosts_key_ring(
    fleet: Fleet, tmp_path: Path, by_gpg: tuple[GpgSigner, GpgSigner]
) -> None:
    ada, _ = by_gpg
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(ada.keys)
    ada.sign(fleet)
    first = _commit(fleet, "1")
    host = fleet.host(signatures={"require": "head", "gpg_keyring": str(keyring)})
    result = host.once()
    assert result.returncode == 0, result.stderr
    fleet.workspace.git("config", "commit.gpgSign", "false")
    _commit(fleet, "2")
    assert host.once().returncode == 3
    assert _applied(host) == first


@pytest.mark.parametrize("store", ["files", "keyboxd"])
def test_a_key_that_left_the_configuration_is_trusted_no_more(
    fleet: Fleet,
    tmp_path: Path,
    signers: Signers,
    by_gpg: tuple[GpgSigner, GpgSigner],
    store: str,
) -> None:
    ada, eve = by_gpg
    keyring = tmp_path / "keyring.gpg"
    keyring.write_bytes(ada.keys + eve.keys)
    host = fleet.host(signatures={"require": "all", "gpg_keyring": str(keyring)})
    if store == "keyboxd":
        _use_keyboxd(host, tmp_path)
    eve.sign(fleet)
    first = _commit(fleet, "1")
    result = host.once()
    assert result.returncode == 0, result.stderr

    keyring.write_bytes(ada.keys)  # Eve left
    _commit(fleet, "2")
    result = host.once()
    assert (result.returncode, _applied(host)) == (3, first)
    assert "is signed by a key that this host does not know" in result.stderr

    ada.sign(fleet)
    fleet.workspace.git("commit", "--quiet", "--amend", "--no-edit")
    second = fleet.workspace.git("rev-parse", "HEAD")
    fleet.workspace.push(force=True)
    result = host.once()
    assert (result.returncode, _applied(host)) == (0, second), result.stderr

    # All of them sign by SSH now.
    host.config["signatures"] = {"require": "all", "allowed_signers": str(signers.allowed)}
    host.write_config()
    _commit(fleet, "3")
    result = host.once()
    assert (result.returncode, _applied(host)) == (3, second)
    assert "is signed by a key that this host does not know" in result.stderr

    assert [*host.state.glob("gnupg*"), *(host.root / "run").glob("gnupg*")] == []
    wait_until(lambda: _daemons() == [], what="the daemons of GPG to end")


def test_a_signer_of_ssh_who_left_the_file_is_trusted_no_more(
    fleet: Fleet, signers: Signers
) -> None:
    signers.sign(fleet, "ada")
    first = _commit(fleet, "1")
    host = _host(fleet, signers, "all")
    with host.running() as agent:
        agent.says(f"in sync with {first[:7]}")
        other = (signers.root / "mallory.pub").read_text()
        signers.allowed.write_text(f"mallory@example.org {other}")
        second = _commit(fleet, "2")
        agent.says(f"{second[:7]} “value 2” is signed by a key that this host does not know")
    assert _applied(host) == first


def _use_keyboxd(host: Host, root: Path) -> None:
    """Have GPG keep keys as it does with `use-keyboxd` in the machine's common.conf."""
    if not Path("/usr/lib/gnupg/keyboxd").exists():
        pytest.skip("GPG keeps keys by a daemon from 2.4 on, with Debian's package keyboxd")
    programs = root / "programs"
    programs.mkdir()
    gpg = programs / "gpg"
    gpg.write_text(
        f'#!/bin/sh\necho use-keyboxd >"$GNUPGHOME/common.conf"\nexec {shutil.which("gpg")} "$@"\n'
    )
    gpg.chmod(0o755)
    host.path = [str(programs), *host.path]


def _daemons() -> list[str]:
    """Command lines of processes that work in a home of GPG which an agent has made."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if any(b"gnupg-" in word for word in words):
                found.append(repr(words))
    return found
