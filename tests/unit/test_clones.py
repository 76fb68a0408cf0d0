"""What a person's clone is read as: real directories, and Git where it is a repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import anyio
import pytest

from agent.adapters.clone import sources
from agent.control.review import diff
from agent.domain.errors import ConfigError
from agent.domain.finding import Level
from agent.domain.review import repository_scan
from tests.unit.builders import revision, tree


def git(where: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=where, check=True, capture_output=True)


def read(root: Path) -> set[str]:
    return set(anyio.run(sources.on_disk, root).tree)


def test_a_part_of_a_repository_is_not_taken_for_one(tmp_path: Path) -> None:
    root = tmp_path / "it's [mine]"
    (root / "stacks").mkdir(parents=True)
    (root / "stacks" / "a").write_text("x")
    assert read(root) == {"stacks/a"}
    git(tmp_path, "init", "--quiet")
    assert read(root) == {"stacks/a"}  # nothing of it is in that repository
    git(tmp_path, "add", "--all")
    with pytest.raises(ConfigError, match="a part of the repository in"):
        read(root)
    git(root, "init", "--quiet")
    assert read(root) == {"stacks/a"}


def test_a_comparison_says_that_no_host_takes_the_commit() -> None:
    good = {"host/media/stacks.yaml": "[]\n", "link": "host"}
    for target, said in ((b"host", None), (b"..", "no host takes this commit as it is: link: ")):
        entries = tree(good, {"link": "120000"})
        contents = {"host/media/stacks.yaml": b"[]\n", "link": target}
        warning = diff._refused(repository_scan.take(entries, contents, revision()))
        assert warning == said if said is None else str(warning).startswith(said)


def test_a_host_that_no_agent_can_be_is_named() -> None:
    text = {f"host/{name}/stacks.yaml": "[]\n" for name in ("nas", "NAS.lan", "my nas", "nas-")}
    found = repository_scan.take(tree(text), {p: t.encode() for p, t in text.items()}, revision())
    assert [f.where for f in found.findings] == ["host/my nas", "host/nas-"]


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("hosts/media/stacks.yaml", "is hosts/ meant to be host/?"),
        ("host/stacks.yaml", "add host/NAME/stacks.yaml"),
    ],
)
def test_a_repository_without_a_host_is_one_that_no_agent_reads(path: str, hint: str) -> None:
    text = {path: "- web\n", "stacks/web/compose.yaml": "services: {a: {image: x}}\n"}
    found = repository_scan.take(tree(text), {p: t.encode() for p, t in text.items()}, revision())
    (error,) = [f for f in found.findings if f.level is Level.ERROR]
    assert (error.rule, error.where, error.hint) == ("layout", "host", hint)
