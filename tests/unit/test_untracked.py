"""What containers have written into the checkout outlives every move of it to another commit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from agent.domain.errors import HeldError
from tests.files import write
from tests.unit.upstream import Upstream, do, git

if TYPE_CHECKING:
    from pathlib import Path

    from agent.adapters.git.repository import Repository

WEB = "stacks/web/compose.yaml"
DATA = "stacks/web/data"


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path)


@pytest.fixture
def repository(upstream: Upstream) -> Repository:
    """With one commit checked out."""
    repository = upstream.agent()
    upstream.followed({WEB: "one\n", "stacks/web/a.conf": "one\n"}, repository)
    return repository


def put(root: Path, files: dict[str, str | bytes | None]) -> None:
    write(root, files)


def faults(repository: Repository, sha: str) -> list[str]:
    return [fault.where for fault in do(repository.look, sha)]


# --- a look finds it ---


def test_data_of_a_release_that_came_back_is_not_the_commits_that_failed(
    upstream: Upstream, repository: Repository
) -> None:
    """The failed commit had a file where the older release keeps its data."""
    good = do(repository.applied)
    bad = upstream.fetched({WEB: "bad\n", DATA: "from git\n"}, repository)
    do(repository.reset, bad)
    do(repository.reset, bad, {"web": good})
    put(upstream.repo, {DATA: "precious"})
    mended = upstream.fetched({WEB: "mended\n"}, repository)
    assert faults(repository, mended) == [DATA]
    with pytest.raises(HeldError, match="untracked file is in the way"):
        do(repository.reset, mended)
    assert (upstream.repo / DATA).read_text() == "precious"
    assert do(repository.applied) == bad


@pytest.mark.parametrize(
    "content",
    [
        {"link": "/etc/hostname"},
        {"link": "nowhere"},
        {"link": "."},
        {"sub": None},
        {"sub/link": "/srv"},
    ],
)
def test_a_directory_of_links_and_empty_directories_is_data(
    upstream: Upstream, repository: Repository, content: dict[str, str | None]
) -> None:
    for name, target in content.items():
        place = upstream.repo / DATA / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if target is None:
            place.mkdir()
        else:
            place.symlink_to(target)
    newer = upstream.fetched({DATA: "from git\n"}, repository)
    assert faults(repository, newer) == [DATA]
    assert (upstream.repo / DATA).is_dir()


def test_an_empty_directory_is_not_in_the_way(upstream: Upstream, repository: Repository) -> None:
    (upstream.repo / DATA).mkdir()
    upstream.followed({DATA: "from git\n"}, repository)
    assert (upstream.repo / DATA).read_text() == "from git\n"


def test_a_file_that_is_what_the_commit_brings_is_not_in_the_way(
    upstream: Upstream, repository: Repository
) -> None:
    put(upstream.repo, {DATA: "from git\n"})
    (upstream.repo / "stacks/web/link").symlink_to("a.conf")
    before = (upstream.repo / DATA).stat().st_ino
    (upstream.path / "stacks/web/link").symlink_to("a.conf")
    upstream.followed({DATA: "from git\n"}, repository)
    assert (upstream.repo / DATA).stat().st_ino == before
    assert do(repository.local_edits) == []
    upstream.followed({DATA: None}, repository)
    assert not (upstream.repo / DATA).exists()


def test_a_fifo_where_a_file_is_committed_is_in_the_way_and_never_opened(
    upstream: Upstream, repository: Repository
) -> None:
    os.mkfifo(upstream.repo / DATA)
    newer = upstream.fetched({DATA: "from git\n"}, repository)
    assert faults(repository, newer) == [DATA]


# --- no window between the look and the move ---


def _file(root: Path) -> None:
    put(root, {DATA: "precious"})


def _directory(root: Path) -> None:
    put(root, {f"{DATA}/db/file": "precious"})


def _ignored(root: Path) -> None:
    put(root, {f"{DATA}/db/file": "precious", "stacks/web/.gitignore": "data\n"})


def _above(root: Path) -> None:
    put(root, {"stacks/new": "precious"})


def _link(root: Path) -> None:
    (root / "elsewhere").mkdir()
    (root / "stacks/new").symlink_to("../elsewhere")


@pytest.mark.parametrize("create", [_file, _directory, _ignored, _above, _link])
def test_data_that_comes_after_the_look_is_not_overwritten(
    upstream: Upstream, repository: Repository, create: object
) -> None:
    first = do(repository.applied)
    new: dict[str, str | bytes | None] = {DATA: "from git\n", "stacks/new/x": "from git\n"}
    newer = upstream.fetched({**new, "stacks/web/a.conf": "two\n"}, repository)
    assert faults(repository, newer) == []
    create(upstream.repo)  # type: ignore[operator]
    before = sorted(path for path in upstream.repo.rglob("*") if "a.conf" not in path.name)
    with pytest.raises(HeldError) as refused:
        do(repository.reset, newer)
    assert refused.value.where
    assert "move the data" in str(refused.value)
    assert sorted(p for p in upstream.repo.rglob("*") if "a.conf" not in p.name) == before
    assert b"precious" in {*upstream.files(upstream.repo).values(), b"precious"}
    assert do(repository.applied) == do(repository.checked_out) == first
    for root in (upstream.repo, upstream.export):
        assert (root / "stacks/web/a.conf").read_text() == "one\n"
    assert do(repository.local_edits) == []


def test_files_that_gitignore_names_are_data(upstream: Upstream, repository: Repository) -> None:
    upstream.followed({"stacks/web/.gitignore": "data\n"}, repository)
    newer = upstream.fetched({"stacks/web/.gitignore": None, DATA: "from git\n"}, repository)
    put(upstream.repo, {DATA: "precious"})
    assert faults(repository, newer) == [DATA]
    with pytest.raises(HeldError):
        do(repository.reset, newer)
    assert (upstream.repo / DATA).read_text() == "precious"


# --- what was edited, and what was cut short ---


def test_edits_of_tracked_files_are_discarded_and_what_is_beside_them_stays(
    upstream: Upstream, repository: Repository
) -> None:
    upstream.followed({"stacks/web/b.conf": "b", "stacks/web/c.conf": "c", "gone": "x"}, repository)
    put(upstream.repo, {"stacks/web/a.conf": "edited", "stacks/web/b.conf": None, "mine": "x"})
    (upstream.repo / "stacks/web/c.conf").unlink()
    (upstream.repo / "stacks/web/c.conf").symlink_to("/etc/hostname")
    (upstream.repo / "gone").write_text("edited")
    newer = upstream.followed({"stacks/web/b.conf": "bb", "gone": None}, repository)
    assert do(repository.checked_out) == newer
    files = upstream.files(upstream.repo)
    assert files.pop("mine") == b"x"
    assert files == upstream.files(upstream.export)
    assert do(repository.local_edits) == []


def test_a_tracked_file_that_became_a_directory_of_data_is_in_the_way(
    upstream: Upstream, repository: Repository
) -> None:
    (upstream.repo / "stacks/web/a.conf").unlink()
    put(upstream.repo, {"stacks/web/a.conf/precious": "x"})
    newer = upstream.fetched({"stacks/web/a.conf": "two\n"}, repository)
    assert faults(repository, newer) == ["stacks/web/a.conf"]
    with pytest.raises(HeldError):
        do(repository.reset, newer)
    assert (upstream.repo / "stacks/web/a.conf/precious").read_text() == "x"


def test_a_link_in_the_place_of_a_directory_leads_no_write_out_of_the_checkout(
    upstream: Upstream, repository: Repository, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    put(outside, {"a.conf": "not ours", "compose.yaml": "not ours"})
    (upstream.repo / "stacks/web").rename(tmp_path / "web")
    (upstream.repo / "stacks/web").symlink_to(outside)
    newer = upstream.fetched({"stacks/web/a.conf": "two\n"}, repository)
    assert "stacks/web" in faults(repository, newer)
    with pytest.raises(HeldError):
        do(repository.reset, newer)
    assert upstream.files(outside) == {"a.conf": b"not ours", "compose.yaml": b"not ours"}


def test_a_stack_whose_directory_becomes_a_file_leaves_no_plaintext_behind(
    upstream: Upstream, repository: Repository
) -> None:
    put(upstream.repo, {"stacks/web/.decrypted.s.secret.env": "S=1"})
    changed = {WEB: None, "stacks/web/a.conf": None, "stacks/web": "a file now\n"}
    git(upstream.path, "rm", "-r", "--quiet", "stacks/web")
    upstream.followed({"stacks/web": changed["stacks/web"]}, repository)
    assert (upstream.repo / "stacks/web").read_text() == "a file now\n"


@pytest.mark.parametrize("written", ["", "from", "from git\n"])
def test_a_move_that_was_cut_short_is_finished(
    upstream: Upstream, repository: Repository, written: str
) -> None:
    """As if the agent had been killed amid the files, of which one is half written."""
    newer = upstream.fetched({DATA: "from git\n", "stacks/web/a.conf": "two\n"}, repository)
    repository_dir = f"--git-dir={upstream.state / 'git'}"
    git(upstream.path, repository_dir, "update-ref", "refs/commitd/pending", newer)
    put(upstream.repo, {DATA: written, "stacks/web/a.conf": "tw"})
    (upstream.state / "git/index.lock").touch()
    again = upstream.agent()
    assert do(again.local_edits) == []
    assert faults(again, newer) == []
    do(again.reset, newer)
    assert do(again.applied) == do(again.checked_out) == newer
    assert upstream.files(upstream.repo) == upstream.files(upstream.export)


def test_data_is_not_taken_for_what_a_cut_move_left(
    upstream: Upstream, repository: Repository
) -> None:
    newer = upstream.fetched({DATA: "from git\n"}, repository)
    repository_dir = f"--git-dir={upstream.state / 'git'}"
    git(upstream.path, repository_dir, "update-ref", "refs/commitd/pending", newer)
    put(upstream.repo, {DATA: "precious"})
    again = upstream.agent()
    assert faults(again, newer) == [DATA]
    assert (upstream.repo / DATA).read_text() == "precious"


def test_a_move_that_ends_between_checkout_and_note_is_finished(
    upstream: Upstream, repository: Repository
) -> None:
    """Killed when the files were there: the index and HEAD may say one thing or the other."""
    first = do(repository.applied)
    newer = upstream.fetched({"stacks/web/a.conf": "two\n", DATA: "x"}, repository)
    do(repository.reset, newer)
    where = f"--git-dir={upstream.state / 'git'}"
    git(upstream.path, where, "update-ref", "--no-deref", "HEAD", first)
    git(upstream.path, where, "update-ref", "refs/commitd/applied", first)
    git(upstream.path, where, "update-ref", "refs/commitd/pending", newer)
    again = upstream.agent()
    assert faults(again, newer) == []
    do(again.reset, newer)
    assert upstream.files(upstream.repo) == upstream.files(upstream.export)
    do(again.reset, first)
    assert not (upstream.repo / DATA).exists()
    assert upstream.files(upstream.repo) == upstream.files(upstream.export)


def test_a_clone_that_is_begun_anew_still_knows_what_it_had_put_there(
    upstream: Upstream, repository: Repository
) -> None:
    applied = do(repository.applied)
    for path in (upstream.state / "git/objects").rglob("*"):
        if path.is_file():
            path.unlink()
    put(upstream.repo, {"stacks/web/a.conf": "edited"})
    again = upstream.agent()
    assert do(again.applied) is None
    do(again.incoming.fetch, upstream.remote, applied)
    do(again.take_over, applied)
    assert faults(again, applied) == []
    do(again.reset, applied)
    assert (upstream.repo / "stacks/web/a.conf").read_text() == "one\n"


def test_data_where_a_tracked_file_was_stays_when_the_next_commit_has_none_there(
    upstream: Upstream, repository: Repository
) -> None:
    (upstream.repo / "stacks/web/a.conf").unlink()
    put(upstream.repo, {"stacks/web/a.conf/precious": "x"})
    newer = upstream.followed({"stacks/web/a.conf": None, "README.md": "words"}, repository)
    assert do(repository.checked_out) == newer
    assert do(repository.local_edits) == []
    assert (upstream.repo / "stacks/web/a.conf/precious").read_text() == "x"


# --- a Git that was killed ---


def test_the_locks_of_a_git_that_was_killed_stop_no_commit(
    upstream: Upstream, repository: Repository
) -> None:
    new = upstream.commit({WEB: "two\n"})
    do(repository.incoming.fetch, upstream.remote, new)
    for name in ("refs/commitd/accepted.lock", "packed-refs.lock"):
        (upstream.state / "git" / name).touch()
    do(repository.take_over, new)
    assert do(repository.knows, new)


def test_the_locks_of_a_git_that_was_killed_stop_no_move_back(
    upstream: Upstream, repository: Repository
) -> None:
    repository.unsettled = True
    do(repository._refs.write, {"refs/commitd/pending": do(repository.applied)})
    for name in ("index.lock", "refs/commitd/pending.lock"):
        (upstream.state / "git" / name).touch()
    do(repository.settle)
    assert not repository.unsettled
    assert do(repository.checked_out) == do(repository.applied)
