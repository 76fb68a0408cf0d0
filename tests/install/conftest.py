"""The sandbox of the system tests: Git servers and a registry, for hosts with their own engine."""

from __future__ import annotations

from tests.system.conftest import box, fleet, nothing_waits_on_the_loop

__all__ = ["box", "fleet", "nothing_waits_on_the_loop"]
