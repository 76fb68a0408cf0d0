"""Children get their standard input whole, and need not read it."""

from __future__ import annotations

import gc
import logging

import anyio
import pytest

from agent.adapters import process
from agent.adapters.process import Result

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
