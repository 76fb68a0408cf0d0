"""What an agent does in a cycle that finds nothing to do: one listing, and few trips to threads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from agent.adapters.host.config_file import load_config
from agent.control.assembly import assemble
from agent.control.reconciler import Reconciler
from agent.control.source.poller import Poller
from agent.domain.release import drift

if TYPE_CHECKING:
    import pytest

    from agent.domain.config import Config
    from tests.system.conftest import Fleet

TRIPS = 16
"""To threads, in which the journal and the disk are read: they are most of such a cycle."""
CYCLES = 3


def test_a_cycle_with_nothing_to_do_asks_little(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["one", "two"]
    files: dict[str, Any] = {f"stacks/{name}/compose.yaml": fleet.compose() for name in names}
    fleet.commit("first", {"host/media/stacks.yaml": "[one, two]\n", **files})
    host = fleet.host(remotes=[fleet.box.gitea])
    assert host.once().returncode == 0
    trips: list[str] = []
    each: list[int] = []
    compared: list[str] = []
    to_thread, compare = anyio.to_thread.run_sync, drift.compare

    async def counted(work: Any, *args: Any, **options: Any) -> Any:
        trips.append(str(work))
        return await to_thread(work, *args, **options)

    def noted(release: Any, *args: Any) -> Any:
        compared.append(release.stack)
        return compare(release, *args)

    async def work(config: Config) -> None:
        async with assemble(config) as parts:
            poller = Poller(parts.probes, parts.remotes, lambda _: None)
            await poller.ask_all()
            await poller.aclose()
            reconciler = Reconciler(parts)
            for _ in range(CYCLES):  # the first read all of it
                assert (await reconciler.cycle()).line.startswith("in sync")
            monkeypatch.setattr(anyio.to_thread, "run_sync", counted)
            monkeypatch.setattr(drift, "compare", noted)
            for _ in range(CYCLES):
                trips.clear()
                assert (await reconciler.cycle()).line.startswith("in sync")
                each.append(len(trips))

    for key, value in host.environment.items():
        monkeypatch.setenv(key, value)
    umask = os.umask(0o022)
    try:
        anyio.run(work, load_config(host.config_path))  # the agent closes what it makes to others
    finally:
        os.umask(umask)
    assert min(each) <= TRIPS, trips  # one of them may have tidied up as well
    assert compared == []
