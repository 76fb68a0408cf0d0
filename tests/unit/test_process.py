"""Children get their standard input whole, and have their limits from the first moment."""

from __future__ import annotations

import gc
import logging

import anyio
import pytest

from agent.adapters import process
from agent.adapters.process import Result
from agent.domain.errors import TransientError

LARGE = bytes(range(256)) * 4096  # more than any pipe holds


def _run(script: str, stdin: bytes) -> Result:
    async def main() -> Result:
        words = ["/bin/sh", "-c", script]
        return await process.run(words, env={"PATH": "/usr/bin:/bin"}, timeout_s=60, stdin=stdin)

    return anyio.run(main)


@pytest.mark.parametrize("stdin", [b"", b"x", LARGE], ids=["none", "short", "large"])
def test_a_child_reads_its_input_whole_from_the_pipe_or_by_its_name(stdin: bytes) -> None:
    assert _run("cat", stdin) == Result(0, stdin, b"")
    assert _run("cat /dev/stdin", stdin) == Result(0, stdin, b"")


def test_a_child_reads_its_input_at_its_own_pace_and_writes_meanwhile() -> None:
    """Neither waits for the other, however much there is of both."""
    said = _run("head -c 1000000 /dev/zero; cat", LARGE)
    assert (said.code, len(said.out)) == (0, 1_000_000 + len(LARGE))


def test_a_child_cannot_change_its_input() -> None:
    assert _run("echo other 2>/dev/null >&0; cat", b"as it was").out == b"as it was"


@pytest.mark.parametrize("script", ["exit 3", "head -c 1 >/dev/null; exit 3", "exec <&-; exit 3"])
def test_a_child_that_ends_without_reading_its_input_leaves_nothing_behind(
    script: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            assert _run(script, LARGE).code == 3
        gc.collect()
    assert caplog.text == ""


def _limited(argv: list[str], **limits: int) -> Result:
    async def main() -> Result:
        path = {"PATH": "/usr/bin:/bin"}
        return await process.run(argv, env=path, timeout_s=60, **limits)  # type: ignore[arg-type]

    return anyio.run(main)


def test_limits_are_in_force_from_the_first_moment() -> None:
    """What a program has started before it is limited would go without limits."""
    script = "ulimit -f; ulimit -d; sh -c 'ulimit -f; ulimit -d'"
    result = _limited(["sh", "-c", script], max_file=2**20, max_memory=2**30)
    assert result.out.split() == [b"2048", b"1048576"] * 2


@pytest.mark.parametrize("limits", [{}, {"max_file": 2**20}])
def test_a_program_that_is_not_there_is_named(limits: dict[str, int]) -> None:
    with pytest.raises(TransientError) as caught:
        _limited(["/nobody/is/here"], **limits)
    assert str(caught.value) == "/nobody/is/here: here cannot be started: No such file or directory"
