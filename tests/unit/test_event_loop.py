"""The watch over the event loop sees what it is there for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
from blockbuster import BlockingError

import agent
from tests import event_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def _of_the_agent(source: str) -> Callable[[Path], Awaitable[Any]]:
    """The function ``do``, as if it stood in a module of the agent."""
    scope: dict[str, Any] = {}
    exec(compile(source, f"{agent.__path__[0]}/example.py", "exec"), scope)  # noqa: S102
    do: Callable[[Path], Awaitable[Any]] = scope["do"]
    return do


def test_code_of_the_agent_that_reads_a_file_on_the_loop_is_caught_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("content")
    do = _of_the_agent("async def do(path): return path.read_text()")
    with pytest.raises(BlockingError):
        anyio.run(do, tmp_path / "file")
    assert "agent/example.py" in event_loop.caught()


def test_in_a_thread_it_may_read_and_so_may_a_test(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    source = (
        "from anyio import to_thread\n"
        "async def do(path): return await to_thread.run_sync(path.read_text)"
    )

    async def read() -> list[str]:
        return [await _of_the_agent(source)(tmp_path / "file"), (tmp_path / "file").read_text()]

    assert anyio.run(read) == ["content", "content"]
