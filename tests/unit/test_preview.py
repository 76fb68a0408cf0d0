"""A look at what would be done resolves stacks with their secrets, and shows none of them."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from agent.adapters.compose.compose import Compose
from agent.adapters.engine.engine import Engine
from agent.adapters.git.repository import Repository
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.state.journal import Journal
from agent.control.release.adoption import Adopter
from agent.control.release.dry_run import rehearse
from agent.control.release.preview import Preview
from agent.control.stack.provision import Provisioner
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Deploy
from agent.domain.repository import layout
from tests.files import write
from tests.unit import builders

if TYPE_CHECKING:
    from agent.domain.repository.desired import DesiredState

SECRET = "hunter2hunter2"
SEALED = "stacks/web/db.secret.env"
# Compose quotes a port that is none.
FILES = {
    "host/media/stacks.yaml": b"- web\n",
    "stacks/web/compose.yaml": b"services: {a: {image: x, ports: ['${PASSWORD}:80']}}\n",
    SEALED: b"PASSWORD=ENC[x]\nsops_mac=ENC[x]\n",
}
PLAINTEXT = f"PASSWORD={SECRET}\n".encode()


@pytest.fixture
def compose() -> Compose:
    spec = importlib.util.find_spec("compose")
    assert spec
    assert spec.origin
    return Compose(Path(spec.origin).parent / "docker-compose", "unix:///nonexistent", 60)


def _desired(sha: str = builders.SHA) -> DesiredState:
    return layout.read(builders.tree(FILES), FILES, builders.revision(sha), "media")


def test_a_rehearsal_that_fails_says_why_without_the_secret(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nor does it put the plaintext where files of no importance are, which may be a disk.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))

    async def run() -> dict[str, str | None]:
        async with Engine("unix:///nonexistent") as engine:
            look = partial(rehearse, tree=builders.tree(FILES), contents=FILES)
            stacks = _desired().stacks
            return await look(compose, Adopter(compose, engine), stacks, opened={SEALED: PLAINTEXT})

    assert anyio.run(run) == {"web": "invalid hostPort: [redacted]"}


def test_a_preview_that_fails_says_why_without_the_secret(compose: Compose, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    write(root, FILES)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    where = (f"--git-dir={tmp_path / 'git'}", f"--work-tree={root}")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "x")):
        subprocess.run(["git", *where, *words], cwd=root, check=True)
    store = PlaintextStore(root, tmp_path / "run", state=tmp_path)
    store.write(layout.plaintext_path(SEALED), PLAINTEXT)
    askpass = tmp_path / "askpass"
    repository = Repository(tmp_path, "main", askpass)

    async def run() -> str | None:
        desired = _desired(await repository.resolve("HEAD"))
        deploys = [Deploy(stack, Reason.NEW) for stack in desired.stacks]
        looks = Provisioner(Engine("unix:///nowhere"), tuple)
        preview = Preview(
            repository,
            "media",
            journal,
            compose,
            foresee=looks.foresee,
            agent=AgentPlaces(),
            store=store,
        )
        found = await preview.look(deploys, desired.revision.sha, ())
        return found["web"].unknown

    journal = Journal(tmp_path / "journal.db")
    said = anyio.run(run)
    journal.close()
    assert said
    assert "invalid hostPort: [redacted]" in said
    assert SECRET not in said
