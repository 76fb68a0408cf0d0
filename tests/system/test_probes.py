"""Warm probes against the real servers: the head as Git tells it, one connection, every failure."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import pytest

from agent.adapters.probes.base import ASK_S, Probe
from agent.adapters.probes.connect import probe
from agent.adapters.probes.ssh import Address, address, command
from agent.adapters.tasks import task_group
from agent.domain.errors import UnreachableError
from agent.domain.source import git_protocol
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import RefAnswer
from tests.sandbox import Workspace
from tests.sandbox.process import Daemon, listens, run
from tests.system.probing import (
    ask,
    hurried,
    links,
    refusal,
    refused,
    remote_of,
    with_probe,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.domain.config import Remote
    from tests.sandbox import GitServer, Sandbox

SERVERS = ("gitea", "github")
NO_BRANCH, EMPTY = RefAnswer(Answer.NO_BRANCH), RefAnswer(Answer.EMPTY)


@pytest.fixture(autouse=True)
def healthy(box: Sandbox) -> Iterator[None]:
    yield
    box.gitea.start()
    box.github.start()


@pytest.fixture
def work(box: Sandbox) -> Workspace:
    work = Workspace(box)
    work.write({"README.md": "homelab\n"})
    work.commit("first")
    work.push(force=True)
    return work


@pytest.fixture(params=SERVERS)
def server(box: Sandbox, request: pytest.FixtureRequest) -> GitServer:
    found: GitServer = getattr(box, request.param)
    return found


@pytest.fixture
def remote(server: GitServer) -> Remote:
    return remote_of(server.remote_config())


@pytest.fixture
def v2_over_ssh(box: Sandbox) -> Iterator[Remote]:
    """Another sshd for the same repository, which lets clients choose the protocol's version."""
    port = 2322
    config = box.gitea.root / "sshd_config_v2"
    text = (box.gitea.root / "sshd_config").read_text()
    config.write_text(text.replace("2223", str(port)) + "AcceptEnv GIT_PROTOCOL\n")
    known_hosts = box.gitea.root / "known_hosts_v2"
    known_hosts.write_text(box.gitea.known_hosts.read_text().replace("2222", str(port)))
    daemon = Daemon(
        "sshd with version 2",
        ["/usr/sbin/sshd", "-f", config, "-D", "-e"],
        log=box.gitea.root / "sshd_v2.log",
        ready=lambda: listens(port),
    )
    daemon.start()
    try:
        settings = box.gitea.remote_config()
        url = settings["url"].replace("2222", str(port))
        yield remote_of(settings, url=url, known_hosts=str(known_hosts))
    finally:
        daemon.stop()


def head(sha: str) -> RefAnswer:
    return RefAnswer(Answer.HEAD, sha)


def repository(server: GitServer, name: str) -> str:
    """Another bare repository next to the usual one; its url."""
    path = server.root / name
    run(["git", "init", "--quiet", "--bare", "--initial-branch=main", path])
    run(["git", "config", "--file", server.root / ".gitconfig", "--add", "safe.directory", path])
    return server.url.replace("homelab.git", name)


# --- answers --------------------------------------------------------------------------------------


def test_the_head_is_gits_and_new_ones_come_over_the_same_connection(
    work: Workspace, server: GitServer, remote: Remote
) -> None:
    async def use(asked: Probe) -> None:
        before = links(server)
        assert await asked.ask() == head(work.git("rev-parse", "HEAD"))
        opened = links(server) - before
        assert len(opened) == 1
        for subject in ("second", "third"):
            sha = work.commit(subject)
            work.push(server)
            assert await asked.ask() == head(sha)
        assert links(server) - before == opened

    with_probe(remote, use)


def test_version_2_over_ssh_sees_what_is_pushed_between_two_asks(
    work: Workspace, v2_over_ssh: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[bool] = []
    real = git_protocol.ls_refs

    def noted(branch: str, server: git_protocol.Version2, *, wide: bool) -> bytes:
        asked_for.append(wide)
        return real(branch, server, wide=wide)

    monkeypatch.setattr(git_protocol, "ls_refs", noted)

    async def use(asked: Probe) -> None:
        for subject in ("second", "third"):
            sha = work.commit(subject)
            work.push()
            assert await asked.ask() == head(sha)

    with_probe(v2_over_ssh, use)
    assert asked_for == [False, False]
    assert ask(v2_over_ssh, "missing") == NO_BRANCH
    assert asked_for == [False, False, False, True]


def test_a_branch_that_is_missing_is_not_its_longer_namesake(
    work: Workspace, server: GitServer, remote: Remote
) -> None:
    work.git("push", "--quiet", str(server.path), "main:refs/heads/mainly", "main:refs/tags/v1")
    assert ask(remote, "main") == head(work.git("rev-parse", "HEAD"))
    assert ask(remote, "mai") == NO_BRANCH
    assert ask(remote, "v1") == NO_BRANCH
    work.git("push", "--quiet", "--delete", str(server.path), "mainly", "v1")


def test_an_empty_repository_is_not_one_without_the_branch(
    work: Workspace, server: GitServer
) -> None:
    url = repository(server, "empty.git")
    try:
        empty = remote_of(server.remote_config(), url=url)

        async def use(asked: Probe) -> None:
            assert await asked.ask() == EMPTY
            work.git("push", "--quiet", str(server.root / "empty.git"), "main:refs/heads/other")
            assert await asked.ask() == NO_BRANCH

        with_probe(empty, use)
    finally:
        shutil.rmtree(server.root / "empty.git")


def test_sha256_repositories_are_read(server: GitServer) -> None:
    path = server.root / "long.git"
    try:
        url = repository(server, "long.git")
        shutil.rmtree(path)
        run(["git", "init", "-q", "--bare", "--object-format=sha256", "-b", "main", path])
        tree = run(["git", "-C", path, "mktree"]).decode().strip()
        name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
        made = run(["git", *name, "-C", path, "commit-tree", "-m", "first", tree]).decode().strip()
        run(["git", "-C", path, "update-ref", "refs/heads/main", made])
        assert len(made) == 64
        assert ask(remote_of(server.remote_config(), url=url)) == head(made)
    finally:
        shutil.rmtree(path)


# --- refusals -------------------------------------------------------------------------------------


def test_another_host_key_is_refused(work: Workspace, box: Sandbox, tmp_path: Path) -> None:
    del work
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"])
    kind, key, _ = (tmp_path / "other.pub").read_text().split()
    other = tmp_path / "known_hosts"
    for text in (f"[127.0.0.1]:2222 {kind} {key}\n", "", f"example.org {kind} {key}\n"):
        other.write_text(text)
        error = refusal(remote_of(box.gitea.remote_config(), known_hosts=str(other)))
        assert str(error) == f"gitea: the host key of 127.0.0.1 is not the one in {other}"
    other.unlink()
    error = refusal(remote_of(box.gitea.remote_config(), known_hosts=str(other)))
    assert str(error) == f"gitea: {other} cannot be read: No such file or directory"


def test_another_client_key_is_refused(work: Workspace, box: Sandbox, tmp_path: Path) -> None:
    del work
    key = tmp_path / "key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    remote = remote_of(box.gitea.remote_config(), ssh_key=str(key))
    assert str(refusal(remote)) == f"gitea: the server does not accept {key}"
    run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "correct horse", "-f", key])
    assert str(refusal(remote)) == f"gitea: {key} is locked with a passphrase"
    key.write_text("correct horse\n")
    assert str(refusal(remote)) == f"gitea: {key} is not a file of its kind"


def test_a_ca_is_believed_that_openssl_has_made_by_itself(work: Workspace, box: Sandbox) -> None:
    seen = run(["openssl", "x509", "-in", box.github.ca_file, "-noout", "-text"]).decode()
    assert "Key Usage" not in seen  # for which Python 3.13 asks of its own accord
    assert ask(remote_of(box.github.remote_config())) == head(work.git("rev-parse", "HEAD"))


def test_an_unknown_ca_is_refused(work: Workspace, box: Sandbox, tmp_path: Path) -> None:
    del work
    other = tmp_path / "ca.crt"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", "/CN=other", "-keyout", tmp_path / "key", "-out", other])  # fmt: skip
    for ca_file in (str(other), None):
        error = refusal(remote_of(box.github.remote_config(), ca_file=ca_file))
        assert "the server's certificate is not trusted: " in str(error)
    other.write_text("no certificate")
    error = refusal(remote_of(box.github.remote_config(), ca_file=str(other)))
    assert str(error) == f"github: {other} cannot be used as ca_file"
    another_name = "https://0x7f000001:8443/homelab.git"  # 127.0.0.1, with no /etc/hosts either
    error = refusal(remote_of(box.github.remote_config(), url=another_name))
    assert "not trusted: Hostname mismatch" in str(error)


def test_a_wrong_token_is_refused_and_never_shown(
    work: Workspace, box: Sandbox, tmp_path: Path
) -> None:
    del work
    token = tmp_path / "token"
    token.write_text("correct-horse\n")
    error = refusal(remote_of(box.github.remote_config(), token_file=str(token)))
    assert str(error) == f"github: 401: the server does not accept the token in {token}"
    error = refusal(remote_of(box.github.remote_config(), token_file=None))
    assert "401: the server wants a token" in str(error)
    token.write_text("\n")
    error = refusal(remote_of(box.github.remote_config(), token_file=str(token)))
    assert str(error) == f"github: {token} holds no token"


def test_a_token_that_is_replaced_is_read_again(work: Workspace, box: Sandbox) -> None:
    expected = head(work.git("rev-parse", "HEAD"))
    users = box.github.root / "htpasswd"
    token = box.github.token_file
    old = token.read_text(), users.read_text()

    async def use(asked: Probe) -> None:
        assert await asked.ask() == expected
        users.write_text(f"{box.github.username}:{{PLAIN}}another\n")
        token.write_text("another\n")
        assert await asked.ask() == expected
        users.write_text(old[1])
        assert "401" in str(await refused(asked))
        token.write_text(old[0])
        assert await asked.ask() == expected

    try:
        with_probe(remote_of(box.github.remote_config()), use)
    finally:
        token.write_text(old[0])
        users.write_text(old[1])


def test_no_repository_there(work: Workspace, box: Sandbox) -> None:
    del work
    for server in (box.gitea, box.github):
        url = server.url.replace("homelab", "it's not! there")
        settings = server.remote_config()
        error = refusal(remote_of(settings, url=url.replace(" ", "%20")))
        told = {"gitea": "it's not! there.git' does not appear to be a git repo", "github": "404"}
        assert told[server.name] in str(error)


# --- the network ----------------------------------------------------------------------------------


def test_a_refused_connection(work: Workspace, server: GitServer, remote: Remote) -> None:
    del work
    server.proxy.mode("cut")
    with within(8):
        error = refusal(remote)
    assert str(error) == f"{server.name}: cannot connect: Connection refused"


@pytest.mark.parametrize("mode", ["blackhole", "drip"])
def test_a_connection_that_says_nothing_or_a_byte_at_a_time_ends(
    work: Workspace, server: GitServer, remote: Remote, mode: Literal["blackhole", "drip"]
) -> None:
    sha = work.git("rev-parse", "HEAD")

    def behave_badly() -> None:
        server.proxy.mode(mode, 1 if mode == "drip" else 0)

    async def use(asked: Probe) -> None:
        behave_badly()
        with within(8), hurried(connect_s=1):
            assert "no connection within 1 s" in str(await refused(asked))
        server.proxy.mode("pass")
        assert await asked.ask() == head(sha)
        behave_badly()
        with within(12), hurried(ask_s=1):
            assert "no answer within 1 s" in str(await refused(asked))
        server.proxy.mode("pass")
        assert await asked.ask() == head(sha)

    with_probe(remote, use)


def test_the_agents_own_patience_is_a_quarter_of_a_minute(work: Workspace, box: Sandbox) -> None:
    del work
    servers = (box.gitea, box.github)
    asked = [probe(remote_of(server.remote_config()), "main") for server in servers]

    async def main() -> None:
        for each in asked:
            await each.ask()
        for server in servers:
            server.proxy.mode("blackhole")
        with within(ASK_S), hurried(ask_s=2):
            async with task_group() as group:
                for each in asked:
                    group.start_soon(refused, each)
        for each in asked:
            await each.aclose()

    assert ASK_S == 15
    anyio.run(main)


def test_a_connection_cut_anywhere_gives_the_head_or_an_error(
    work: Workspace, server: GitServer, remote: Remote
) -> None:
    sha = work.git("rev-parse", "HEAD")
    told: set[str] = set()

    async def use(asked: Probe) -> None:
        for amount in (1, 20, 40, 200, 900, 1500, 1900, 2100, 2300, 2500, 2700, 2900, 3300):
            for warm in (False, True):
                server.proxy.mode("pass")
                if warm:
                    assert await asked.ask() == head(sha)
                else:
                    await asked.aclose()
                server.proxy.mode("cut_after", amount)
                try:
                    said = await asked.ask()
                except UnreachableError as err:
                    told.add(str(err))
                else:
                    assert said == head(sha)
        server.proxy.mode("pass")
        assert await asked.ask() == head(sha)

    with_probe(remote, use)
    assert told
    assert all(text.startswith(f"{server.name}: ") for text in told)


def test_after_a_restart_the_next_ask_connects_again(
    work: Workspace, server: GitServer, remote: Remote
) -> None:
    sha = work.git("rev-parse", "HEAD")

    async def use(asked: Probe) -> None:
        assert await asked.ask() == head(sha)
        server.stop()
        server.start()
        assert await asked.ask() == head(sha)
        server.stop()
        assert "cannot connect" in str(await refused(asked))
        server.start()
        assert await asked.ask() == head(sha)

    with_probe(remote, use)


def test_a_cancelled_ask_leaves_a_probe_that_works(work: Workspace, remote: Remote) -> None:
    sha = work.git("rev-parse", "HEAD")

    async def use(asked: Probe) -> None:
        for seconds in (0, 0.001, 0.005, 0.02, 0.05, 0.1, 0.0, 0.001, 0.005, 0.02, 0.05):
            with anyio.move_on_after(seconds):
                await asked.ask()
            with within(12):
                assert await asked.ask() == head(sha)

    with_probe(remote, use)


# --- repositories on this machine -----------------------------------------------------------------


def test_a_repository_on_this_machine_in_all_its_forms(work: Workspace, tmp_path: Path) -> None:
    sha = work.git("rev-parse", "HEAD")

    def file(path: Path, branch: str = "main") -> RefAnswer:
        return ask(remote_of({"name": "disk", "url": f"file://{path}"}), branch)

    def gone(path: Path) -> str:
        return str(refusal(remote_of({"name": "disk", "url": f"file://{path}"})))

    assert file(work.path) == head(sha)
    assert file(work.path, "missing") == NO_BRANCH
    work.git("pack-refs", "--all")
    assert not (work.path / ".git/refs/heads/main").exists()
    assert file(work.path) == head(sha)
    assert file(work.path / ".git") == head(sha)
    assert file(work.path, "missing") == NO_BRANCH
    newer = work.commit("newer")
    assert file(work.path) == head(newer)
    work.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    assert file(work.path, "alias") == head(newer)
    work.git("worktree", "add", "--quiet", "-b", "side/line", str(tmp_path / "tree"))
    assert file(tmp_path / "tree", "side/line") == head(newer)
    assert file(work.path, "side") == NO_BRANCH
    latin_1 = work.path / ".git/refs/heads" / os.fsdecode(b"caf\xe9")
    latin_1.write_text(f"{sha}\n")
    assert file(work.path) == head(newer)
    assert file(work.path, "caf\xe9") == NO_BRANCH
    bare = tmp_path / "bare.git"
    work.git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    assert file(bare) == EMPTY
    assert file(bare.with_suffix("")) == EMPTY
    for content in ("", "ref: refs/heads/main\n", "ref: refs/heads/../../x\n", f"{sha}f\n"):
        (bare / "refs/heads/main").write_text(content)
        assert "refs/heads/main in" in gone(bare)
    (bare / "config").write_text("[core]\n\trepositoryformatversion = 9\n")
    assert gone(bare) == f"disk: Git cannot read {bare}"
    assert "is not a repository" in gone(tmp_path)
    assert "is not a repository" in gone(tmp_path / "nowhere")
    (tmp_path / "away").mkdir()
    (tmp_path / "away/.git").write_text("gitdir: /nonexistent\n")
    assert "is not a repository" in gone(tmp_path / "away")


# --- small things ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ssh://git@gitea.lan:2222/ops/x.git", Address("gitea.lan", 2222, "git", "/ops/x.git")),
        ("ssh://gitea.lan/x.git", Address("gitea.lan", 22, None, "/x.git")),
        ("git@gitea.lan:ops/x.git", Address("gitea.lan", 22, "git", "ops/x.git")),
        ("ssh://git@[::1]:22/~ada/x%20y", Address("::1", 22, "git", "~ada/x y")),
    ],
)
def test_addresses_are_read_as_git_does(url: str, expected: Address) -> None:
    assert address(url) == expected


def test_the_path_is_quoted_for_git_shell() -> None:
    assert command("/a b/c'd!e$(id)") == r"git-upload-pack '/a b/c'\''d'\!'e$(id)'"


def test_no_library_is_loaded_that_no_remote_needs() -> None:
    script = (
        "import sys\n"
        "from agent.adapters.probes.connect import probe\n"
        "from agent.domain.config import Remote\n"
        "probe(Remote(name='a', url='https://example.org/x'), 'main')\n"
        "probe(Remote(name='b', url='file:///x'), 'main')\n"
        "assert 'asyncssh' not in sys.modules\n"
        "probe(Remote(name='c', url='git@example.org:x'), 'main')\n"
        "assert 'asyncssh' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_errors_hold_no_secret(work: Workspace, box: Sandbox) -> None:
    del work
    token = box.github.token_file.read_text().strip()
    basic = base64.b64encode(f"{box.github.username}:{token}".encode()).decode()
    settings = box.github.remote_config()
    errors = [refusal(remote_of(settings, ca_file=None))]
    errors.append(refusal(remote_of(settings, url=f"{settings['url']}x")))
    box.github.proxy.mode("cut")
    errors.append(refusal(remote_of(settings)))
    for error in errors:
        shown = f"{error} {error!r} {error.__cause__!r} {vars(error)}"
        assert token not in shown
        assert basic not in shown
