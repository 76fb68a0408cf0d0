"""What of the machine is the agent's own is closed to others, and held by one agent alone."""

from __future__ import annotations

import stat
import uuid
from pathlib import Path

import anyio
import pytest

from agent.adapters.engine.lease import only_agent_of
from agent.adapters.host import directories, key_file, lock
from agent.adapters.host.directories import SOCKET
from agent.domain import config
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.errors import ConfigError, HeldError
from agent.surface.api import serving
from tests.values import replace


def _config(tmp_path: Path) -> config.Config:
    remotes = (config.Remote(name="a", url="file:///a"),)
    state, runtime = tmp_path / "state", tmp_path / "run"
    return config.Config(host="media", remotes=remotes, state_dir=state, runtime_dir=runtime)


@pytest.mark.parametrize("holds", [None, "", "journal.db"])
def test_a_directory_of_the_agents_own_is_closed_to_others(
    tmp_path: Path, holds: str | None
) -> None:
    state = tmp_path / "state"
    if holds is not None:
        state.mkdir()
        state.chmod(0o755)
    if holds:
        (state / holds).touch()
    directories.prepare_directories(_config(tmp_path))
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["state", "run"])
def test_a_directory_that_others_use_is_not_taken_from_them(tmp_path: Path, name: str) -> None:
    shared = tmp_path / name
    (shared / "lock").mkdir(parents=True)  # as in /run
    shared.chmod(0o755)
    with pytest.raises(ConfigError, match="others use this directory") as caught:
        directories.prepare_directories(_config(tmp_path))
    assert caught.value.where == str(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755


def test_its_directories_are_known_also_where_links_lead(tmp_path: Path) -> None:
    config = _config(tmp_path)
    state, runtime = str(config.state_dir), str(config.runtime_dir)
    named = AgentPlaces(state=state, runtime=runtime)
    assert directories.agent_places(config) == named
    (tmp_path / "disk").mkdir()
    config.state_dir.symlink_to("disk")
    real = AgentPlaces(state=f"{tmp_path}/disk", runtime=runtime)
    assert directories.agent_places(config) == replace(named, real=real)


def test_a_directory_in_memory_is_told_from_others() -> None:
    assert directories.file_system(Path("/dev/shm")) == "tmpfs"
    assert directories.file_system(Path("/proc/self")) == "proc"


@pytest.mark.parametrize(
    ("path", "service", "told"),
    [
        ("/root/.ssh/id", True, True),
        ("/home/ada/token", True, True),
        ("/root/.ssh/id", False, False),
        ("/etc/commitd/deploy_key", True, False),
        ("/rooted/key", True, False),
    ],
)
def test_a_file_that_only_the_service_does_not_see_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, path: str, service: bool, told: bool
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if service:
        monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    said = key_file.out_of_sight(Path(path)) or ""
    assert ("BindReadOnlyPaths=" in said) is told


def test_one_agent_works_with_a_state_directory(tmp_path: Path) -> None:
    own = _config(tmp_path)
    directories.prepare_directories(own)
    with lock.only_agent(own):
        with (
            pytest.raises(HeldError, match="another agent works on this host"),
            lock.only_agent(own),
        ):
            pytest.fail("two agents")
        assert lock.running_agent(own) is not None
    with lock.only_agent(own):
        pass


def test_one_agent_works_on_an_engine_whatever_their_directories() -> None:
    engine = uuid.uuid4().hex

    async def main() -> None:
        async with only_agent_of(engine):
            with pytest.raises(HeldError, match="another agent works on this engine"):
                async with only_agent_of(engine):
                    pytest.fail("two agents")
        async with only_agent_of(engine):
            pass

    anyio.run(main)


def test_the_apis_socket_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / SOCKET
    with serving._bind(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
