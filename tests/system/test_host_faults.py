"""What the machine does to the agent: a disk that is full or read-only, a log that nobody reads."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import linux, world
from tests.sandbox.engine import Engine
from tests.sandbox.process import run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_ROOT = Path(__file__).parents[2]
LIST = "host/media/stacks.yaml"


def _stack(fleet: Fleet, image: str | None = None) -> dict[str, str | bytes | None]:
    return {
        LIST: "- one\n- two\n",
        "stacks/one/compose.yaml": fleet.compose(image),
        "stacks/two/compose.yaml": fleet.compose(),
    }


@contextmanager
def _read_only(path: Path) -> Iterator[None]:
    run(["mount", "--bind", path, path])
    run(["mount", "-o", "remount,ro,bind", path])
    try:
        yield
    finally:
        linux.unmount_below(path)


def test_a_state_directory_that_became_read_only_is_named_and_nothing_is_touched(
    fleet: Fleet,
) -> None:
    host = fleet.synced(_stack(fleet))
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    before = fleet.running()
    newer = fleet.commit("newer", _stack(fleet, fleet.web))
    with _read_only(host.state):
        result = host.once()
        assert result.returncode in {1, 2}
        assert str(host.state) in result.stderr
        assert "ead-only file system" in result.stderr
        assert "Traceback" not in result.stderr
        assert fleet.running() == before
    assert host.once().returncode == 0
    assert host.json("status")["revision"]["applied"] == newer
    assert set(fleet.running()) == {"one-app-1", "two-app-1"}


def test_a_state_directory_that_becomes_read_only_below_the_agent_is_said_and_mended(
    fleet: Fleet,
) -> None:
    """What cannot be written down is not done; what runs is left alone."""
    host = fleet.synced(_stack(fleet))
    before = fleet.running()
    with host.running() as agent:
        agent.says("in sync with")
        with _read_only(host.state):
            fleet.commit("newer", _stack(fleet, fleet.web))
            wait_until(
                lambda: "ead-only file system" in agent.log or "cannot be written" in agent.log,
                what="it to be said",
            )
            assert fleet.running() == before
            assert agent.process.poll() is None
        wait_until(
            lambda: fleet.running().get("one-app-1") not in {None, before["one-app-1"]},
            what="the commit to be deployed",
            seconds=90,
        )
        assert fleet.running()["two-app-1"] == before["two-app-1"]


@contextmanager
def _small_engine(fleet: Fleet, size: str) -> Iterator[tuple[Engine, Path]]:
    """A second engine whose data directory is a small disk, and that."""
    place = fleet.box.root / "small"
    place.mkdir()
    linux.mount("tmpfs", place, "tmpfs", options=f"size={size}")
    try:
        engine = Engine(
            place / "engine",
            socket_path=fleet.box.root / "small.sock",
            cgroup_parent=f"{world.cgroup_parent(world.data_directory())}/small",
        )
        engine.start()
        try:
            yield engine, place
        finally:
            engine.remove_everything()
            engine.stop()
    finally:
        linux.unmount_below(place)
        place.rmdir()


def test_a_disk_of_the_engine_that_is_full_leaves_the_old_version_running(fleet: Fleet) -> None:
    large = fleet.box.images.build("large", "1.0", files={"noise": os.urandom(40_000_000)})
    fleet.commit("first", _stack(fleet))
    with _small_engine(fleet, "60m") as (engine, place):
        host = fleet.host(docker={"socket": engine.host})
        assert host.once().returncode == 0
        before = {c["Id"] for c in engine.containers(all=False)}
        assert len(before) == 2
        fleet.commit("large", _stack(fleet, large))
        result = host.once()
        assert result.returncode == 1
        assert "no space left on device" in result.stdout + result.stderr
        assert {c["Id"] for c in engine.containers(all=False)} == before
        run(["mount", "-o", "remount,size=400m", place])
        assert host.commitd("retry", "one").returncode == 0
        result = host.once()
        assert result.returncode == 0, result.stdout
        assert len({c["Id"] for c in engine.containers(all=False)} & before) == 1


def _journal_stream(descriptor: int) -> str:
    """As systemd tells a service that this is its journal."""
    status = os.fstat(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


def test_a_journal_of_the_machine_that_hangs_holds_up_no_eviction(fleet: Fleet) -> None:
    host = fleet.synced(_stack(fleet))
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    try:
        while os.write(theirs, b"x" * 65536):
            pass
    except BlockingIOError:
        os.set_blocking(theirs, True)
    agent = _agent(host, theirs)
    try:
        fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
        wait_until(lambda: "rogue" not in fleet.running(), what="it to be ended")
        newer = fleet.commit("newer", _stack(fleet, fleet.web))
        wait_until(
            lambda: host.json("status")["revision"]["applied"] == newer, what="it to be deployed"
        )
    finally:
        agent.terminate()
        assert agent.wait(240) == 0
        os.close(ours)
        os.close(theirs)


def _agent(host: Host, log: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "agent", "run"],
        env=host.environment | {"JOURNAL_STREAM": _journal_stream(log)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        cwd=_ROOT,
    )
