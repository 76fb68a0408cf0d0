"""Compose reads seccomp profiles with the rights of the agent: only those of the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.adapters.compose import seccomp
from agent.domain.errors import PermanentError

MAIN = "stacks/web/compose.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository, with a file of the host beside it."""
    root = tmp_path / "repo"
    for directory in ("stacks/web", "common"):
        (root / directory).mkdir(parents=True)
    (root / "stacks/web/own.json").write_text("{}")
    (root / "common/profile.json").write_text("[]")
    (root / "stacks/web/inside").symlink_to("../../common/profile.json")
    (root / "stacks/web/outside").symlink_to(tmp_path / "age.key")
    os.mkfifo(root / "stacks/web/fifo")
    (tmp_path / "age.key").write_text("hunter2")
    return root


@pytest.mark.parametrize(
    ("name", "content"),
    [("own.json", b"{}"), ("../../common/profile.json", b"[]"), ("inside", b"[]")],
)
def test_a_profile_is_a_file_of_the_repository(root: Path, name: str, content: bytes) -> None:
    assert seccomp.read(root, root / "stacks/web", [name], MAIN) == {name: content}


def test_a_profile_that_is_too_large_is_refused_and_not_cut(root: Path) -> None:
    place = root / "stacks/web/own.json"
    place.write_bytes(b" " * 1024 * 1024)
    assert len(seccomp.read(root, place.parent, ["own.json"], MAIN)["own.json"]) == 1024 * 1024
    place.write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(PermanentError, match="more than the limit of 1048576 bytes") as caught:
        seccomp.read(root, place.parent, ["own.json"], MAIN)
    assert caught.value.where == MAIN


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../../age.key", "~/x", "outside", "fifo", ".", "absent", "own.json/x"],
)
def test_and_no_other_file_whatever_variables_it_was_put_together_of(root: Path, name: str) -> None:
    with pytest.raises(PermanentError, match="is not a file of the repository") as caught:
        seccomp.read(root, root / "stacks/web", [name], MAIN)
    assert caught.value.where == MAIN
    assert "hunter2" not in str(caught.value)
