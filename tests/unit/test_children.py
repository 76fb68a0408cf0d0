"""Programs that hang, flood or die: they end with all that they started, and nothing else does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from agent.adapters import process
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.adapters.git.repository import Repository
from agent.domain.config import Config, Remote
from agent.domain.errors import TransientError
from tests.sandbox.process import wait_until
from tests.unit.builders import stack
from tests.unit.git_servers import Origin
from tests.unit.upstream import fetched

Call = Callable[[Compose, Invocation], Awaitable[object]]
CALLS: dict[str, Call] = {
    "up": lambda compose, invocation: compose.up(invocation, {}),
    "config": lambda compose, invocation: compose.resolve(invocation),
}


def program(place: Path, script: str) -> Path:
    """In the place of Compose: it notes its process, then does this."""
    path = place / "docker-compose"
    path.write_text(f"#!/bin/sh\necho $$ >>{place / 'pids'}\n{script}\n")
    path.chmod(0o755)
    return path


def fails(place: Path, script: str, call: str, limit_s: float = 60) -> str:
    """Why a call of Compose fails that does this; all of its processes are gone then."""
    compose = Compose(program(place, script), "unix:///nobody/is/here.sock", limit_s)

    async def main() -> str:
        with pytest.raises(TransientError) as caught:
            await CALLS[call](compose, Invocation(stack=stack("web"), root=place))
        return str(caught.value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.adapters.compose.program.MODEL_TIMEOUT_S", limit_s)
        said = anyio.run(main)
    pids = (place / "pids").read_text().split()
    wait_until(lambda: all(map(_gone, pids)), what="all of them to end")
    return said


def _gone(pid: str) -> bool:
    """Whether it has ended, if perhaps nobody has buried it."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture(autouse=True)
def hurried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_S", 0.2)
    (tmp_path / "stacks/web").mkdir(parents=True)
    (tmp_path / "stacks/web/compose.yaml").write_text("services: {}\n")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("ignores", ["", "trap '' TERM INT"])
def test_a_compose_that_hangs_is_ended_with_its_children(
    tmp_path: Path, ignores: str, call: str
) -> None:
    child = f"sh -c 'trap \"\" TERM; echo $$ >>{tmp_path}/pids; sleep 1000' &"
    said = fails(tmp_path, f"{ignores}\n{child}\nwhile :; do sleep 0.05; done", call, 0.3)
    assert said == "docker-compose did not end within 0.3 s"


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_compose_that_floods_is_read_no_further_than_the_limit(
    tmp_path: Path, stream: str
) -> None:
    script = f"head -c {3 * process.MAX_OUTPUT} /dev/zero >&{stream}"
    assert "printed more than" in fails(tmp_path, script, "config")


@pytest.mark.parametrize("call", CALLS)
def test_a_compose_that_is_killed_alone_is_tried_again(tmp_path: Path, call: str) -> None:
    """As the kernel does it when memory is short: not for good, and not for long."""
    assert fails(tmp_path, "kill -9 $$", call)


def test_a_git_that_is_killed_alone_costs_no_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Origin(tmp_path / "origin.git")
    sha = origin.commit({"a": "one"})
    remote = Remote(name="gitea", url=origin.url)
    config = Config(host="media", remotes=(remote,), state_dir=tmp_path / "state")
    config.state_dir.mkdir(mode=0o700)
    clone = Repository.of(config)
    real, doomed = shutil.which("git"), tmp_path / "bin/git"
    doomed.parent.mkdir()
    doomed.write_text(
        f'#!/bin/sh\nfor word; do [ "$word" != "$DOOMED" ] || kill -9 $$; done\nexec {real} "$@"\n'
    )
    doomed.chmod(0o755)

    def kill(word: str) -> None:
        """Have each Git die that is told to do this."""
        doomed.write_text(doomed.read_text().replace("$DOOMED", word))
        monkeypatch.setenv("PATH", f"{doomed.parent}:{os.environ['PATH']}")

    async def main() -> None:
        await clone.prepare()
        await fetched(clone, remote, sha)
        await clone.reset(sha)
        (clone.root / "data").write_text("precious")
        kill("fsck")
        with pytest.raises(TransientError, match="Git was killed"):
            await clone.prepare()
        monkeypatch.undo()
        await clone.prepare()
        assert await clone.applied() == sha
        assert (clone.root / "data").read_text() == "precious"

    anyio.run(main)
