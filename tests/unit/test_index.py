"""Git's index is read as Git reads it, and whoever trusts it misses no edit."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from agent.adapters.git import edits, index, work_tree
from agent.adapters.git.commits import Commits
from agent.adapters.git.git import Git
from agent.domain.errors import TransientError
from agent.domain.repository.tree import PLAIN, TreeEntry
from tests.unit.upstream import Upstream, do, git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = "d" * 200 + "/" + "n" * 250
FILES: dict[str, str | bytes | None] = {
    "a": "one", "b/c": "two", "b/d/e": "three", "b/d/f": "", "é/ü": "x", LONG: "x", "run": "#!x\n"
}  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree, a while after Git wrote it."""
    place = Upstream(tmp_path)
    (place.path / "run").touch(0o755)
    (place.path / "link").symlink_to("b/d")
    place.commit(FILES)
    for path in (place.path, *place.path.rglob("*")):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    git(place.path, "update-index", "--refresh")
    return place.path


def edited(tree: Path, read: index.Read | None = None) -> list[str]:
    commits = Commits(Git(tree, tree / "askpass"))
    try:
        found: list[str] = do(edits.edited, commits, tree, read or index.read(tree / ".git/index"))
        return found
    finally:
        do(commits.session.end)


def said(tree: Path) -> list[str]:
    """What Git itself finds."""
    git(tree, "status")  # looks at the files whose times have changed
    return sorted(filter(None, git(tree, "diff-files", "--name-only", "-z").split("\0")))


def _kept_times(path: Path) -> None:
    before = path.stat()
    path.write_text("ONE")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replaced(path: Path, make: Callable[[Path], object]) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    make(path)


def _behind_a_link(tree: Path) -> None:
    """The same content, where a container could change it unseen."""
    (tree / "b").rename(tree / "elsewhere")
    (tree / "b").symlink_to("elsewhere")


EDITS: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _: None,
    "touched": lambda tree: (tree / "a").touch(),
    "written as it was": lambda tree: (tree / "a").write_text("one"),
    "longer": lambda tree: (tree / "a").write_text("one more"),
    "as long": lambda tree: (tree / "a").write_text("ONE"),
    "gone": lambda tree: (tree / "b/c").unlink(),
    "all gone": lambda tree: shutil.rmtree(tree / "b"),
    "executable": lambda tree: (tree / "a").chmod(0o755),
    "not executable": lambda tree: (tree / "run").chmod(0o644),
    "readable by nobody": lambda tree: (tree / "a").chmod(0o600),
    "another link": lambda tree: _replaced(tree / "link", lambda p: p.symlink_to("b/c")),
    "a link for a file": lambda tree: _replaced(tree / "a", lambda p: p.symlink_to("one")),
    "a file for a link": lambda tree: _replaced(tree / "link", lambda p: p.write_text("b/d")),
    "a directory": lambda tree: _replaced(tree / "a", Path.mkdir),
    "a fifo": lambda tree: _replaced(tree / "a", os.mkfifo),
    "behind a link": _behind_a_link,
    "a file for a directory": lambda tree: _replaced(tree / "b/d", Path.touch),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_what_was_edited_is_what_git_says(tree: Path, edit: Callable[[Path], object]) -> None:
    edit(tree)
    found = edited(tree)
    assert found == said(tree)


def test_an_edit_that_keeps_length_and_time_is_seen(tree: Path) -> None:
    """Git itself would see none, unless it came in another second."""
    _kept_times(tree / "a")
    assert edited(tree) == ["a"]


def test_what_was_written_in_the_second_of_the_index_is_read(tree: Path) -> None:
    """Whatever Git has noted of it: it could have been written again after that."""
    (tree / "a").write_text("ONE")
    info = os.lstat(tree / "a")
    noted = index.read(tree / ".git/index").entries["a"]
    seen = index._seen(info)
    entry = replace(noted, seen=(*seen[:6], 0, *seen[6:]), written_s=int(info.st_mtime))
    for later_s, found in ((0, ["a"]), (1, [])):
        read = index.Read({"a": entry}, int(info.st_mtime) + later_s)
        assert edited(tree, read) == found


@contextmanager
def few_bytes_read() -> Iterator[None]:
    def read() -> int:
        said = Path("/proc/self/io").read_text()
        return int(said.split("rchar: ")[1].split()[0])

    before = read()
    yield
    assert read() - before < 8 * 1024 * 1024


@pytest.mark.parametrize("more", [0, 3, 4], ids=["8 TiB", "and 3 bytes", "and 4 bytes"])
def test_a_file_without_end_is_an_edit_that_nobody_reads(tree: Path, more: int) -> None:
    """A container makes one at no cost; the index keeps 32 bits of a length, here those of 3."""
    os.truncate(tree / "a", 8 * 1024**4 + more)
    with few_bytes_read():
        assert edited(tree) == ["a"]


def test_a_file_whose_length_the_index_does_not_say_is_not_read_without_end(tree: Path) -> None:
    read = index.read(tree / ".git/index")
    entry = read.entries["a"]
    unsized = index.Read({"a": replace(entry, seen=(*entry.seen[:9], 0))}, read.at_s)
    assert edited(tree, unsized) == []
    os.truncate(tree / "a", 8 * 1024**4)
    with few_bytes_read():
        assert edited(tree, unsized) == ["a"]


def test_no_more_is_read_of_a_file_than_it_may_hold() -> None:
    """Somebody may write faster than it is read: this one says that it is empty, and is not."""
    endless = TreeEntry(f"{os.getpid()}/pagemap", PLAIN, "0" * 40, 0)
    with few_bytes_read():
        assert work_tree.same(Path("/proc"), [endless]) == []


def test_others_are_what_git_has_not_put_there(tree: Path) -> None:
    shutil.move(tree / ".git", tree.with_name("git"))
    known = index.read(tree.with_name("git") / "index").entries
    (tree / "empty").mkdir()
    (tree / "b/.decrypted.x").touch()
    assert not index.others(tree, known, ".decrypted.")
    for make in (Path.touch, os.mkfifo, lambda path: path.symlink_to("b")):
        make(tree / "b/new")
        assert index.others(tree, known, ".decrypted.")
        (tree / "b/new").unlink()


def test_the_index_of_nothing_is_empty_and_a_damaged_one_an_error(tree: Path) -> None:
    assert index.read(tree / "nothing").entries == {}
    path = tree / ".git/index"
    whole = path.read_bytes()
    assert index.read(path).entries.keys() == {*FILES, "link"}
    for content in (b"", b"x", whole[:-1], whole[:100], whole[:40] + b"x" + whole[41:]):
        path.write_bytes(content)
        with pytest.raises(TransientError, match="damaged"):
            index.read(path)
    path.write_bytes(whole)
    git(tree, "update-index", "--index-version", "4")
    with pytest.raises(TransientError, match="version 4"):
        index.read(path)
