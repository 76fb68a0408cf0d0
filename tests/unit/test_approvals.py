"""What a person approved of a commit counts for one move of the host, and so does its trailer."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path

import anyio
import pytest

from agent.adapters.git.repository import Repository
from agent.adapters.state import schema
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.tasks import task_group
from agent.control.source.remote_status import Remotes, recall
from agent.domain.config import Config, Remote
from agent.domain.outcome import Reason
from agent.domain.revision import Revision
from agent.domain.source.decide import Answer
from tests.unit.upstream import following

TRAILER = "Commitd-Approve: removals"


class World:
    """A remote repository whose branch is put where it is wanted, and the agent's own parts."""

    def __init__(self, root: Path) -> None:
        self.work = root / "work"
        self.work.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.config = Config(
            host="media",
            remotes=(Remote(name="gitea", url=f"file://{self.work}"),),
            state_dir=root / "state",
            runtime_dir=root / "run",
        )
        self.config.state_dir.mkdir()
        self.journal = Journal(self.config.state_dir / "journal.db")
        self.repository = Repository.of(self.config)

    def git(self, *words: str, stdin: str = "") -> str:
        env = os.environ | {
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "Ada" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "ada@example.org" for who in ("AUTHOR", "COMMITTER")},
        }
        found = subprocess.run(
            ["git", *words],
            cwd=self.work,
            env=env,
            input=stdin,
            check=True,
            capture_output=True,
            text=True,
        )
        return found.stdout.strip()

    def commit(self, message: str, on: str | None = None) -> str:
        """A commit after `on`, or the first of a history of its own."""
        (self.work / "host/media").mkdir(parents=True, exist_ok=True)
        (self.work / "host/media/stacks.yaml").write_text("[]\n")
        self.git("add", "--all")
        parent = ["-p", on] if on else []
        return self.git("commit-tree", self.git("write-tree"), *parent, "-F", "-", stdin=message)

    def follows(self, *heads: str, approve: str = "") -> list[str | None]:
        """Show these heads one after the other; what is applied after each.

        `approve` is accepted by a person before the last.
        """

        async def run() -> list[str | None]:
            journal, repository = AsyncJournal(self.journal), self.repository
            await repository.prepare()
            remotes = Remotes(recall(self.journal, ["gitea"]), journal, self.config.runtime_dir)
            applied: list[str | None] = []
            async with task_group() as group:
                follower = following(self.config, repository, remotes, journal, group=group)
                for sha in heads:
                    if approve and sha == heads[-1]:
                        self.journal.approve(approve)
                    self.git("update-ref", "refs/heads/main", sha)
                    remotes.tell("gitea", Answer.HEAD, sha=sha, error=None, at="now")
                    followed = await follower.follow()
                    if any(hold.reason is not Reason.HISTORY for hold in followed.holds):
                        raise AssertionError(followed.holds)
                    applied.append(await repository.applied())
            return applied

        return anyio.run(run)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_approved_rewrite_counts_for_one_move(world: World) -> None:
    one, other = world.commit("one line"), world.commit("another")
    assert world.follows(one, other) == [one, one]
    assert world.follows(other, approve=other) == [other]
    assert world.follows(one, approve=one) == [one]
    assert world.follows(other) == [one]
    # A person who means it again says so again.
    assert world.follows(other, approve=other) == [other]
    assert world.follows(one, other, one) == [other, other, other]


def test_what_a_commit_was_allowed_to_remove_does_not_let_history_be_rewritten(
    world: World,
) -> None:
    first = world.commit("first")
    purge, other = world.commit("a purge", on=first), world.commit("another line")
    assert world.follows(first, purge) == [first, purge]
    world.journal.approve(purge)
    assert world.follows(purge) == [purge]
    assert world.journal.approved() == {purge}  # as long as it is what is applied
    assert world.follows(other, approve=other) == [other]
    assert world.journal.approved() == {other}
    assert world.follows(purge) == [other]


def test_an_approval_of_a_move_that_the_host_did_not_make_ends_with_the_next(world: World) -> None:
    first = world.commit("first")
    second, other = world.commit("second", on=first), world.commit("another line")
    assert world.follows(first) == [first]
    world.journal.approve(other)
    assert world.follows(second, other) == [second, second]


def test_a_journal_that_grew_forgets_the_approvals_of_moves_long_made(tmp_path: Path) -> None:
    path, before = tmp_path / "journal.db", schema.MIGRATIONS.index(schema.APPROVALS)
    with sqlite3.connect(path) as db:
        for script in schema.MIGRATIONS[:before]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {before}")
        db.executemany(
            "INSERT INTO approvals VALUES (?, ?)",
            [("old", "2026-01-01"), ("applied", "2026-01-02"), ("pending", "2026-01-04")],
        )
        db.execute(
            "INSERT INTO actions (at, action, subject, reason, cause)"
            " VALUES ('2026-01-03', 'accept', 'media', 'new-commit', '[]')"
        )
        meta = [("rewrites", '["old"]'), ("declared", '{"revision": {"sha": "applied"}}')]
        db.executemany("INSERT INTO meta VALUES (?, ?)", meta)
    db.close()
    journal = Journal(path)
    assert journal.approved() == {"applied", "pending"}
    assert journal.get("rewrites") is None
    journal.close()


# --- the trailer ---

SIDE = f"they leave\n\n{TRAILER}\n"
FORGES = {
    "its author wrote it": (f"a purge\n\nBoth are old.\n\n{TRAILER}", True),
    "beside another": (f"a purge\n\nReviewed-by: Eve <e@example.org>\n{TRAILER}", True),
    "bullets of a person": (f"a purge\n\n- one\n- two\n\n{TRAILER}", True),
    "a merge of the forge": ("Merge pull request 'x' (#1) from side into main\n\nx", False),
    "GitHub": (f"x (#1)\n\n* they leave\n\n{TRAILER}\n\n* more", False),
    "GitHub, the last": (f"x (#1)\n\n* more\n\n* they leave\n\n{TRAILER}", False),
    "GitHub, with authors": (
        f"x (#1)\n\n* more\n\n* they leave\n\n{TRAILER}\n\n---------\n\nCo-authored-by: E <e@e.e>",
        False,
    ),
    "Gitea": (f"x (#1)\n\n* more\n\n* they leave\n\n{TRAILER}\n\nCo-authored-by: E <e@e.e>", False),
    "two in one paragraph": (f"x (#1)\n\n* they leave\n* both\n\n{TRAILER}", False),
    "in the middle": (f"a purge\n\n{TRAILER}\n\nThat was asked for.", False),
    "quoted": (f"a purge\n\n    {TRAILER}", False),
}


def _revision(world: World, sha: str) -> Revision:
    async def run() -> Revision:
        await world.repository.prepare()
        await world.repository.incoming.fetch(world.config.remotes[0], sha)
        return await world.repository.incoming.commits.revision(sha)

    world.git("update-ref", "refs/heads/main", sha)
    return anyio.run(run)


@pytest.mark.parametrize("case", FORGES)
def test_a_trailer_counts_where_the_author_of_the_head_wrote_it(world: World, case: str) -> None:
    message, counts = FORGES[case]
    assert _revision(world, world.commit(message)).approves_removals is counts


def test_a_squash_by_git_carries_no_approval_along(world: World) -> None:
    world.git("reset", "--quiet", "--hard", world.commit("first"))
    world.git("checkout", "--quiet", "-b", "side")
    for name in ("one", "two"):
        (world.work / name).write_text("x")
        world.git("add", "--all")
        world.git("commit", "--quiet", "--message", SIDE)
    side = world.git("rev-parse", "HEAD")
    assert _revision(world, side).approves_removals
    world.git("checkout", "--quiet", "--detach", "HEAD~2")
    world.git("merge", "--quiet", "--squash", side)
    world.git("commit", "--quiet", "--no-edit")
    squashed = world.git("rev-parse", "HEAD")
    assert TRAILER in world.git("log", "-1", "--format=%B", squashed)
    assert not _revision(world, squashed).approves_removals
    world.git("checkout", "--quiet", "--detach", "HEAD~1")
    world.git("merge", "--quiet", "--no-ff", "--no-edit", side)
    assert not _revision(world, world.git("rev-parse", "HEAD")).approves_removals
