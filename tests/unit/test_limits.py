"""What is bounded fits into what the service of the agent may use."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import anyio

from agent.adapters import process
from agent.adapters.compose.program import MEMORY
from agent.domain.config import Converge
from agent.surface.api import connections

_UNIT = Path(__file__).parents[2] / "systemd/commitd.service"
_MIB = 1024**2


def _setting(name: str) -> int:
    """A number of the unit, in bytes if it has one of their units."""
    [(number, unit)] = re.findall(rf"^{name}=(\d+)([MG]?)$", _UNIT.read_text(), re.MULTILINE)
    return int(number) * {"": 1, "M": _MIB, "G": 1024 * _MIB}[unit]


def test_all_compose_children_fit_beside_the_agent_into_its_memory() -> None:
    deploying = repairing = Converge().parallel
    agent_and_git = 512 * _MIB
    assert _setting("MemoryMax") >= (deploying + repairing) * MEMORY + agent_and_git


def test_all_connections_fit_into_the_files_that_it_may_open() -> None:
    assert _setting("LimitNOFILE") > (connections.MOST + connections.STREAMS) * 100


def test_a_child_gets_no_more_memory_than_it_may_use() -> None:
    takes = "x = bytearray({} * 1024**2); print(len(x))"

    async def run(size_mib: int) -> process.Result:
        return await process.run(
            [sys.executable, "-c", f"import time; time.sleep(0.1); {takes.format(size_mib)}"],
            env={},
            timeout_s=60,
            max_memory=MEMORY,
        )

    assert anyio.run(run, 64).code == 0
    refused = anyio.run(run, 256)
    assert refused.code == 1
    assert b"MemoryError" in refused.err
