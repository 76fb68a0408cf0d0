"""Properties are tried often enough to find things, and never fail for a slow machine or by chance.

The same examples each time: what somebody else changes is not held up by what nobody had found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests import event_loop

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile(
    "unit",
    deadline=None,
    derandomize=True,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unit")


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_the_loop() -> Iterator[None]:
    forbidden = event_loop.forbidden()
    forbidden.activate()
    yield
    forbidden.deactivate()
