"""The remotes are the truth, one after the other, and never backwards."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet


def _one_stack(fleet: Fleet, image: str | None = None) -> dict[str, str | bytes | None]:
    return {
        "host/media/stacks.yaml": "- one\n",
        "stacks/one/compose.yaml": fleet.compose(image),
        "stacks/one/app.conf": "as committed\n",
    }


def _git(host: Host, *words: str) -> str:
    return subprocess.run(
        ["git", f"--git-dir={host.git_dir}", *words], capture_output=True, text=True, check=True
    ).stdout


def _applied(host: Host) -> str:
    applied: str = host.json("status")["revision"]["applied"]
    return applied


def test_the_clone_has_the_whole_history_of_one_branch_and_no_tags(fleet: Fleet) -> None:
    fleet.commit("one", _one_stack(fleet))
    fleet.workspace.git("tag", "v1")
    fleet.workspace.git("branch", "other")
    fleet.commit("two", {"README.md": "words"})
    fleet.workspace.git("push", "--quiet", str(fleet.box.gitea.path), "v1", "other")
    host = fleet.connected()
    host.once()
    assert _git(host, "log", "--format=%s", "refs/commitd/applied").split() == ["two", "one"]
    refs = _git(host, "for-each-ref", "--format=%(refname)").split()
    assert not [ref for ref in refs if "tags" in ref or "other" in ref]
    fleet.workspace.git("push", "--quiet", "--delete", str(fleet.box.gitea.path), "v1", "other")


def test_local_edits_are_discarded_and_untracked_data_stays(fleet: Fleet) -> None:
    fleet.commit("one", _one_stack(fleet))
    host = fleet.connected()
    host.once()
    conf = host.repo / "stacks/one/app.conf"
    data = host.repo / "stacks/one/data.bin"
    conf.write_text("edited on the host\n")
    (host.repo / "stacks/one/compose.yaml").unlink()
    data.write_text("precious")
    assert host.once().returncode == 0
    assert conf.read_text() == "as committed\n"
    assert (host.repo / "stacks/one/compose.yaml").exists()
    assert data.read_text() == "precious"
    entry = host.json("history", "media")[0]
    assert entry["reason"] == "local-edits"
    assert {cause["name"] for cause in entry["cause"]} == {
        "stacks/one/app.conf",
        "stacks/one/compose.yaml",
    }
    fleet.commit("two", {"stacks/one/app.conf": "changed\n"})
    host.once()
    assert data.read_text() == "precious"


def test_the_second_remote_takes_over_when_the_first_is_gone(fleet: Fleet) -> None:
    fleet.commit("one", _one_stack(fleet))
    host = fleet.connected()
    host.once()
    fleet.box.gitea.stop()
    sha = fleet.commit("two", _one_stack(fleet, fleet.web))
    result = host.once()
    assert result.returncode == 0, result.stderr
    status = host.json("status")
    assert status["revision"]["applied"] == sha
    assert status["revision"]["remote"] == "github"
    gitea = status["remotes"][0]
    assert (gitea["reachable"], gitea["down_since"] is not None) == (False, True)
    assert "gitea" in gitea["error"]


def test_with_no_remote_at_all_the_last_good_commit_is_enforced(fleet: Fleet) -> None:
    sha = fleet.commit("one", _one_stack(fleet))
    host = fleet.connected()
    host.once()
    fleet.box.gitea.stop()
    fleet.box.github.stop()
    fleet.box.engine.run("rm", "--force", "one-app-1")
    result = host.once()
    assert set(fleet.running()) == {"one-app-1"}
    assert _applied(host) == sha
    assert "no remote answers" in result.stdout


def test_a_remote_that_lags_never_takes_the_host_back(fleet: Fleet) -> None:
    fleet.commit("one", _one_stack(fleet))
    host = fleet.connected()
    host.once()
    fleet.workspace.write(_one_stack(fleet, fleet.web))
    newer = fleet.workspace.commit("two")
    fleet.workspace.push(fleet.box.gitea)
    host.once()
    before = fleet.running()
    fleet.box.gitea.proxy.mode("cut")
    assert host.once().returncode == 0
    assert _applied(host) == newer
    assert fleet.running() == before


def test_a_rewritten_history_waits_for_a_person(fleet: Fleet) -> None:
    first = fleet.commit("one", _one_stack(fleet))
    host = fleet.connected(remotes=[fleet.box.gitea])
    host.once()
    fleet.workspace.git("checkout", "--quiet", "--orphan", "rewritten")
    fleet.workspace.write(_one_stack(fleet, fleet.web))
    rewritten = fleet.workspace.commit("another past")
    fleet.workspace.git("branch", "--quiet", "--move", "--force", "main")
    fleet.workspace.push(force=True)
    result = host.once()
    assert result.returncode == 3, result.stderr
    assert _applied(host) == first
    hold = host.json("status")["holds"][0]
    assert rewritten[:7] in hold["message"]
    assert f"commitd approve {rewritten[:7]}" in hold["message"]
    host.commitd("approve", rewritten[:7], check=True)
    assert host.once().returncode == 0
    assert _applied(host) == rewritten


def _untracked_file(host: Host) -> None:
    (host.repo / "stacks/one/data").mkdir()
    (host.repo / "stacks/one/data/db.sqlite").write_text("precious")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stacks/one/data": "a file now\n"}, "untracked data is in the way"),
        ({"stacks/one/data/db.sqlite": "from git\n"}, "an untracked file is in the way"),
        ({"stacks/one/.decrypted.x.secret.env": "A=1\n"}, "kept for decrypted files"),
    ],
)
def test_a_commit_over_data_on_the_host_is_refused_before_the_tree_is_touched(
    fleet: Fleet, change: Mapping[str, str], complaint: str
) -> None:
    first = fleet.commit("one", _one_stack(fleet))
    host = fleet.connected()
    host.once()
    _untracked_file(host)
    fleet.commit("bad", {**change, "stacks/one/app.conf": "changed\n"})
    result = host.once()
    assert result.returncode == 1
    assert complaint in result.stderr
    assert _applied(host) == first
    assert (host.repo / "stacks/one/data/db.sqlite").read_text() == "precious"
    assert (host.repo / "stacks/one/app.conf").read_text() == "as committed\n"


@pytest.mark.parametrize("target", ["/etc", "../../../outside", "sub/../../../../x"])
def test_a_symlink_out_of_the_repository_is_refused(fleet: Fleet, target: str) -> None:
    first = fleet.commit("one", _one_stack(fleet))
    host = fleet.connected()
    host.once()
    (fleet.workspace.path / "stacks/one/link").symlink_to(target)
    fleet.commit("bad", {})
    result = host.once()
    assert result.returncode == 1
    assert "stacks/one/link" in result.stderr
    assert _applied(host) == first
    assert not (host.repo / "stacks/one/link").is_symlink()


def test_a_symlink_inside_the_repository_is_kept(fleet: Fleet) -> None:
    files = _one_stack(fleet)
    fleet.workspace.write(files)
    (fleet.workspace.path / "stacks/one/link.conf").symlink_to("app.conf")
    fleet.commit("one", {})
    host = fleet.connected()
    assert host.once().returncode == 0
    assert (host.repo / "stacks/one/link.conf").read_text() == "as committed\n"


def test_what_compose_reads_is_what_was_judged(fleet: Fleet) -> None:
    """Attributes of a commit have Git write other bytes than those in it."""
    fleet.workspace.write(
        {
            **_one_stack(fleet),
            ".gitattributes": "*.txt text eol=crlf ident\n*.wide working-tree-encoding=UTF-16LE\n",
            "stacks/one/a.txt": "$Id$\nb\n",
        }
    )
    (fleet.workspace.path / "stacks/one/b.wide").write_bytes("a: ＂\n".encode("utf-16-le"))
    fleet.commit("one", {})
    host = fleet.connected()
    assert host.once().returncode == 0
    assert (host.repo / "stacks/one/a.txt").read_bytes() == b"$Id$\nb\n"
    assert (host.repo / "stacks/one/b.wide").read_text() == "a: ＂\n"


def test_a_token_is_nowhere_but_in_its_file(fleet: Fleet) -> None:
    fleet.commit("one", _one_stack(fleet))
    host = fleet.connected(remotes=[fleet.box.github])
    result = host.commitd("once", "--verbose")
    assert result.returncode == 0, result.stderr
    token = fleet.box.github.token_file.read_text().strip()
    assert token not in result.stdout + result.stderr
    written = [path for path in host.state.rglob("*") if path.is_file()]
    assert [path for path in written if token.encode() in path.read_bytes()] == []
