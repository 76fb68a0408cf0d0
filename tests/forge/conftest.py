"""The sandbox of the system tests, and a Gitea in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.forge.gitea import Gitea
from tests.system.conftest import box, fleet, nothing_waits_on_the_loop

if TYPE_CHECKING:
    from tests.sandbox import Sandbox

__all__ = ["box", "fleet", "forge", "nothing_waits_on_the_loop"]


@pytest.fixture(scope="session")
def forge(box: Sandbox) -> Iterator[Gitea]:
    gitea = Gitea(box)
    yield gitea
    gitea.daemon.stop()
