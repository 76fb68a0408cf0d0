"""A Git that is kept may die, hang or lie at any moment, and nobody is left without an answer."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from agent.adapters.git import objects
from agent.adapters.git.commits import Commits
from agent.adapters.git.git import Git
from agent.adapters.git.refs import APPLIED, Refs
from agent.adapters.git.session import BusyError, Pipe, Session
from agent.adapters.tasks import task_group
from agent.domain.errors import PermanentError, TransientError
from tests.sandbox.process import wait_until
from tests.unit.upstream import Upstream, do, git

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

FILES: dict[str, str | bytes | None] = {"a": "one", "b/c": "two", "b/d": "two"}


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    found = Upstream(tmp_path)
    found.commit(FILES)
    return found


@pytest.fixture
def session(upstream: Upstream) -> Iterator[Session]:
    found = Git(upstream.path, upstream.state / "askpass").session(*objects.COMMAND)
    yield found
    do(found.end)


def named(session: Session, name: str, timeout_s: float = 30.0) -> str | None:
    found: list[objects.Known | None] = do(
        session.ask, partial(objects.look_up, names=[name]), timeout_s
    )
    return found[0].oid if found[0] else None


def pid(session: Session) -> int:
    assert session._child is not None
    return session._child.process.pid


def test_one_process_answers_what_changes_meanwhile(upstream: Upstream, session: Session) -> None:
    first = git(upstream.path, "rev-parse", "HEAD")
    assert named(session, "HEAD") == first
    one = pid(session)
    assert named(session, "refs/heads/nothing") is None
    second = upstream.commit({"a": "more"})
    git(upstream.path, "repack", "-a", "-d", "-q")
    assert (named(session, "HEAD"), named(session, first)) == (second, first)
    assert pid(session) == one


def test_one_that_was_killed_is_replaced_and_the_question_answered(
    upstream: Upstream, session: Session
) -> None:
    head = git(upstream.path, "rev-parse", "HEAD")
    assert named(session, "HEAD") == head
    one = pid(session)
    os.kill(one, 9)
    assert named(session, "HEAD") == head
    assert pid(session) != one


def program(place: Path, script: str) -> Session:
    path = place / "git"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Session("cat-file", [str(path)], {"PATH": os.defpath}, 0o022)


def test_one_that_dies_each_time_is_an_error_in_its_own_words(tmp_path: Path) -> None:
    dying = program(tmp_path, f"echo x >>{tmp_path}/started\necho 'fatal: no room' >&2\nexit 128")
    with pytest.raises(TransientError, match="git cat-file failed: fatal: no room"):
        named(dying, "HEAD")
    assert (tmp_path / "started").read_text() == "x\n"


def test_one_that_hangs_is_ended_in_time_and_not_asked_again(tmp_path: Path) -> None:
    hanging = program(tmp_path, f"echo $$ >>{tmp_path}/pids\nexec sleep 1000")
    for count in (1, 2):
        with pytest.raises(TransientError, match="did not answer in time"):
            named(hanging, "HEAD", 2.0)  # long enough to have started on a busy machine
        pids = (tmp_path / "pids").read_text().split()
        assert len(pids) == count
        assert not [one for one in pids if Path("/proc", one).exists()]


def _says(pids: Path) -> bool:
    return pids.exists() and pids.read_text().endswith("\n")


def test_who_does_not_want_the_answer_any_more_does_not_wait_for_it(tmp_path: Path) -> None:
    hanging = program(tmp_path, f"echo $$ >>{tmp_path}/pids\nexec sleep 1000")

    async def main() -> None:
        async with task_group() as group:
            group.start_soon(hanging.ask, partial(objects.look_up, names=["HEAD"]), 1000.0)
            started = partial(wait_until, lambda: _says(pids), what="it to start")
            await anyio.to_thread.run_sync(started)
            group.cancel_scope.cancel()
        await hanging.end()

    pids = tmp_path / "pids"
    anyio.run(main)
    (one,) = pids.read_text().split()
    assert not Path("/proc", one).exists()


async def _ask_until(session: Session, path: Path, then: Callable[[], Awaitable[None]]) -> None:
    """Ask, and cancel that once the process has written ``path`` and ``then`` is done."""
    async with task_group() as group:
        group.start_soon(session.ask, partial(objects.look_up, names=["HEAD"]), 1000.0)
        started = partial(wait_until, lambda: _says(path), what="it to start")
        await anyio.to_thread.run_sync(started)
        await then()
        group.cancel_scope.cancel()


def test_a_question_that_is_not_wanted_any_more_is_not_asked_again(tmp_path: Path) -> None:
    """Although this process has answered before, so that its death would be a reason to."""
    asked = program(
        tmp_path,
        f"""echo $$ >>{tmp_path}/pids
        read one; read flush; echo "{"0" * 40} commit 1"
        read two; echo x >{tmp_path}/asked; exec sleep 1000""",
    )
    assert named(asked, "HEAD") == "0" * 40

    async def main() -> None:
        await _ask_until(asked, tmp_path / "asked", anyio.lowlevel.checkpoint)
        await asked.end()

    anyio.run(main)
    assert len((tmp_path / "pids").read_text().split()) == 1


def test_who_gives_up_waiting_for_its_turn_ends_nobody_elses_question(tmp_path: Path) -> None:
    slow = program(
        tmp_path,
        f"""echo $$ >>{tmp_path}/pids
        read one; read flush; read go <{tmp_path}/go; echo "{"0" * 40} commit 1"; cat""",
    )
    os.mkfifo(tmp_path / "go")
    found: list[list[objects.Known | None]] = []

    async def first() -> None:
        found.append(await slow.ask(partial(objects.look_up, names=["HEAD"]), 60.0))

    async def main() -> None:
        async with task_group() as group:
            group.start_soon(first)
            started = partial(wait_until, lambda: _says(tmp_path / "pids"), what="it to start")
            await anyio.to_thread.run_sync(started)
            await _ask_until(slow, tmp_path / "pids", anyio.lowlevel.checkpoint)
            await anyio.to_thread.run_sync((tmp_path / "go").write_text, "\n")
        await slow.end()

    anyio.run(main)
    assert found == [[objects.Known("0" * 40, "commit", 1)]]
    assert len((tmp_path / "pids").read_text().split()) == 1


def test_the_time_of_a_question_begins_with_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a commit would be called too large because somebody else has asked for much."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("agent.adapters.git.session.time", clock)
    slow = program(
        tmp_path,
        f"""read one; read flush; echo x >{tmp_path}/asked; read go <{tmp_path}/go
        echo "{"0" * 40} commit 1"; read two; read flush; echo "{"1" * 40} commit 1"; cat""",
    )
    os.mkfifo(tmp_path / "go")
    found: list[str] = []

    async def ask(timeout_s: float) -> None:
        (known,) = await slow.ask(partial(objects.look_up, names=["HEAD"]), timeout_s)
        assert known is not None
        found.append(known.oid[0])

    async def main() -> None:
        async with task_group() as group:
            group.start_soon(ask, 5000.0)
            started = partial(wait_until, lambda: _says(tmp_path / "asked"), what="the question")
            await anyio.to_thread.run_sync(started)
            group.start_soon(ask, 20.0)
            waits = partial(
                wait_until, lambda: bool(getattr(slow._changed, "_waiters", ())), what="the next"
            )
            await anyio.to_thread.run_sync(waits)
            clock.now += 1000.0
            await anyio.to_thread.run_sync((tmp_path / "go").write_text, "\n")
        await slow.end()

    anyio.run(main)
    assert found == ["0", "1"]


def test_who_waits_in_vain_for_its_turn_is_told_that_others_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.adapters.git.session._TURN_S", 0.1)
    slow = program(tmp_path, f"echo $$ >>{tmp_path}/pids\nexec sleep 1000")

    async def main() -> None:
        async def second() -> None:
            with pytest.raises(BusyError, match="git cat-file was busy with other questions"):
                await slow.ask(partial(objects.look_up, names=["HEAD"]), 1.0)

        await _ask_until(slow, tmp_path / "pids", second)
        await slow.end()

    anyio.run(main)


def test_a_git_that_cannot_be_ended_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs holds it beyond any signal; here none arrives."""
    monkeypatch.setattr("agent.adapters.git.session._ENDING", ((0, 0.1), (0, 0.1)))
    hanging = program(
        tmp_path, f'read one; read flush; echo "{"0" * 40} commit 1"; exec sleep 1000'
    )
    assert named(hanging, "HEAD") == "0" * 40
    assert hanging._child is not None
    left = hanging._child.process
    with pytest.raises(TransientError, match="did not answer in time"):
        named(hanging, "HEAD", 0.1)
    assert left.poll() is None
    assert named(hanging, "HEAD") == "0" * 40
    monkeypatch.undo()
    do(hanging.end)
    left.kill()
    left.wait()


def test_a_git_is_asked_to_end_before_it_is_killed_and_removes_its_locks(
    upstream: Upstream,
) -> None:
    head = git(upstream.path, "rev-parse", "HEAD")
    refs = Git(upstream.path, upstream.state / "askpass").session("update-ref", "--stdin")

    def prepared(pipe: Pipe) -> None:
        pipe.write(f"start\nupdate refs/commitd/applied {head}\nprepare\n".encode())
        assert [pipe.line(), pipe.line()] == [b"start: ok", b"prepare: ok"]

    lock = upstream.path / ".git/refs/commitd/applied.lock"
    do(refs.ask, prepared, 30.0)
    assert lock.exists()
    do(refs.end)
    assert not lock.exists()


def test_an_error_is_the_line_that_says_what_happened(upstream: Upstream) -> None:
    lock = upstream.path / ".git/refs/commitd/applied.lock"
    lock.parent.mkdir()
    lock.touch()
    refs = Refs(Git(upstream.path, upstream.state / "askpass"))
    with pytest.raises(TransientError, match=r"refs/commitd/applied\.lock': File exists"):
        do(refs.write, {APPLIED: git(upstream.path, "rev-parse", "HEAD")})


def test_a_directory_of_too_many_bytes_is_the_fault_of_the_commit(upstream: Upstream) -> None:
    """Not of the moment: asked again it would be as large."""
    blob = git(upstream.path, "rev-parse", "HEAD:a")
    lines = "".join(f"100644 blob {blob}\t{n:0240}\n" for n in range(70_000))
    make = ["git", "-C", str(upstream.path), "mktree"]
    made = subprocess.run(make, input=lines.encode(), stdout=subprocess.PIPE, check=True)
    top = git(upstream.path, "commit-tree", "-m", "much", made.stdout.decode().strip())
    commits = Commits(Git(upstream.path, upstream.state / "askpass"))
    with pytest.raises(PermanentError, match="bytes of paths"):
        do(commits.tree, top)
    do(commits.session.end)


def test_a_git_ends_with_an_agent_that_is_killed(upstream: Upstream) -> None:
    script = f"""
import anyio, os
from functools import partial
from pathlib import Path
from agent.adapters.git import objects
from agent.adapters.git.git import Git
session = Git(Path({str(upstream.path)!r}), Path("/none")).session(*objects.COMMAND)
anyio.run(partial(session.ask, partial(objects.look_up, names=["HEAD"]), 30.0))
print(session._child.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    said = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    one = Path("/proc", said.stdout.decode().strip(), "cmdline")

    def gone() -> bool:
        try:
            return b"cat-file" not in one.read_bytes()
        except OSError:
            return True

    wait_until(gone, what="Git to end")


def test_a_tree_is_what_git_says_it_is(upstream: Upstream, session: Session) -> None:
    (upstream.path / "run.sh").write_text("#!/bin/sh\n")
    (upstream.path / "run.sh").chmod(0o755)
    (upstream.path / "b.x").write_text("between b/ and c")
    (upstream.path / "link").symlink_to("a")
    sha = upstream.commit({"b/é": "é", "b/e/f/g": ""})
    found = do(session.ask, partial(objects.tree, commit=sha), 30.0)
    said = git(upstream.path, "-c", "core.quotePath=false", "ls-tree", "-r", "-l", sha)
    ours = [f"{e.mode} blob {e.oid} {e.size:7}\t{e.path}" for e in found.values()]
    assert ours == said.splitlines()


def test_an_object_that_holds_something_else_is_damaged(
    upstream: Upstream, session: Session
) -> None:
    """Git believes what a pack calls it; here it is a file that was written over."""
    oid = git(upstream.path, "rev-parse", "HEAD:a")
    assert do(session.ask, partial(objects.read, names=[oid], most=100), 30.0) == [b"one"]
    do(session.end)
    place = upstream.path / ".git/objects" / oid[:2] / oid[2:]
    place.chmod(0o644)
    place.write_bytes(zlib.compress(b"blob 3\0two"))
    with pytest.raises(TransientError):
        do(session.ask, partial(objects.read, names=[oid], most=100), 30.0)
    place.unlink()
    with pytest.raises(TransientError, match="missing"):
        do(session.ask, partial(objects.read, names=[oid], most=100), 30.0)
