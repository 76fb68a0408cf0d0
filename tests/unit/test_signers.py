"""Whose signature counts, with real keys: of a stranger none, and with ``all`` on every commit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import anyio
import asyncssh
import pytest

from agent.adapters.git.repository import Repository
from agent.adapters.git.signatures import Verifier
from agent.domain.config import Config, Remote, Signatures
from tests.unit.git_servers import Origin
from tests.unit.upstream import fetched

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="Git signs with it")


class Keys:
    """Ada's, whom the host trusts, and Mallory's, whom it does not."""

    def __init__(self, place: Path) -> None:
        self.ada, self.mallory = place / "ada", place / "mallory"
        for path in (self.ada, self.mallory):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(path)
            key.write_public_key(path.with_suffix(".pub"))
            path.chmod(0o600)
        self.allowed = place / "allowed_signers"
        self.allowed.write_text(f"ada@example.org {self.ada.with_suffix('.pub').read_text()}")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "origin.git")


def refusal(
    origin: Origin, keys: Keys, require: Literal["head", "all"], applied: str | None, sha: str
) -> str | None:
    """Why ``sha`` must not be applied after ``applied``."""
    policy = Signatures(require=require, allowed_signers=keys.allowed)
    remote = Remote(name="gitea", url=origin.url)
    place = origin.path.with_name("state")
    config = Config(host="media", remotes=(remote,), state_dir=place, signatures=policy)
    repository = Repository.of(config)

    async def main() -> str | None:
        await repository.prepare()
        await fetched(repository, remote, sha)
        verifier = Verifier(policy, repository, place / "gnupg")
        return await verifier.refusal(applied, sha)

    config.state_dir.mkdir(mode=0o700, exist_ok=True)
    return anyio.run(main)


def test_only_a_signature_of_somebody_the_host_knows_counts(origin: Origin, keys: Keys) -> None:
    good = origin.commit({"a": "1"}, signer=keys.ada)
    assert refusal(origin, keys, "head", None, good) is None
    stranger = origin.commit({"a": "2"}, signer=keys.mallory)
    said = refusal(origin, keys, "head", good, stranger)
    assert said
    assert said.startswith(f"{stranger[:7]} “x” is signed by a key that this host does not know")
    nobody = origin.commit({"a": "3"})
    said = refusal(origin, keys, "head", good, nobody)
    assert said
    assert "is not signed" in said


def test_with_all_a_signed_head_does_not_speak_for_the_commits_below_it(
    origin: Origin, keys: Keys
) -> None:
    first = origin.commit({"a": "1"}, signer=keys.ada)
    below = origin.commit({"a": "2"}, parents=[first])
    head = origin.commit({"a": "3"}, parents=[first, below], signer=keys.ada)
    assert refusal(origin, keys, "head", first, head) is None
    said = refusal(origin, keys, "all", first, head)
    assert said
    assert said.startswith(f"{below[:7]} “x” is not signed")
