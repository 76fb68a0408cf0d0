"""A fetch believes no server: what is not whole and sound, or from elsewhere, never arrives."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import asyncssh
import pytest

from agent.adapters.git import incoming as adapter
from agent.adapters.git.repository import Repository
from agent.adapters.host import directories
from agent.adapters.probes.connect import probe
from agent.domain.config import Config, Remote
from agent.domain.errors import CommitdError
from tests.unit import git_servers
from tests.unit.git_servers import Origin
from tests.unit.upstream import fetched

A_MIB = 1024 * 1024
NOBODY = "author Ada <ada@example.org> 1 +0000\ncommitter Ada <ada@example.org> 1 +0000\n\nx\n"


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    origin = Origin(tmp_path / "origin.git")
    origin.commit({"a": "one"})
    return origin


@pytest.fixture
def clone(tmp_path: Path) -> Repository:
    """The agent's, with nothing in it."""
    config = Config(host="media", remotes=(), state_dir=tmp_path / "state")
    config.state_dir.mkdir(mode=0o700)
    directories.install_askpass(config.state_dir)
    found = Repository.of(config)
    anyio.run(found.prepare)
    return found


def remote(url: str, **settings: object) -> Remote:
    return Remote(name="gitea", url=url, **settings)  # type: ignore[arg-type]


def run(work: Callable[[], Awaitable[object]]) -> None:
    anyio.run(work)


async def refused(clone: Repository, from_: Remote, sha: str) -> str:
    """Why it did not arrive; and it did not."""
    with pytest.raises(CommitdError) as caught:
        await fetched(clone, from_, sha)
    assert not await clone.knows(sha)
    assert not await clone.incoming.commits.knows(sha)
    assert not await clone.incoming.any()
    return str(caught.value)


# --- what it delivers ---


def test_a_sound_commit_arrives_with_its_history(origin: Origin, clone: Repository) -> None:
    first, second = origin.head()[0], origin.commit({"a": "two"})

    async def main() -> None:
        assert await fetched(clone, remote(origin.url), second) == second
        assert await clone.descends(second, first)
        assert set(await clone.tree(second)) == {"a"}

    run(main)


def _twice(origin: Origin) -> str:
    """What is judged could be one of them, and what lands on disk the other."""
    one, other = (bytes.fromhex(origin.object("blob", text)) for text in ("good", "evil"))
    tree = origin.object("tree", b"100644 a\0" + one + b"100644 a\0" + other)
    return origin.commit(tree=tree)


def _no_date(origin: Origin) -> str:
    tree = origin.tree({"a": "x"})
    made = origin.object("commit", f"tree {tree}\n{NOBODY.replace(' 1 +0000', '')}")
    origin.point(made)
    return made


def _a_dot_git(origin: Origin) -> str:
    inner = origin.tree({"config": "[core]\n"})
    return origin.commit(tree=origin.object("tree", b"40000 .git\0" + bytes.fromhex(inner)))


@pytest.mark.parametrize("broken", [_twice, _no_date, _a_dot_git])
def test_an_object_that_is_not_sound_never_arrives(
    origin: Origin, clone: Repository, broken: Callable[[Origin], str]
) -> None:
    sha = broken(origin)

    async def main() -> None:
        await refused(clone, remote(origin.url), sha)

    run(main)


def test_a_pack_may_be_no_larger_than_the_limit(
    origin: Origin, clone: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "MAX_PACK", A_MIB)
    large = origin.commit({"a": os.urandom(4 * A_MIB)})

    async def main() -> None:
        await refused(clone, remote(origin.url), large)
        small = origin.commit({"a": os.urandom(A_MIB // 2)}, parents=())
        assert await fetched(clone, remote(origin.url), small) == small

    run(main)


def test_a_pack_without_end_does_not_fill_the_disk(
    origin: Origin, clone: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long Git goes on reading it is a matter of time, which is limited too."""
    monkeypatch.setattr(adapter, "MAX_PACK", A_MIB)
    sha, sizes = origin.head()[0], [0]

    def pack() -> Iterator[bytes]:
        for part in git_servers.endless():
            files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
            with suppress(FileNotFoundError):
                sizes.append(sum(path.stat().st_size for path in files))
            yield part

    answer = git_servers.packs(sha, pack, most=16 * A_MIB)
    with git_servers.https(tmp_path / "web", answer) as web:
        run(lambda: _refused(clone, web, sha))
        assert web.sent > A_MIB
    assert A_MIB / 2 < max(sizes) < 2 * A_MIB


def test_no_flipped_bit_of_a_pack_arrives(
    origin: Origin, clone: Repository, tmp_path: Path
) -> None:
    """By chance or with a checksum that fits again."""
    sha, pack = origin.head()[0], origin.pack()
    served = [pack]
    answer = git_servers.packs(sha, lambda: served)
    with git_servers.https(tmp_path / "web", answer) as web:
        for at in range(0, len(pack), len(pack) // 3):
            flipped = bytearray(pack)
            flipped[at] ^= 0b100
            for bad in (bytes(flipped), git_servers.resealed(bytes(flipped))):
                if bad != pack:
                    served[0] = bad
                    run(lambda: _refused(clone, web, sha))
        served[0] = pack

        async def main() -> None:
            assert await fetched(clone, remote(web.url, ca_file=web.ca_file), sha) == sha

        run(main)


async def _refused(clone: Repository, web: git_servers.Web, sha: str) -> str:
    return await refused(clone, remote(web.url, ca_file=web.ca_file), sha)


# --- who it is ---


def test_no_redirect_leads_git_or_its_token_to_another_server(
    origin: Origin, clone: Repository, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("correct horse\n")
    sha = origin.head()[0]
    files = git_servers.files(origin)
    with (
        git_servers.https(tmp_path / "other", files) as other,
        git_servers.https(tmp_path / "web", git_servers.elsewhere(other.url)) as web,
    ):
        both = tmp_path / "both.pem"
        both.write_bytes(web.ca_file.read_bytes() + other.ca_file.read_bytes())
        settings = {"ca_file": both, "token_file": token, "username": "reader"}

        async def main() -> None:
            await refused(clone, remote(web.url, **settings), sha)
            assert web.asked
            assert not other.asked
            assert await fetched(clone, remote(other.url, **settings), sha) == sha

        run(main)


def test_an_expired_certificate_is_refused_by_the_probe_and_by_git(
    origin: Origin, clone: Repository, tmp_path: Path
) -> None:
    sha = origin.head()[0]
    with git_servers.https(tmp_path / "web", git_servers.files(origin), days=-2) as web:
        expired = remote(web.url, ca_file=web.ca_file)

        async def main() -> None:
            asked = probe(expired, "main")
            with pytest.raises(CommitdError, match="not trusted: certificate has expired"):
                await asked.ask()
            await asked.aclose()
            assert "certificate" in await refused(clone, expired, sha)
            assert not web.asked

        run(main)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="who has no ssh fetches over HTTPS")
def test_git_gives_no_ssh_server_its_key_before_it_knows_the_servers(
    origin: Origin, clone: Repository, tmp_path: Path
) -> None:
    key, known = tmp_path / "key", tmp_path / "known_hosts"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    key.chmod(0o600)
    sha = origin.head()[0]

    async def main() -> None:
        async with git_servers.ssh(key) as server:
            url = f"ssh://git@127.0.0.1:{server.port}{origin.path}"
            here = remote(url, ssh_key=key, known_hosts=known)
            other = asyncssh.generate_private_key("ssh-ed25519")
            for line in (server.known(other), ""):
                known.write_text(line)
                assert "Host key " in await refused(clone, here, sha)
                assert (server.tried, known.read_text()) == ([], line)
            known.write_text(server.known())
            assert await fetched(clone, here, sha) == sha
            assert server.tried == ["git"]

    run(main)


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch CANARY",
        "-utouch CANARY",
        "ext::sh -c touch% CANARY",
        "ssh://-oProxyCommand=touch CANARY/fleet.git",
        "-oProxyCommand=touch CANARY:fleet.git",
    ],
)
def test_no_name_of_a_remote_runs_a_program(
    origin: Origin, clone: Repository, tmp_path: Path, url: str
) -> None:
    """Such a configuration is refused; were it not, Git takes it for what it is: a bad name."""
    canary, sha = tmp_path / "ran", origin.head()[0]

    async def main() -> None:
        with pytest.raises(CommitdError):
            await fetched(clone, remote(url.replace("CANARY", str(canary))), sha)
        assert not canary.exists()

    run(main)


@pytest.mark.parametrize("word", ["--output=CANARY", "-oCANARY", "HEAD --output=CANARY"])
def test_no_revision_that_a_person_writes_is_taken_for_an_option(
    origin: Origin, clone: Repository, tmp_path: Path, word: str
) -> None:
    canary, sha = tmp_path / "written", origin.head()[0]

    async def main() -> None:
        await fetched(clone, remote(origin.url), sha)
        with pytest.raises(CommitdError):
            await clone.resolve(word.replace("CANARY", str(canary)))
        assert not canary.exists()

    run(main)


# --- what is in the clone already ---


def test_what_lands_on_disk_is_what_was_committed(origin: Origin, clone: Repository) -> None:
    """Attributes of a commit would have Git write other bytes than those that were judged."""
    attributes = "*.txt text eol=crlf ident\n*.wide working-tree-encoding=UTF-16LE\n"
    committed = {".gitattributes": attributes, "a.txt": "$Id$\nb\n", "b.wide": "a: ＂\n"}
    sha = origin.commit(committed)

    async def main() -> None:
        await fetched(clone, remote(origin.url), sha)
        await clone.reset(sha)
        found = {name: (clone.root / name).read_bytes().decode() for name in committed}
        assert found == committed

    run(main)


def test_a_replacement_of_an_object_counts_for_nothing(origin: Origin, clone: Repository) -> None:
    """Who writes refs/replace could make any history continue the applied commit."""
    applied = origin.head()[0]
    other = origin.commit({"a": "evil"}, parents=())
    grafted = origin.commit({"a": "evil"}, parents=[applied])
    third = origin.commit({"a": "three"}, parents=[other, grafted])

    async def main() -> None:
        await fetched(clone, remote(origin.url), third)
        git = clone.git
        await git.check("update-ref", f"refs/replace/{other}", grafted)
        assert not await clone.descends(other, applied)
        await git.check("update-ref", f"refs/replace/{applied}", other)
        oid = (await clone.tree(applied))["a"].oid
        assert await clone.contents({"a": oid}) == {"a": b"one"}

    run(main)


def test_no_hook_runs_wherever_somebody_has_put_it(
    origin: Origin, clone: Repository, tmp_path: Path
) -> None:
    canary, first = tmp_path / "ran", origin.head()[0]
    second = origin.commit({"a": "two"})

    async def main() -> None:
        await fetched(clone, remote(origin.url), second)
        git_dir = Path((await clone.git.check("rev-parse", "--absolute-git-dir")).decode().strip())
        for name in ("reference-transaction", "post-index-change", "post-checkout", "pre-commit"):
            hook = git_dir / "hooks" / name
            hook.parent.mkdir(exist_ok=True)
            hook.write_text(f"#!/bin/sh\necho {name} >> {canary}\n")
            hook.chmod(0o755)
        await clone.reset(first)
        await clone.reset(second)
        assert (clone.root / "a").read_text() == "two"
        assert not canary.exists()

    run(main)
