"""Swarms of several machines with two versions of the engine, and a repository that runs there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.cluster import Cluster
from tests.system.conftest import Fleet, box, nothing_waits_on_the_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox import Sandbox

__all__ = ["box", "fleet", "nothing_waits_on_the_loop", "pair", "trio"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-effect",
        action="store_true",
        help="kill the agent before and after every effect, not before one of each kind (minutes)",
    )


@pytest.fixture
def fleet(box: Sandbox) -> Iterator[Fleet]:
    yield Fleet(box)
    for server in (box.gitea, box.github):
        server.start()
    box.registry.start()


@pytest.fixture
def pair(box: Sandbox) -> Iterator[Cluster]:
    """A manager with the engine of this Debian, and a worker with a newer one."""
    with Cluster(box, engines=[False, True], managers=1) as cluster:
        yield cluster


@pytest.fixture
def trio(box: Sandbox) -> Iterator[Cluster]:
    """Three managers, the second of which has a newer engine."""
    with Cluster(box, engines=[False, True, False], managers=3) as cluster:
        yield cluster
