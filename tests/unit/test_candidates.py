"""Trouble with a new commit is a hold for that commit, and the applied one goes on being known."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from agent.adapters.git import commits
from agent.adapters.git.repository import Repository
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.tasks import task_group
from agent.control.source.housekeeping import Housekeeper
from agent.control.source.remote_status import Remotes, recall
from agent.domain.config import Config, Remote
from agent.domain.errors import PermanentError, TransientError
from agent.domain.outcome import Reason
from agent.domain.source.decide import Answer
from tests.unit.upstream import Upstream, do, following, git

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.control.source.follower import Followed

FILES: dict[str, str | bytes | None] = {"host/media/stacks.yaml": "[]\n"}


class World:
    """The agent's own parts from the remote to the checkout, without an engine."""

    def __init__(self, directory: Path) -> None:
        self.upstream = Upstream(directory)
        self.config = Config(
            host="media",
            remotes=(self.upstream.remote,),
            state_dir=self.upstream.state,
            runtime_dir=directory / "run",
        )
        self.journal = Journal(self.upstream.state / "journal.db")
        self.repository = self.upstream.agent()

    def follows(self, *shas: str, patience_s: float = 60.0) -> list[Followed]:
        """One cycle for each of the heads that the remote shows."""

        async def run() -> list[Followed]:
            journal = AsyncJournal(self.journal)
            remotes = Remotes(recall(self.journal, ["gitea"]), journal, self.config.runtime_dir)
            found = []
            async with task_group() as group:
                follower = following(
                    self.config,
                    self.repository,
                    remotes,
                    journal,
                    group=group,
                    patience_s=patience_s,
                )
                for sha in shas:
                    remotes.tell("gitea", Answer.HEAD, sha=sha, error=None, at="now")
                    found.append(await follower.follow())
                group.cancel_scope.cancel()
            return found

        found: list[Followed] = anyio.run(run)
        return found

    def objects(self) -> int:
        """Bytes of the clone's objects."""
        files = (self.upstream.state / "git/objects").rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file())

    def incoming(self) -> int:
        """Commits that are kept to be judged."""
        return len([*(self.upstream.state / "incoming").glob("*.*")])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "run").mkdir()
    world = World(tmp_path)
    yield world
    world.journal.close()


def bomb(upstream: Upstream, leaf: str) -> str:
    """A commit of a few KB with 10,000,000,000 paths, of which each ends in `leaf`."""
    at = upstream.path
    line = leaf
    for _ in range(10):
        entries = "".join(f"{line}\t{name}\n" for name in "abcdefghij").encode()
        line = f"040000 tree {git(at, 'mktree', stdin=entries)}"
    root = git(at, "ls-tree", "HEAD") + f"\n{line}\tbomb\n"
    tree = git(at, "mktree", stdin=root.encode())
    sha = git(at, "commit-tree", tree, "-p", "HEAD", "-m", "a bomb")
    git(at, "update-ref", "refs/heads/main", sha)
    return sha


@pytest.mark.parametrize("empty", [False, True])
def test_a_commit_with_more_paths_than_can_be_listed_is_refused_and_nothing_is_in_doubt(
    world: World, empty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "TREE_S", 3.0)
    good = world.upstream.commit(FILES)
    kind, name = ("tree", "mktree") if empty else ("blob", "hash-object")
    words = (name,) if empty else (name, "-w", "--stdin")
    oid = git(world.upstream.path, *words)
    bad = bomb(world.upstream, f"{'040000' if empty else '100644'} {kind} {oid}")
    before, *after = world.follows(good, bad, bad, bad)
    assert (before.holds, before.doubt) == ((), None)
    for followed in after:
        (hold,) = followed.holds
        assert hold.reason is Reason.TREE
        assert bad[:7] in hold.detail
        assert followed.doubt is None
        assert followed.desired is not None
        assert followed.desired.revision.sha == good
    assert not do(world.repository.knows, bad)
    world.upstream.back_to(good)
    mended = world.upstream.commit({"README.md": "words"})
    (followed,) = world.follows(mended)
    assert (followed.holds, followed.doubt) == ((), None)
    assert do(world.repository.applied) == mended


def test_refused_commits_do_not_stay_in_the_clone(world: World) -> None:
    good = world.upstream.commit(FILES)
    world.follows(good)
    before = world.objects()
    for number in range(4):
        (world.upstream.path / "link").unlink(missing_ok=True)
        (world.upstream.path / "link").symlink_to(f"/etc/{number}")
        bad = world.upstream.commit({"noise.bin": os.urandom(1_000_000)})
        (followed,) = world.follows(bad)
        assert [hold.reason for hold in followed.holds] == [Reason.TREE]
    assert world.objects() == before
    assert world.incoming() == 1
    world.upstream.back_to(good)
    newer = world.upstream.commit({"README.md": "words"})
    world.follows(newer, newer)
    assert world.objects() < before + 10_000
    do(world.repository.incoming.keep, ())
    assert git(world.upstream.state, "--git-dir=git", "fsck", "--full", "--no-dangling") == ""


def test_what_a_server_sent_besides_is_not_taken_for_here(world: World) -> None:
    """A commit of which the half is here, because one remote sent it along, is never fetched."""
    good = world.upstream.commit(FILES)
    newer = world.upstream.commit({"README.md": "words"})
    (followed,) = world.follows(good)
    assert (followed.holds, do(world.repository.applied)) == ((), good)
    assert not do(world.repository.incoming.commits.knows, newer)
    assert not do(world.repository.knows, newer)
    (followed,) = world.follows(newer)
    assert (followed.holds, do(world.repository.applied)) == ((), newer)


def test_a_person_may_name_a_commit_that_waits_for_one(world: World) -> None:
    first = world.upstream.commit(FILES)
    world.follows(first)
    git(world.upstream.path, "checkout", "--quiet", "--orphan", "rewritten")
    other = world.upstream.commit({"README.md": "another line"})
    git(world.upstream.path, "branch", "--quiet", "--move", "--force", "main")
    (followed,) = world.follows(other)
    assert [hold.reason for hold in followed.holds] == [Reason.HISTORY]
    assert not do(world.repository.knows, other)
    reader = Repository.to_read(world.config)
    assert do(reader.resolve, other[:9]) == other
    assert (do(reader.declared, other, "media"))[0].revision.sha == other


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.git"
        server.shutdown(socket.SHUT_RDWR)
        for each in taken:
            each.close()


def test_a_fetch_that_takes_long_is_said_and_nothing_waits_for_it(
    world: World, silent: str
) -> None:
    good = world.upstream.commit(FILES)
    world.follows(good)
    slow = Remote(name="gitea", url=silent, plain_http=True)
    world.config = Config(
        host="media",
        remotes=(slow,),
        state_dir=world.config.state_dir,
        runtime_dir=world.config.runtime_dir,
    )
    for followed in world.follows("1" * 40, "1" * 40, "2" * 40, patience_s=0.1):
        (hold,) = followed.holds
        assert hold.reason is Reason.UNJUDGED
        assert followed.doubt is None
        assert followed.desired is not None
        assert followed.desired.revision.sha == good
    assert do(world.repository.applied) == good


# --- repacking ---


def tidy(world: World) -> bool:
    async def run() -> Any:
        async with task_group() as group:
            keeper = Housekeeper(world.repository, AsyncJournal(world.journal), group)
            return await keeper.tidy()

    found: bool = anyio.run(run)
    return found


def test_repacking_drops_what_nothing_names_and_keeps_what_the_journal_does(world: World) -> None:
    first = world.upstream.commit(FILES)
    world.follows(first)
    git(world.upstream.path, "checkout", "--quiet", "--orphan", "rewritten")
    other = world.upstream.commit({"README.md": "another line"})
    git(world.upstream.path, "branch", "--quiet", "--move", "--force", "main")
    world.journal.approve(other)
    world.follows(other)
    assert do(world.repository.applied) == other
    git(world.upstream.path, "checkout", "--quiet", "--detach", first)
    third = world.upstream.commit({"README.md": "more"})
    world_git = f"--git-dir={world.upstream.state / 'git'}"
    git(world.upstream.path, world_git, "fetch", "--quiet", str(world.upstream.path), third)
    do(world.repository.incoming.keep, ())
    assert do(world.repository.incoming.commits.knows, third)

    async def run() -> None:
        await world.repository.tidying.run({first})

    anyio.run(run)
    assert not do(world.repository.incoming.commits.knows, third)
    assert do(world.repository.knows, first)
    assert do(world.repository.knows, other)
    assert not do(world.repository.knows, third)
    assert tidy(world)
    assert not do(world.repository.tidying.needed)


def test_after_repacking_no_git_is_left_that_holds_the_packs_of_before(world: World) -> None:
    world.follows(world.upstream.commit(FILES))
    repository = world.repository

    async def run() -> None:
        await repository.tidying.run(())
        assert repository.session._child is None
        assert repository._refs._session._child is None

    anyio.run(run)


def test_objects_whose_list_cannot_be_written_do_not_stay(world: World) -> None:
    """They would be known from then on, never fetched again, and never removed."""
    sha = world.upstream.commit(FILES)
    waiting = world.upstream.state / "incoming"
    (waiting / f"{sha}.whole").mkdir()
    with pytest.raises(TransientError):
        do(world.repository.incoming.fetch, world.upstream.remote, sha)
    assert not [path for path in (waiting / "objects").rglob("*") if path.is_file()]
    (waiting / f"{sha}.whole").rmdir()
    do(world.repository.incoming.fetch, world.upstream.remote, sha)
    do(world.repository.incoming.keep, ())
    assert not [path for path in (waiting / "objects").rglob("*") if path.is_file()]


def test_repacking_ends_when_somebody_wants_to_write(world: World) -> None:
    world.follows(world.upstream.commit(FILES))

    async def run() -> bool:
        ended: list[bool] = []

        async def work() -> None:
            ended.append(await world.repository.tidying.run(()))

        async with task_group() as group:
            group.start_soon(work)
            await anyio.lowlevel.checkpoint()
            await world.repository.tidying.stop()
        return ended[0]

    assert anyio.run(run) is False
    assert git(world.upstream.state, "--git-dir=git", "fsck", "--full", "--no-dangling") == ""


def test_nothing_is_repacked_while_a_commit_is_judged(world: World) -> None:
    world.follows(world.upstream.commit(FILES))
    (world.upstream.path / "link").symlink_to("/etc")
    world.follows(world.upstream.commit({}))
    assert world.incoming() == 1
    assert not tidy(world)


def test_a_clone_that_is_rebuilt_fetches_the_applied_commit_before_it_decides(
    world: World,
) -> None:
    older = world.upstream.commit(FILES)
    newer = world.upstream.commit({"README.md": "words"})
    world.follows(newer)
    shutil.rmtree(world.upstream.state / "git")
    world.repository = world.upstream.agent()
    world.upstream.back_to(older)
    with pytest.raises(PermanentError, match=newer[:7]):
        world.follows(older)
    git(world.upstream.path, "reset", "--quiet", "--hard", newer)
    newest = world.upstream.commit({"README.md": "more words"})
    (followed,) = world.follows(newest)
    assert (followed.holds, do(world.repository.applied)) == ((), newest)
