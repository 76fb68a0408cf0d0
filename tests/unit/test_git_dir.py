"""Git's directory is not where containers mount from, and nothing that lies there is believed."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from agent.adapters.git import repository as repository_module
from agent.adapters.git import soundness
from agent.adapters.git.git import Git
from agent.domain.errors import TransientError
from tests.unit.upstream import Upstream, do, git

if TYPE_CHECKING:
    from pathlib import Path

FILES: dict[str, str | bytes | None] = {
    "stacks/web/compose.yaml": "services: {}\n",
    "stacks/web/a.conf": "one\n",
}


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path)


def plant(directory: Path, program: Path) -> None:
    """All that has Git run a program, as a container would write it."""
    program.write_text(f"#!/bin/sh\ntouch {program}.ran\ncat\n")
    program.chmod(0o755)
    hooks = directory / "hooks"
    hooks.mkdir(parents=True, exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "post-index-change", "pre-auto-gc"):
        shutil.copy(program, hooks / name)
    state = program.parent / "state"
    (directory / "config").write_text(
        "[core]\n\trepositoryformatversion = 1\n\tbare = false\n"
        f"\tfsmonitor = {program}\n\thooksPath = {hooks}\n\tsshCommand = {program}\n"
        "[extensions]\n\tworktreeConfig = true\n"
        '[protocol "ext"]\n\tallow = always\n[protocol]\n\tallow = always\n'
        f'[url "ext::{program} "]\n\tinsteadOf = {state}/\n\tinsteadOf = file://\n'
        f'[remote "{state}/incoming/x.git"]\n\tuploadpack = {program}\n'
        f'[filter "x"]\n\tsmudge = {program}\n\tclean = {program}\n'
        f'[diff "x"]\n\ttextconv = {program}\n\tcommand = {program}\n'
    )
    (directory / "config.worktree").write_text((directory / "config").read_text())
    (directory / "info").mkdir(exist_ok=True)
    (directory / "info/attributes").write_text("* filter=x diff=x\n")


@pytest.mark.parametrize("where", ["repo/.git", "git"])
def test_no_configuration_that_somebody_left_runs_a_program(
    upstream: Upstream, tmp_path: Path, where: str
) -> None:
    repository = upstream.agent()
    upstream.followed(FILES, repository)
    program = tmp_path / "program"
    plant(upstream.state / where, program)
    upstream.followed({"stacks/web/a.conf": "two\n"}, repository)
    assert not (tmp_path / "program.ran").exists()
    plant(upstream.state / where, program)
    repository = upstream.agent()
    upstream.followed({"stacks/web/a.conf": "three\n"}, repository)
    assert do(repository.local_edits) == []
    assert not (tmp_path / "program.ran").exists()
    assert (upstream.repo / "stacks/web/a.conf").read_text() == "three\n"
    assert not (upstream.repo / ".git").exists()


def test_git_is_asked_by_hand_with_its_directory_alone(upstream: Upstream) -> None:
    repository = upstream.agent()
    upstream.followed(FILES, repository)
    (upstream.repo / "stacks/web/a.conf").write_text("edited\n")
    said = git(upstream.path, f"--git-dir={upstream.state / 'git'}", "status", "--short")
    assert said == " M stacks/web/a.conf"


# --- a host that an older agent has worked on ---


def as_before(upstream: Upstream) -> None:
    """The state as an older agent leaves it: Git's directory in the checkout, and no export."""
    (upstream.state / "git").rename(upstream.repo / ".git")
    (upstream.repo / ".git/export.index").unlink()
    (upstream.repo / ".git/info/exclude").write_text(".decrypted.*\n/.git-broken/\n")
    git(upstream.state, "config", "--file", "repo/.git/config", "--unset", "core.worktree")
    git(upstream.repo, "reset", "--quiet", "--hard")
    shutil.rmtree(upstream.export)


def placed(upstream: Upstream) -> dict[str, tuple[int, int]]:
    paths = [path for path in upstream.repo.rglob("*") if ".git" not in path.parts]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


@pytest.fixture
def older(upstream: Upstream) -> tuple[Upstream, str]:
    """With the commit that was applied."""
    repository = upstream.agent()
    applied = upstream.followed(FILES, repository)
    as_before(upstream)
    (upstream.repo / "stacks/web/data").mkdir()
    (upstream.repo / "stacks/web/data/precious").write_text("x")
    return upstream, applied


def test_the_clone_of_an_older_agent_moves_out_of_the_checkout_and_nothing_else_changes(
    older: tuple[Upstream, str], tmp_path: Path
) -> None:
    upstream, applied = older
    plant(upstream.repo / ".git", tmp_path / "program")
    (upstream.repo / ".git/commondir").write_text("/nowhere\n")
    (upstream.repo / ".git/shallow").write_text(f"{applied}\n")
    os.mkfifo(upstream.repo / ".git/refs/commitd/fifo")
    (upstream.repo / ".git/objects/info").mkdir(exist_ok=True)
    (upstream.repo / ".git/objects/info/alternates").write_text("/nowhere\n")
    before = placed(upstream)
    repository = upstream.agent(applied)
    assert (do(repository.applied), do(repository.checked_out)) == (applied, applied)
    assert do(repository.local_edits) == []
    assert placed(upstream) == before
    assert not (upstream.repo / ".git").exists()
    assert sorted(path.name for path in (upstream.state / "git").iterdir()) == [
        *("HEAD", "config", "export.index", "index", "info", "objects", "packed-refs", "refs"),
    ]
    newer = upstream.followed({"stacks/web/a.conf": "two\n"}, repository)
    assert do(repository.applied) == newer
    assert upstream.files(upstream.repo)["stacks/web/data/precious"] == b"x"
    assert not (tmp_path / "program.ran").exists()


def test_a_history_is_walked_again_only_when_it_may_be_another(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.followed(FILES, upstream.agent())
    commits, note = upstream.agent(), tmp_path / "checked"
    walks: list[str] = []
    run = Git.run

    async def counted(self: Git, *words: str, **options: Any) -> Any:
        walks.extend(word for word in words if word == "fsck")
        return await run(self, *words, **options)

    monkeypatch.setattr(Git, "run", counted)

    def walked() -> int:
        walks.clear()
        assert do(soundness.whole, commits, note)
        return len(walks)

    assert [walked(), walked(), walked()] == [1, 0, 0]
    upstream.fetched({"stacks/web/a.conf": "two\n"}, commits)
    assert [walked(), walked()] == [1, 0]
    (ref := upstream.state / "git/refs/commitd/applied").write_text(ref.read_text())
    assert [walked(), walked()] == [1, 0]
    note.write_text(note.read_text().replace(note.read_text().split()[0], "9e9"))  # another run
    assert [walked(), walked()] == [1, 0]
    note.write_text("rubbish")
    assert [walked(), walked()] == [1, 0]
    for pack in (upstream.state / "git/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes()[:-30])
    assert not do(soundness.whole, commits, note)
    assert not do(soundness.whole, commits, note)


def _half_copied(upstream: Upstream) -> None:
    half = upstream.state / "git.new"
    (half / "objects").mkdir(parents=True)
    (half / "HEAD").write_text("ref: refs/heads/nowhere\n")


def _not_removed_yet(upstream: Upstream) -> None:
    old, aside = upstream.repo / ".git", upstream.state / "old"
    shutil.copytree(old, aside)
    upstream.agent(git(upstream.repo, "rev-parse", "refs/commitd/applied"))
    shutil.rmtree(upstream.export)
    aside.rename(old)


@pytest.mark.parametrize("cut", [_half_copied, _not_removed_yet])
def test_an_agent_that_is_killed_amid_the_move_begins_it_again(
    older: tuple[Upstream, str], cut: object
) -> None:
    upstream, applied = older
    before = placed(upstream)
    cut(upstream)  # type: ignore[operator]
    repository = upstream.agent(applied)
    assert do(repository.applied) == applied
    assert do(repository.local_edits) == []
    assert placed(upstream) == before
    assert not (upstream.repo / ".git").exists()
    assert not (upstream.state / "git.new").exists()
    assert upstream.files(upstream.export) == {k: v.encode() for k, v in FILES.items()}  # type: ignore[union-attr]


def test_a_history_that_was_forged_in_the_checkout_is_fetched_anew(
    older: tuple[Upstream, str],
) -> None:
    """Git itself does not notice what lies under the name of another object."""
    upstream, applied = older
    name = git(upstream.repo, "rev-parse", f"{applied}:stacks/web/a.conf")
    forged = upstream.repo / ".git/objects" / name[:2] / name[2:]
    forged.parent.mkdir(exist_ok=True)
    forged.unlink(missing_ok=True)
    forged.write_bytes(zlib.compress(b"blob 7\0forged\n"))
    repository = upstream.agent(applied)
    assert do(repository.applied) is None
    assert not (upstream.repo / ".git").exists()
    assert (upstream.state / "git-broken/repo.git/objects").is_dir()
    do(repository.incoming.fetch, upstream.remote, applied)
    do(repository.take_over, applied)
    assert do(repository.knows, applied)


def test_refs_that_a_container_could_set_say_nothing_of_what_was_applied(
    older: tuple[Upstream, str],
) -> None:
    upstream, applied = older
    (upstream.repo / "stacks/web/a.conf").write_text("forged\n")
    git(upstream.repo, "add", "stacks/web/a.conf")
    git(upstream.repo, "commit", "--quiet", "--message", "forged")
    git(upstream.repo, "update-ref", "refs/commitd/applied", "HEAD")
    repository = upstream.agent(applied)
    assert (do(repository.applied), do(repository.commit, "HEAD")) == (applied, applied)
    assert do(repository.local_edits) == ["stacks/web/a.conf"]
    assert (upstream.export / "stacks/web/a.conf").read_text() == "one\n"


@pytest.mark.parametrize("declared", [None, "a" * 40])
def test_a_history_without_what_the_journal_names_is_put_aside_and_fetched_anew(
    older: tuple[Upstream, str], declared: str | None
) -> None:
    upstream, applied = older
    before = placed(upstream)
    repository = upstream.agent(declared)
    assert do(repository.applied) is None
    assert placed(upstream) == before
    aside = upstream.state / "git-broken/repo.git"
    assert git(aside, "--git-dir=.", "rev-parse", "refs/commitd/applied") == applied


def test_a_clone_that_an_agent_of_before_has_begun_anew_is_the_newer_one(
    upstream: Upstream,
) -> None:
    """After a downgrade and a second upgrade."""
    repository = upstream.agent()
    upstream.followed(FILES, repository)
    stale = upstream.state / "stale"
    shutil.copytree(upstream.state / "git", stale)
    newer = upstream.followed({"stacks/web/a.conf": "two\n", "new": "x"}, repository)
    as_before(upstream)
    stale.rename(upstream.state / "git")
    before = placed(upstream)
    repository = upstream.agent(newer)
    assert (do(repository.applied), do(repository.local_edits)) == (newer, [])
    assert placed(upstream) == before
    assert (upstream.export / "stacks/web/a.conf").read_text() == "two\n"
    assert (upstream.state / "git-broken/objects").is_dir()


@pytest.mark.parametrize("overdue", [False, True])
def test_a_check_of_the_history_that_does_not_end_costs_no_history(
    older: tuple[Upstream, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overdue: bool
) -> None:
    upstream, applied = older
    doomed = tmp_path / "bin/git"
    doomed.parent.mkdir()
    end = "exec sleep 60" if overdue else "kill -9 $$"
    doomed.write_text(
        f'#!/bin/sh\nfor w; do [ "$w" != --full ] || {end}; done\nexec {shutil.which("git")} "$@"\n'
    )
    doomed.chmod(0o755)
    monkeypatch.setenv("PATH", f"{doomed.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(repository_module, "MOVE_S", 0.5 if overdue else 60.0)
    with pytest.raises(TransientError, match="the clone cannot be moved"):
        upstream.agent(applied)
    assert (upstream.repo / ".git/HEAD").exists()
    assert not (upstream.state / "git.new").exists()
    monkeypatch.undo()
    assert do(upstream.agent(applied).applied) == applied


@pytest.mark.parametrize("known", [False, True])
def test_a_disk_without_room_for_the_clone_is_said_and_nothing_of_it_is_left(
    older: tuple[Upstream, str], monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    upstream, applied = older

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if known:
        free = shutil.disk_usage(upstream.state)._replace(free=10)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    else:
        monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(TransientError, match=r"no room|No space") as caught:
        upstream.agent(applied)
    assert caught.value.hint
    assert not (upstream.state / "git.new").exists()
    assert (upstream.repo / ".git/HEAD").exists()
    monkeypatch.undo()
    assert do(upstream.agent(applied).applied) == applied


def test_what_older_agents_left_is_removed(upstream: Upstream) -> None:
    upstream.agent()
    for left in ("repo/.git-broken", "incoming.git"):
        (upstream.state / left).mkdir()
        (upstream.state / left / "HEAD").write_text("x")
    upstream.agent()
    assert not (upstream.repo / ".git-broken").exists()
    assert not (upstream.state / "incoming.git").exists()


# --- the export ---


def test_the_export_is_the_checkout_once_more_for_root_alone(upstream: Upstream) -> None:
    repository = upstream.agent()
    upstream.followed({**FILES, "run.sh": "x"}, repository)
    assert repository.export == upstream.export
    assert upstream.files(upstream.export) == upstream.files(upstream.repo)
    assert upstream.export.stat().st_mode & 0o777 == 0o700
    assert not (upstream.export / ".git").exists()
    upstream.followed({"run.sh": None, "stacks/web/a.conf": "two\n"}, repository)
    assert upstream.files(upstream.export) == upstream.files(upstream.repo)
    (upstream.repo / "stacks/web/a.conf").write_text("edited in a container\n")
    assert (upstream.export / "stacks/web/a.conf").read_text() == "two\n"


def test_an_overlay_is_in_the_export_too(upstream: Upstream) -> None:
    repository = upstream.agent()
    good = upstream.followed({**FILES, "stacks/b/f": "1"}, repository)
    bad = upstream.fetched({"stacks/web/a.conf": "bad\n", "stacks/b/f": "2"}, repository)
    do(repository.reset, bad, {"web": good})
    for root in (upstream.repo, upstream.export):
        files = upstream.files(root)
        assert (files["stacks/web/a.conf"], files["stacks/b/f"]) == (b"one\n", b"2")
    repository = upstream.agent()
    assert upstream.files(upstream.export)["stacks/web/a.conf"] == b"one\n"


def _edited(export: Path) -> None:
    (export / "stacks/web/a.conf").write_text("edited\n")


def _more(export: Path) -> None:
    (export / ".gitignore").write_text("*\n")
    (export / "stacks/web/.env").write_text("A=1\n")


def _open(export: Path) -> None:
    export.chmod(0o755)


def _elsewhere(export: Path) -> None:
    export.rename(export.with_name("elsewhere"))
    export.symlink_to("elsewhere")


def _gone(export: Path) -> None:
    shutil.rmtree(export)


@pytest.mark.parametrize("harm", [_edited, _more, _open, _elsewhere, _gone])
def test_an_export_that_is_not_as_it_was_left_is_made_anew_at_the_next_start(
    upstream: Upstream, harm: object
) -> None:
    repository = upstream.agent()
    upstream.followed(FILES, repository)
    harm(upstream.export)  # type: ignore[operator]
    upstream.agent()
    assert upstream.files(upstream.export) == {k: v.encode() for k, v in FILES.items()}  # type: ignore[union-attr]
    assert upstream.export.lstat().st_mode & 0o170777 == 0o040700


def test_an_export_that_is_as_it_was_left_is_left_alone(upstream: Upstream) -> None:
    repository = upstream.agent()
    upstream.followed(FILES, repository)
    before = (upstream.export / "stacks/web/a.conf").stat()
    written = (before.st_ino, before.st_mtime_ns)
    upstream.agent()
    upstream.followed({"README.md": "words"}, repository)
    after = (upstream.export / "stacks/web/a.conf").stat()
    assert (after.st_ino, after.st_mtime_ns) == written


def test_a_move_of_the_export_that_is_cut_short_leaves_nothing_of_the_other_commit(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed amid the files, before it has noted them in its index."""
    repository = upstream.agent()
    first = upstream.followed(FILES, repository)
    second = upstream.fetched({"stacks/web/.env": "A=1\n"}, repository)
    doomed = tmp_path / "bin/git"
    doomed.parent.mkdir()
    doomed.write_text(
        "#!/bin/sh\nfor w; do last=$w; done\n"
        f'if [ "$last" = {second} ] && [ "$GIT_WORK_TREE" = {upstream.export} ]; then\n'
        f"  echo A=1 > {upstream.export}/stacks/web/.env; kill -9 $$; fi\n"
        f'exec {shutil.which("git")} "$@"\n'
    )
    doomed.chmod(0o755)
    monkeypatch.setenv("PATH", f"{doomed.parent}:{os.environ['PATH']}")
    with pytest.raises(TransientError):
        do(repository.reset, second)
    assert do(repository.applied) == first
    assert upstream.files(upstream.export) == {k: v.encode() for k, v in FILES.items()}  # type: ignore[union-attr]
    assert not repository.unsettled


def test_files_of_a_move_that_was_cut_short_do_not_hold_the_next_commit(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = upstream.agent()
    upstream.followed(FILES, repository)
    second = upstream.fetched({"stacks/web/new": "one\n"}, repository)
    doomed = tmp_path / "bin/git"
    doomed.parent.mkdir()
    doomed.write_text(
        f"#!/bin/sh\nfor w; do if [ $w = {second} ]; then for v; do if [ $v = --detach ]; then\n"
        f"  echo one > {upstream.repo}/stacks/web/new; kill -9 $$; fi; done; fi; done\n"
        f'exec {shutil.which("git")} "$@"\n'
    )
    doomed.chmod(0o755)
    monkeypatch.setenv("PATH", f"{doomed.parent}:{os.environ['PATH']}")
    with pytest.raises(TransientError):
        do(repository.reset, second)
    monkeypatch.undo()
    third = upstream.fetched({"stacks/web/new": "two\n"}, repository)
    assert do(repository.look, third) == []
    do(repository.reset, third)
    assert (upstream.repo / "stacks/web/new").read_text() == "two\n"
