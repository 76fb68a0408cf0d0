"""Where containers write, only what Git put there is followed, and nothing makes the agent wait."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from agent.adapters import shared_tree
from agent.adapters.compose import seccomp
from agent.adapters.compose.invocation import Invocation
from agent.control.stack.ready import Ready
from agent.domain.errors import PermanentError
from tests.unit.builders import stack

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A checkout and its export: a file, a link to its directory, and a link to that link."""
    checkout, export = tmp_path / "repo", tmp_path / "export"
    for tree in (checkout, export):
        (tree / "web/data").mkdir(parents=True)
        (tree / "web/data/file").write_text("x")
        (tree / "web/link").symlink_to("data")
        (tree / "web/again").symlink_to("../web/link/file")
    (checkout / "web/made").mkdir()
    return checkout, export


@pytest.mark.parametrize(
    "path", ["web/data/file", "web/link/file", "web/again", "web/made/x", "", "web/absent/x"]
)
def test_what_git_put_there_leads_where_the_commit_says(
    trees: tuple[Path, Path], path: str
) -> None:
    assert shared_tree.foreign_link(*trees, path) is None


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("web/made/x", "/etc", "web/made/x"),
        ("web/made/x", "/etc", "web/made/x/shadow"),
        ("web/made/x", "../data", "web/made/x/file"),
        ("web/link", "/etc", "web/link/file"),
        ("web/link", "/etc", "web/again"),
        ("web/made/x", "x", "web/made/x"),
        ("web/data/file", "/etc/shadow", "web/link/file"),
    ],
)
def test_a_link_that_a_container_made_is_found(
    trees: tuple[Path, Path], link: str, target: str, path: str
) -> None:
    place = trees[0] / link
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    assert shared_tree.foreign_link(*trees, path) == link
    ours = {link: target}.get
    assert shared_tree.foreign_link(*trees, path, ours) is None


def test_a_mount_of_the_checkout_is_known_by_whatever_way_it_is_named(
    trees: tuple[Path, Path], tmp_path: Path
) -> None:
    """Also by a volume that is a recursive bind, and where the state directory is a link."""
    (tmp_path / "state").symlink_to(".")
    checkout, export = (tmp_path / "state" / each.name for each in trees)
    (trees[0] / "web/made/x").symlink_to("/etc")
    call = Invocation(stack=stack("web"), root=export, checkout=checkout)
    for place in (checkout, trees[0]):
        for options in ("bind", "rbind,ro"):
            own = {"driver_opts": {"type": "none", "o": options, "device": f"{place}/web/made/x"}}
            app = {"image": "x", "volumes": [{"type": "volume", "source": "v", "target": "/x"}]}
            ready = Ready.of(call, {"services": {"app": app}, "volumes": {"v": own}})
            with pytest.raises(PermanentError, match="app: web/made/x is "):
                ready.refuse_foreign_links(lambda _: None)


def test_only_regular_files_are_read_and_no_more_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"x" * 100)
    (tmp_path / "a/link").symlink_to("file")
    os.mkfifo(tmp_path / "a/fifo")
    (tmp_path / "b").symlink_to("a")

    def read(path: str) -> bytes:
        with ExitStack() as held:
            directory, name = shared_tree.enter(tmp_path, path, held)
            return shared_tree.read(shared_tree.open_regular(name, directory, held), 10)

    assert read("a/file") == b"x" * 10
    for path in ("a/fifo", "a/link", "a", "b/file", "/dev/zero", "a/none"):
        with pytest.raises(OSError, match=r"."):
            read(path)


def test_a_seccomp_profile_is_called_by_its_content(tmp_path: Path) -> None:
    root, base = tmp_path / "export", tmp_path / "export/stacks/web"
    base.mkdir(parents=True)
    (base / "p.json").write_text("{}")
    (root / "p.json").write_text("[]")
    found = seccomp.read(root, base, ["./p.json", "../../p.json"], "compose.yaml")
    assert found == {"./p.json": b"{}", "../../p.json": b"[]"}
    places = [seccomp.called(tmp_path / "run", text) for text in found.values()]
    assert len({*places}) == len(found)
    for _ in range(2):
        seccomp.provide(dict(zip(places, found.values(), strict=True)))
        assert [place.read_bytes() for place in places] == [b"{}", b"[]"]
    places[0].write_text("other")
    seccomp.provide({places[0]: b"{}"})
    assert places[0].read_bytes() == b"{}"
    assert {place.stat().st_mode & 0o777 for place in places} == {0o600}


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../outside", "absent", "fifo", "link"])
def test_a_seccomp_profile_that_is_not_in_the_repository_is_refused(
    tmp_path: Path, name: str
) -> None:
    base = tmp_path / "export/stacks/web"
    base.mkdir(parents=True)
    (tmp_path / "outside").write_text("{}")
    os.mkfifo(base / "fifo")
    (base / "link").symlink_to("/etc/passwd")
    with pytest.raises(PermanentError, match="is not a file of the repository"):
        seccomp.read(tmp_path / "export", base, [name], "stacks/web/compose.yaml")
