"""Which commit a host had, where its clone and its journal do not say the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.releases import Rollback
from agent.adapters.tasks import task_group
from agent.control.source.remote_status import Remotes, recall
from agent.control.stack.operations import Stacks
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.outcome import Action, Reason
from agent.domain.source.decide import Answer
from tests.unit import test_candidates
from tests.unit.test_git_dir import as_before, placed
from tests.unit.upstream import do, following, git

WEB = "stacks/web/compose.yaml"
FILES: dict[str, str | bytes | None] = {
    "host/media/stacks.yaml": "- web\n",
    WEB: "services: {app: {image: x:1}}\n",
}


class World(test_candidates.World):
    """The same, and what such a host does while no remote answers."""

    def waits(self) -> str | None:
        """One cycle without any remote; the commit that is enforced then."""

        async def run() -> str | None:
            journal = AsyncJournal(self.journal)
            remotes = Remotes(recall(self.journal, ["gitea"]), journal, self.config.runtime_dir)
            remotes.tell("gitea", Answer.DOWN, sha=None, error="down", at="now")
            async with task_group() as group:
                follower = following(self.config, self.repository, remotes, journal, group=group)
                followed = await follower.follow()
                group.cancel_scope.cancel()
            return followed.desired.revision.sha if followed.desired else None

        enforced: str | None = anyio.run(run)
        return enforced

    def stays(self) -> str | None:
        """One cycle of a suspended host."""

        async def run() -> str | None:
            journal = AsyncJournal(self.journal)
            remotes = Remotes(recall(self.journal, ["gitea"]), journal, self.config.runtime_dir)
            async with task_group() as group:
                follower = following(self.config, self.repository, remotes, journal, group=group)
                followed = await follower.stay()
            return followed.desired.revision.sha if followed.desired else None

        enforced: str | None = anyio.run(run)
        return enforced

    def restart(self) -> None:
        """As the agent starts, with what the journal says."""
        declared = self.journal.get("declared")
        self.repository = self.upstream.agent(declared["revision"]["sha"] if declared else None)

    def accepted(self) -> list[str]:
        """Why the checkout was moved, the last one first."""
        return [e.reason for e in self.journal.history() if e.action == Action.ACCEPT]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "run").mkdir()
    world = World(tmp_path)
    yield world
    world.journal.close()


def restored(world: World) -> tuple[str, str]:
    """A host whose clone is from before its last commit; the older commit and the last."""
    old = world.upstream.commit(FILES)
    world.follows(old)
    backup = world.upstream.state / "backup"
    shutil.copytree(world.upstream.state / "git", backup)
    new = world.upstream.commit({WEB: "services: {app: {image: x:2}}\n"})
    world.follows(new)
    shutil.rmtree(world.upstream.state / "git")
    backup.rename(world.upstream.state / "git")
    return old, new


def test_a_clone_that_is_older_than_the_journal_moves_no_host_back(world: World) -> None:
    _, new = restored(world)
    world.restart()
    assert world.stays() is None
    with pytest.raises(PermanentError, match=f"{new[:7]} is missing"):
        world.waits()
    assert "x:2" in (world.upstream.repo / WEB).read_text()
    assert world.journal.get("declared")["revision"]["sha"] == new
    before = placed(world.upstream)
    (followed,) = world.follows(new)
    assert (followed.holds, followed.doubt, do(world.repository.applied)) == ((), None, new)
    assert placed(world.upstream) == before
    assert world.waits() == world.stays() == new
    newest = world.upstream.commit({"README.md": "words"})
    assert world.follows(newest)[0].desired.revision.sha == newest  # type: ignore[union-attr]


def test_a_second_upgrade_goes_on_where_the_older_agent_has_been(world: World) -> None:
    """Without any remote: the older agent's own clone has it all."""
    _, new = restored(world)
    shutil.copytree(world.upstream.state / "git", world.upstream.state / "stale")
    git(world.upstream.state / "git", "--git-dir=.", "fetch", "-q", str(world.upstream.path), new)
    for ref in ("HEAD", "refs/commitd/applied"):
        git(world.upstream.state / "git", "--git-dir=.", "update-ref", "--no-deref", ref, new)
    as_before(world.upstream)
    (world.upstream.state / "stale").rename(world.upstream.state / "git")
    before = placed(world.upstream)
    world.restart()
    assert world.waits() == new
    assert placed(world.upstream) == before


def rewritten(world: World, *, on: str) -> str:
    git(world.upstream.path, "checkout", "--quiet", "--orphan", "rewritten")
    other = world.upstream.commit({"README.md": f"after {on}"})
    git(world.upstream.path, "branch", "--quiet", "--move", "--force", "main")
    return other


@pytest.mark.parametrize("rewrite", [False, True])
def test_an_agent_that_is_killed_before_it_has_noted_its_move_goes_on_from_there(
    world: World, rewrite: bool
) -> None:
    first = world.upstream.commit(FILES)
    world.follows(first)
    noted = world.journal.get("declared")
    second = rewritten(world, on=first) if rewrite else world.upstream.commit({"README.md": "x"})
    if rewrite:
        world.journal.approve(second)
    world.follows(second)
    world.journal.put("declared", noted)
    world.restart()
    assert world.waits() == second
    assert do(world.repository.applied) == second
    assert world.journal.get("declared")["revision"]["sha"] == second


def test_an_approved_way_back_is_followed(world: World) -> None:
    first = world.upstream.commit(FILES)
    second = world.upstream.commit({"README.md": "x"})
    world.follows(second)
    world.upstream.back_to(first)
    other = world.upstream.commit({"README.md": "y"})
    world.journal.approve(other)
    world.follows(other)
    world.restart()
    assert world.waits() == other


def test_an_upgrade_keeps_the_files_of_older_releases_and_calls_them_no_edits(
    world: World,
) -> None:
    """A stack was rolled back: its files are not those of the applied commit."""
    good = world.upstream.commit({**FILES, "stacks/web/gone.conf": "x\n"})
    world.follows(good)
    bad = world.upstream.commit(
        {
            WEB: "services: {app: {image: x:2}}\n",
            "stacks/web/gone.conf": None,
            "stacks/web/new.conf": "x\n",
        }
    )
    (followed,) = world.follows(bad)
    assert followed.desired is not None
    (stack,) = followed.desired.stacks
    world.journal.roll_back("web", Rollback(digest=stack.digest, revision=good, reason="sick"))
    do(world.repository.reset, bad, {"web": good})
    as_before(world.upstream)
    before, moves = placed(world.upstream), world.accepted()
    world.restart()
    assert world.waits() == bad
    assert placed(world.upstream) == before
    assert world.accepted() == moves
    assert do(world.repository.checked_out) == do(world.repository.overlaid, bad, {"web": good})
    assert "x:1" in (world.upstream.export / WEB).read_text()
    # An edit is still one.
    (world.upstream.repo / "host/media/stacks.yaml").write_text("[]\n")
    assert world.waits() == bad
    assert world.accepted() == [Reason.LOCAL_EDIT, *moves]


def test_a_disk_that_refuses_a_new_commit_is_a_hold_and_no_doubt(world: World) -> None:
    first = world.upstream.commit(FILES)
    world.follows(first)
    packs = world.upstream.state / "incoming/objects/pack"
    packs.rmdir()
    packs.symlink_to("nowhere")
    (followed,) = world.follows(world.upstream.commit({"README.md": "words"}))
    assert [hold.reason for hold in followed.holds] == [Reason.FETCH]
    assert followed.doubt is None
    assert followed.desired is not None
    assert followed.desired.revision.sha == first
    packs.unlink()
    (followed,) = world.follows(world.upstream.commit({"README.md": "more"}))
    assert followed.holds == ()


def test_a_disk_that_does_not_let_commits_go_is_a_hold_and_no_doubt(world: World) -> None:
    first = world.upstream.commit(FILES)
    world.follows(first)
    (world.upstream.state / f"incoming/{'1' * 40}.whole").mkdir()
    (followed,) = world.follows(first)
    assert [hold.reason for hold in followed.holds] == [Reason.UNJUDGED]
    assert followed.doubt is None
    with pytest.raises(TransientError, match="the disk refuses"):
        do(world.repository.incoming.keep, ())


def test_a_clone_is_repacked_after_a_commit_was_accepted(world: World) -> None:
    for number in range(3):
        world.follows(world.upstream.commit({**FILES, "README.md": f"{number}"}))
    assert world.incoming() == 0
    assert do(world.repository.tidying.needed)
    assert test_candidates.tidy(world)
    assert not do(world.repository.tidying.needed)


def test_an_export_that_cannot_be_made_is_said_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the agent runs, and nothing is deployed of half an export."""
    first = world.upstream.commit(FILES)
    world.follows(first)
    shutil.rmtree(world.upstream.export)
    lock = world.upstream.state / "git/export.index.lock"
    drop = type(world.repository)._drop_locks
    monkeypatch.setattr(type(world.repository), "_drop_locks", lambda _: lock.touch())
    world.restart()
    assert [world.repository.unsettled] == [True]
    assert [*world.upstream.export.iterdir()] == []
    with pytest.raises(CommitdError):
        world.waits()
    monkeypatch.setattr(type(world.repository), "_drop_locks", drop)
    lock.unlink()
    assert world.waits() == first
    assert [world.repository.unsettled] == [False]
    assert (world.upstream.export / WEB).exists()


def test_nothing_is_deployed_while_the_checkout_is_between_two_commits(world: World) -> None:
    nothing: Any = None  # neither Compose nor the engine is asked
    world.follows(world.upstream.commit(FILES))
    (stack,) = do(world.repository.declared, "HEAD", "media")[0].stacks
    stacks = Stacks(
        nothing,
        nothing,
        AsyncJournal(world.journal),
        nothing,
        lambda: None,
        agent=AgentPlaces(),
        unsettled=lambda: True,
    )
    with pytest.raises(TransientError, match="cut short"):
        do(stacks.prepare, stack, ran=True)
