"""Compose resolves the same input once, unless a secret may be in what comes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from agent.adapters import process
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.control.stack.kept_models import KeptModels
from agent.domain.errors import CommitdError
from agent.domain.repository.desired import EnvFile
from agent.domain.repository.fleet_policy import Policy
from tests.sandbox import packaged
from tests.unit.builders import stack

TEXT = "services: {app: {image: 'a:${TAG-none}', command: ['${PASSWORD-none}']}}"


@dataclass
class Resolving:
    """The real Compose, and how often it was started."""

    root: Path
    binary: Path = field(default_factory=lambda: packaged("compose", "docker-compose"))
    processes: int = 0

    def __post_init__(self) -> None:
        self.compose = Compose(self.binary, "unix:///nobody/is/here.sock", 60, self._run)
        self.kept = KeptModels(self.compose)
        self.call = Invocation(stack=stack("web"), root=self.root, salt="of this host")
        self.call.file.parent.mkdir(parents=True)
        self.call.file.write_text(TEXT)

    async def _run(self, *args: Any, **how: Any) -> process.Result:
        self.processes += 1
        return await process.run(*args, **how)

    def of(self, call: Invocation) -> tuple[dict[str, Any], int]:
        """The service, and how many processes of Compose that took."""
        before = self.processes
        found = anyio.run(self.kept.resolve, call)
        return found.model["services"]["app"], self.processes - before


@pytest.fixture
def resolving(tmp_path: Path) -> Resolving:
    return Resolving(tmp_path)


def test_the_same_input_is_resolved_by_one_process(resolving: Resolving) -> None:
    first, took = resolving.of(resolving.call)
    assert took == 1
    first["image"] = "changed by who asked"
    again, took = resolving.of(replace(resolving.call))
    assert (again["image"], took) == ("a:none", 0)


INPUTS: dict[str, Callable[[Invocation], Invocation]] = {
    "an input": lambda call: replace(call, stack=replace(call.stack, digest="another")),
    "a policy": lambda call: replace(call, stack=replace(call.stack, policy=Policy(build="allow"))),
    "an env file": lambda call: replace(
        call,
        stack=replace(call.stack, environment=(EnvFile("stacks/web/x.env", "0", secret=False),)),
    ),
    "a secret": lambda call: replace(call, secrets={"OTHER": "value"}),
    "a host": lambda call: replace(call, salt="of another host"),
    "a checkout": lambda call: replace(call, checkout=Path("/elsewhere")),
}


@pytest.mark.parametrize("what", sorted(INPUTS))
def test_another_input_is_resolved_anew(resolving: Resolving, what: str) -> None:
    resolving.of(resolving.call)
    assert resolving.of(INPUTS[what](resolving.call))[1] == 1
    assert resolving.of(resolving.call)[1] == 0


def test_another_compose_resolves_anew(resolving: Resolving, tmp_path: Path) -> None:
    own = Path(shutil.copy(resolving.binary, tmp_path / "docker-compose"))
    upgraded = Resolving(tmp_path / "upgraded", own)
    upgraded.of(upgraded.call)
    shutil.copy(resolving.binary, tmp_path / "new")
    (tmp_path / "new").replace(own)
    assert upgraded.of(upgraded.call)[1] == 1


def test_a_model_with_a_secret_in_it_is_not_kept(resolving: Resolving) -> None:
    secret = replace(resolving.call, secrets={"PASSWORD": "s3cr$t"}, hidden=())
    for _ in range(2):
        found, took = resolving.of(secret)
        assert (found["command"], took) == (["s3cr$$t"], 1)
    elsewhere = replace(resolving.call, secrets={"OTHER": "s3cr$t"})
    assert [resolving.of(elsewhere)[1] for _ in range(2)] == [1, 0]
    for more in ({"sealed": (("x.secret.env", "0"),)}, {"env_files": frozenset({("x", False)})}):
        files = replace(resolving.call, stack=replace(resolving.call.stack, **more))
        assert [resolving.of(files)[1] for _ in range(2)] == [1, 1]


def test_what_cannot_be_resolved_is_asked_again(resolving: Resolving) -> None:
    resolving.call.file.write_text("services: {app: {}}")
    for _ in range(2):
        with pytest.raises(CommitdError):
            resolving.of(resolving.call)
    assert resolving.processes == 2
