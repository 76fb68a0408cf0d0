"""Plaintext on disk: whole or not at all, private, in its place, and never through a symlink."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.domain.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "stacks/web/.decrypted.db.secret.env"


@pytest.fixture(params=["state", "runtime"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> PlaintextStore:
    (tmp_path / "repo/stacks/web").mkdir(parents=True)
    volatile = request.param == "runtime"
    return PlaintextStore(
        tmp_path / "repo", tmp_path / "run", state=tmp_path / "state", volatile=volatile
    )


def _files(tmp_path: Path) -> dict[str, bytes]:
    """Everything below the checkout and the runtime directory; links as what they lead to."""
    return {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in sorted(tmp_path.rglob("*"))
        if path.is_file()
    }


def test_on_a_disk_that_is_full_at_any_byte_the_old_plaintext_stays(
    store: PlaintextStore, tmp_path: Path
) -> None:
    old, new = b"A=old\n", b"A=new and longer\n"
    store.write(NAME, old)
    before = _files(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in range(len(new)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                store.write(NAME, new)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert _files(tmp_path) == before
        assert store.read(NAME) == old
    store.write(NAME, new)
    assert store.read(NAME) == (tmp_path / "repo" / NAME).read_bytes() == new


def test_what_a_killed_agent_left_of_a_file_goes_with_the_next_write_or_the_file(
    store: PlaintextStore, tmp_path: Path
) -> None:
    store.write(NAME, b"A=1\n")
    place = (tmp_path / "repo" / NAME).resolve()
    left = place.with_name(f"{place.name}.tmp")
    left.write_bytes(b"A=ha")
    store.write(NAME, b"A=2\n")
    assert not left.exists()
    left.write_bytes(b"A=ha")
    store.delete(NAME)
    assert _files(tmp_path) == {}


def test_only_its_owner_reads_the_plaintext_and_so_it_stays(
    store: PlaintextStore, tmp_path: Path
) -> None:
    store.write(NAME, b"A=1\n")
    path = tmp_path / "repo" / NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert store.present(NAME)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in (tmp_path / "run").rglob("*"):
        assert not directory.is_dir() or stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_the_plaintext_belongs_to_whom_it_is_given(store: PlaintextStore, tmp_path: Path) -> None:
    path = tmp_path / "repo" / NAME

    def owner() -> tuple[int, int]:
        return path.stat().st_uid, path.stat().st_gid

    store.write(NAME, b"A=1\n", (1000, 1001))
    assert owner() == (1000, 1001)
    inode = path.stat().st_ino
    assert store.present(NAME, (33, 34))
    assert owner() == (33, 34)
    assert path.stat().st_ino == inode  # who has mounted it sees that
    assert store.present(NAME)
    assert owner() == (os.geteuid(), os.getegid())


@pytest.mark.parametrize("deed", ["present(NAME, OWNER)", "write(NAME, b'A=1', OWNER)"])
def test_a_mode_that_the_agent_may_not_change_back_costs_the_copy_and_not_the_stack(
    tmp_path: Path, deed: str
) -> None:
    """In its unit the agent has no CAP_FOWNER: the mode of others' files is not its own to set."""
    (tmp_path / "repo/stacks/web").mkdir(parents=True)
    owner = (1000, 1001)
    PlaintextStore(tmp_path / "repo", tmp_path / "run", state=tmp_path).write(NAME, b"A=1", owner)
    copy = tmp_path / "repo" / NAME
    copy.chmod(0o640)
    script = (
        "from pathlib import Path\n"
        "from agent.adapters.secrets.plaintext_store import PlaintextStore\n"
        f"NAME, OWNER, at = {NAME!r}, {owner!r}, Path({str(tmp_path)!r})\n"
        f"print(PlaintextStore(at / 'repo', at / 'run', state=at).{deed})\n"
    )
    without = ("setpriv", "--bounding-set=-fowner", "--inh-caps=-fowner")
    command = (*without, sys.executable, "-c", script)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) in {(0, "True"), (0, "None")}, result.stderr
    info = copy.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o600, *owner)
    assert copy.read_bytes() == b"A=1"


def test_a_symlink_is_replaced_and_never_followed(store: PlaintextStore, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    path = tmp_path / "repo" / NAME
    path.symlink_to(victim)
    assert not store.present(NAME)
    store.write(NAME, b"A=1\n")
    assert store.present(NAME)
    assert path.read_bytes() == b"A=1\n"
    path.unlink()
    path.symlink_to(victim)
    store.delete(NAME)
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()


def test_a_directory_that_the_engine_made_in_its_place_is_replaced(
    store: PlaintextStore, tmp_path: Path
) -> None:
    path = tmp_path / "repo" / NAME
    path.mkdir()
    assert not store.present(NAME)
    store.write(NAME, b"A=1\n")
    assert store.present(NAME)
    store.delete(NAME)
    path.mkdir()
    store.delete(NAME)
    assert not path.exists()
    (path / "data").mkdir(parents=True)
    with pytest.raises(OSError, match="not empty"):
        store.write(NAME, b"A=1\n")
    store.delete(NAME)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert (path / "data").is_dir()


def test_nothing_is_written_behind_a_directory_that_is_a_symlink(
    store: PlaintextStore, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "repo/stacks/link").symlink_to(elsewhere)
    name = "stacks/link/.decrypted.db.secret.env"
    with pytest.raises(PermanentError, match="cannot be written"):
        store.write(name, b"A=1\n")
    (elsewhere / ".decrypted.db.secret.env").write_bytes(b"not ours")
    store.delete(name)
    assert not store.present(name)
    assert list(elsewhere.iterdir()) == [elsewhere / ".decrypted.db.secret.env"]


@pytest.mark.parametrize("volatile", [False, True])
def test_another_store_takes_over_and_leaves_no_second_plaintext(
    tmp_path: Path, *, volatile: bool
) -> None:
    (tmp_path / "repo/stacks/web").mkdir(parents=True)
    first, second = (
        PlaintextStore(tmp_path / "repo", tmp_path / "run", state=tmp_path / "state", volatile=each)
        for each in (volatile, not volatile)
    )
    first.write(NAME, b"A=1\n")
    assert not second.present(NAME)
    second.write(NAME, b"A=1\n")
    assert second.present(NAME)
    files = {path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()}
    own = tmp_path / ("state" if volatile else "run") / "plaintext" / NAME
    assert files == {own, tmp_path / ("repo" if volatile else "run/secrets") / NAME}
    second.delete(NAME)
    assert _files(tmp_path) == {}
    assert not (tmp_path / "repo" / NAME).is_symlink()


def test_in_a_runtime_directory_that_was_emptied_it_is_missing(tmp_path: Path) -> None:
    (tmp_path / "repo/stacks/web").mkdir(parents=True)
    store = PlaintextStore(
        tmp_path / "repo", tmp_path / "run", state=tmp_path / "state", volatile=True
    )
    store.write(NAME, b"A=1\n")
    (tmp_path / "run" / "plaintext" / NAME).unlink()
    assert not store.present(NAME)
    with pytest.raises(FileNotFoundError):
        store.read(NAME)


def test_what_a_container_did_to_the_copy_is_undone_and_never_read(
    store: PlaintextStore, tmp_path: Path
) -> None:
    store.write(NAME, b"A=1\n")
    beside = tmp_path / "repo" / NAME
    copy = beside.resolve()
    elsewhere = tmp_path / "repo/stacks/web/tracked"

    def removed() -> None:
        copy.unlink()

    def rewritten() -> None:
        with copy.open("r+b") as file:
            file.write(b"A=2\n")

    def fifo() -> None:
        copy.unlink()
        os.mkfifo(copy)

    def linked() -> None:
        elsewhere.write_bytes(b"A=1\n")
        copy.unlink()
        copy.hardlink_to(elsewhere)

    def led_away() -> None:
        copy.unlink()
        copy.symlink_to(elsewhere)

    def directory() -> None:
        beside.unlink()
        beside.mkdir()

    def socket() -> None:
        copy.unlink()
        os.mknod(copy, stat.S_IFSOCK)

    for deed in (removed, rewritten, fifo, linked, led_away, directory, socket):
        deed()
        assert store.read(NAME) == b"A=1\n"
        assert store.present(NAME, (33, 34)), deed
        assert beside.resolve() == copy
        info = copy.lstat()
        assert (info.st_mode, info.st_nlink) == (stat.S_IFREG | 0o600, 1)
        assert copy.read_bytes() == b"A=1\n"
    assert elsewhere.stat().st_uid == os.geteuid()


def test_a_copy_that_is_right_stays_the_file_that_is_mounted(
    store: PlaintextStore, tmp_path: Path
) -> None:
    """The first start of an agent with a private store decrypts anew, and no more."""
    store.write(NAME, b"A=1\n")
    copy = (tmp_path / "repo" / NAME).resolve()
    inode = copy.stat().st_ino
    store.place(NAME).unlink()
    assert not store.present(NAME)
    store.write(NAME, b"A=1\n")
    assert store.present(NAME)
    assert copy.stat().st_ino == inode


def test_compose_finds_the_agents_own_file_in_the_export(tmp_path: Path) -> None:
    for tree in ("repo", "export"):
        (tmp_path / tree / "stacks/web").mkdir(parents=True)
    repo, export = tmp_path / "repo", tmp_path / "export"
    store = PlaintextStore(repo, tmp_path / "run", state=tmp_path, export=export)
    store.write(NAME, b"A=1\n")
    (repo / NAME).write_bytes(b"A=2\n")
    assert (export / NAME).read_bytes() == b"A=1\n"
    (export / NAME).unlink()
    assert store.present(NAME)
    assert (export / NAME).resolve() == store.place(NAME)
    store.delete(NAME)
    assert list((export / "stacks/web").iterdir()) == []
