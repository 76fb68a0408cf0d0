from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.repository import checkout_safety
from agent.domain.repository.tree import TreeEntry
from tests.unit.builders import paths, tree


@pytest.mark.parametrize(
    ("path", "target", "inside"),
    [
        ("link", "a", True),
        ("link", "a/b/c", True),
        ("link", ".", True),
        ("link", "./a/", True),
        ("a/b/link", "../x", True),
        ("a/b/link", "../../x", True),
        ("a/b/link", "./../.././x", True),
        ("a/b/link", "../..", True),
        ("link", "..a/b..", True),
        ("link", "/etc/passwd", False),
        ("link", "/", False),
        ("link", "", False),
        ("link", "..", False),
        ("link", "../repo/a", False),
        ("a/b/link", "../../..", False),
        ("a/link", "../../etc", False),
        ("a/b/link", "x/../../../..", False),
        ("a/link", "b/../c", False),
        ("link", ".git/config", False),
        ("link", "a/.GIT", False),
        ("a/link", "../.git", False),
        ("link", "..\0x", False),
        ("link", "a\0", False),
    ],
)
def test_a_symlink_is_accepted_only_if_it_can_only_lead_inside(
    path: str, target: str, inside: bool
) -> None:
    assert checkout_safety.stays_inside(path, target) is inside


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(
    st.lists(st.sampled_from(["..", "..", "a", "b", "c", ".", "", ".git"]), max_size=5).map(
        "/".join
    ),
    st.sampled_from(["/etc", "/a"]),
)


def plant(root: Path, links: dict[str, str]) -> None:
    """Make the links that a commit could hold: below directories, never below other links."""
    (root / ".git").mkdir(parents=True)
    for path, target in links.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


def is_loop(path: Path) -> bool:
    """Leads nowhere at all; Python's realpath gives up on those in its own way."""
    try:
        path.stat()
    except OSError as err:
        return err.errno == errno.ELOOP
    return False


def fits(path: str, taken: set[str]) -> bool:
    return not any(
        path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
        for other in taken
    )


@given(st.lists(st.tuples(PATHS, TARGETS), min_size=1, max_size=8), st.lists(PATHS, max_size=3))
@settings(max_examples=120)
def test_no_forest_of_accepted_symlinks_leads_out(
    wished: list[tuple[str, str]], directories: list[str]
) -> None:
    links: dict[str, str] = {}
    for path, target in wished:
        if checkout_safety.stays_inside(path, target) and fits(path, set(links)):
            links[path] = target
    with tempfile.TemporaryDirectory() as base:
        root = Path(base).resolve() / "a" / "b" / "repo"
        plant(root, links)
        for directory in directories:
            if fits(directory, set(links)):
                (root / directory).mkdir(parents=True, exist_ok=True)
        for path in links:
            for suffix in ("", "a", "b/c", "a/b/c"):
                if is_loop(root / path / suffix):
                    continue
                end = os.path.realpath(root / path / suffix)
                assert end == str(root) or end.startswith(f"{root}/")
                assert not end.startswith(f"{root}/.git")


@pytest.mark.parametrize(
    ("path", "mode", "message"),
    [
        ("sub", "160000", "a submodule"),
        (".gitmodules", "100644", "a submodule"),
        ("link", "120000", "a symlink to '/etc'"),
        ("f", "100664", "odd mode 100664"),
        ("a\nb", "100644", "control or broken characters"),
        ("a\x7f", "120000", "a symlink"),
        ("a\ufffdb", "100644", "control or broken characters"),
        ("a/.git/config", "100644", "that Git itself uses"),
        ("a/.GIT", "100644", "that Git itself uses"),
        ("GIT~1/x", "100644", "that Git itself uses"),
        ("stacks/web/.decrypted.x.secret.env", "100644", "kept for decrypted files"),
    ],
)
def test_a_commit_that_is_unsafe_to_check_out_is_refused(
    path: str, mode: str, message: str
) -> None:
    found = checkout_safety.faults(tree({path: "", "ok": ""}, {path: mode}), {path: "/etc"})
    assert [message in fault.message for fault in found] == [True]
    assert "\n" not in found[0].where


def test_an_ordinary_commit_is_accepted() -> None:
    files = tree(
        {"README.md": "x", "stacks/web/compose.yaml": "x", "run.sh": "x", "l": "stacks", ".g": ""},
        {"run.sh": "100755", "l": "120000"},
    )
    assert checkout_safety.faults(files, {"l": "stacks"}) == []


def test_a_symlink_whose_target_was_too_long_to_read_is_refused() -> None:
    assert checkout_safety.faults(paths(symlink="l"), {})


def test_the_size_of_a_commit_is_bounded() -> None:
    many = {
        str(i): TreeEntry(str(i), "100644", "0", 0) for i in range(checkout_safety.MAX_FILES + 1)
    }
    large = {"a": TreeEntry("a", "100644", "0", checkout_safety.MAX_TOTAL_BYTES + 1)}
    assert "50,001 files" in checkout_safety.faults(many, {})[0].message
    assert "512 MiB" in checkout_safety.faults(large, {})[0].message
    del many["0"]
    assert checkout_safety.faults(many, {}) == []


CASES = {
    "nothing is there": (["s/a"], [], {}, [], []),
    "a data directory where a file is committed": (
        ["s/db/data"], [], {"s": True, "s/db": True, "s/db/data": True}, ["s/db/data"],
        [("a directory with untracked data", "s/db/data")],
    ),
    "an empty directory where a file is committed": (
        ["s/data"], ["s/a"], {"s": True, "s/data": True}, [], [],
    ),
    "an untracked file where a file is committed": (
        ["s/a"], [], {"s": True, "s/a": False}, [], [("an untracked file", "s/a")],
    ),
    "a stack with data becomes a symlink": (
        ["s/db"], ["s/db/compose.yaml"], {"s": True, "s/db": True}, ["s/db"],
        [("a directory with untracked data", "s/db")],
    ),
    "a stack without data becomes a file": (
        ["s/db"], ["s/db/compose.yaml"], {"s": True, "s/db": True}, [], [],
    ),
    "a tracked file becomes a directory": (
        ["s/db/compose.yaml"], ["s/db"], {"s": True, "s/db": False}, [], [],
    ),
    "an untracked file where a directory is needed": (
        ["s/db/a", "s/db/b"], [], {"s": True, "s/db": False}, [], [("an untracked file", "s/db")],
    ),
    "an untracked file high above": (
        ["s/db/c/a"], [], {"s": False}, [], [("an untracked file", "s")],
    ),
    "a tracked file that stays": (["s/a"], ["s/a"], {"s": True, "s/a": False}, ["s"], []),
    "data beside tracked files": (
        ["s/a", "s/b"], ["s/a"], {"s": True, "s/a": False, "s/data": True}, ["s/data", "s"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_untracked_data_is_never_in_the_way_unnoticed(case: str) -> None:
    new, current, on_disk, untracked, expected = CASES[case]
    found = checkout_safety.collisions(paths(*new), paths(*current), on_disk, frozenset(untracked))
    assert [(fault.message.removesuffix(" is in the way"), fault.where) for fault in found] == (
        expected
    )
    assert all(fault.hint for fault in found)


@given(st.lists(PATHS, max_size=6), st.lists(PATHS, max_size=6), st.data())
def test_an_added_path_is_laid_over_nothing_but_tracked_data(
    new: list[str], current: list[str], data: st.DataObject
) -> None:
    every = sorted({*new, *checkout_safety.parents(new)})
    on_disk = data.draw(st.dictionaries(st.sampled_from(every or ["x"]), st.booleans()))
    holding = frozenset(path for path, is_dir in on_disk.items() if is_dir)
    found = {
        f.where for f in checkout_safety.collisions(paths(*new), paths(*current), on_disk, holding)
    }
    tracked = {*current, *checkout_safety.parents(current)}
    for path in set(new) - set(current):
        if path in on_disk and path not in tracked:
            assert path in found
        for parent in checkout_safety.parents([path]):
            if on_disk.get(parent) is False and parent not in current:
                assert parent in found


def test_the_parents_of_paths_are_all_directories_above_them() -> None:
    assert checkout_safety.parents(["a/b/c", "a/d", "e"]) == {"a", "a/b"}
