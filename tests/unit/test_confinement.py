"""A program that may read some files and no others, held back by this machine's own kernel."""

from __future__ import annotations

import os
import select
import shutil
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from agent.adapters import memory_file, process
from agent.adapters.compose import confinement, locate
from agent.adapters.tasks import task_group

pytestmark = pytest.mark.skipif(
    not confinement.possible(), reason="this kernel, or this container, has no Landlock"
)
CAT = Path(shutil.which("cat") or "/bin/cat")
GIT = Path(shutil.which("git") or "/usr/bin/git")
PYTHON = Path(os.path.realpath(sys.executable))


async def _ended(program: Path, *words: str, readable: Path, stdin: bytes = b"") -> process.Result:
    async with confinement.confined(program, [readable]) as run:
        return await run([str(program), *words], env={}, timeout_s=20, stdin=stdin)


def test_what_is_outside_cannot_be_read_by_any_way(tmp_path: Path) -> None:
    inside, outside = tmp_path / "repo", tmp_path / "outside"
    inside.mkdir()
    outside.write_text("hunter2")
    (inside / "own").write_text("mine")
    (inside / "link").symlink_to(outside)
    ways = [outside, inside / "link", inside / ".." / "outside", Path("/etc/passwd")]
    ways += [Path("/proc/self/root", *outside.parts[1:]), Path("/proc/self/environ"), tmp_path]
    for way in ways:
        ended = anyio.run(partial(_ended, CAT, str(way), readable=inside))
        assert (ended.code, ended.out) == (1, b""), way
    ended = anyio.run(partial(_ended, CAT, str(inside / "own"), readable=inside))
    assert (ended.code, ended.out) == (0, b"mine")


def test_a_script_that_starts_the_program_is_found_out_before_it_fails(tmp_path: Path) -> None:
    script = tmp_path / "docker-compose"
    script.write_text(f'#!/bin/sh\nexec {GIT} "$@"\n')
    script.chmod(0o755)
    assert anyio.run(confinement.hindrance, GIT) is None
    said, hint = anyio.run(confinement.hindrance, script) or ("", "")
    assert said.endswith(f"{script} starts other programs, as a script does")
    assert "cli-plugins/docker-compose" in hint


def test_a_script_counts_after_the_program_that_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, real = tmp_path / "docker-compose", tmp_path / "cli-plugins" / "docker-compose"
    script.write_text("#!/bin/sh\necho 2.40.3\n")
    script.chmod(0o755)
    real.parent.mkdir()
    shutil.copy2(CAT, real)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    found = [path for path in anyio.run(locate.versions) if path.is_relative_to(tmp_path)]
    assert found == [real, script]


def test_it_can_have_limits(tmp_path: Path) -> None:
    async def limited() -> process.Result:
        async with confinement.confined(CAT, [tmp_path]) as run:
            more = {"max_memory": 1 << 28, "max_file": 1 << 20}
            return await run([str(CAT)], env={}, timeout_s=20, stdin=b"fine", **more)

    assert anyio.run(limited).out == b"fine"


def test_what_it_is_given_can_be_read(tmp_path: Path) -> None:
    async def given() -> process.Result:
        with memory_file.holding(b"in memory") as handle:
            async with confinement.confined(CAT, [tmp_path]) as run:
                words = [str(CAT), memory_file.path(handle), os.devnull, "-"]
                return await run(words, env={}, timeout_s=20, pass_fds=[handle], stdin=b" and in")

    assert anyio.run(given).out == b"in memory and in"


_NETWORK = """
import socket, sys
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    try:
        socket.socket(family, socket.SOCK_STREAM)
    except PermissionError:
        print("refused")
"""


def test_it_has_no_network() -> None:
    where = Path(sys.base_prefix)
    ended = anyio.run(partial(_ended, PYTHON, "-ISc", _NETWORK, readable=where))
    assert ended.out.split() == [b"refused"] * 3, ended.err


def test_it_writes_nothing(tmp_path: Path) -> None:
    words = ["-ISc", f"open({str(tmp_path / 'new')!r}, 'w')"]

    async def both() -> process.Result:
        async with confinement.confined(PYTHON, [tmp_path, Path(sys.base_prefix)]) as run:
            return await run([str(PYTHON), *words], env={}, timeout_s=20)

    assert b"PermissionError" in anyio.run(both).err
    assert list(tmp_path.iterdir()) == []


def test_the_rest_of_the_process_stays_as_it_was(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("x")
    (tmp_path / "repo").mkdir()

    async def beside() -> bytes:
        async with confinement.confined(CAT, [tmp_path / "repo"]):
            return (await process.run([str(CAT), str(outside)], env={}, timeout_s=20)).out

    assert anyio.run(beside) == b"x"
    assert outside.read_text() == "x"


def test_it_is_ended_with_the_task_that_waits_for_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def cut_short() -> int:
        async with confinement.confined(CAT, [tmp_path]) as run, task_group() as group:

            async def reading() -> None:
                await run([str(CAT), str(fifo)], env={}, timeout_s=60)

            group.start_soon(reading)
            handle = await anyio.to_thread.run_sync(os.open, fifo, os.O_WRONLY)  # it has it open
            group.cancel_scope.cancel()
        return handle

    handle = anyio.run(cut_short)
    nobody_reads = select.poll()
    nobody_reads.register(handle, 0)
    assert nobody_reads.poll(20_000) == [(handle, select.POLLERR)]
    os.close(handle)
