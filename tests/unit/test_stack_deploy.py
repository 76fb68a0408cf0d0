"""Running ``docker stack deploy``: what it is given, and what it means that it failed."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import anyio
import pytest

from agent.adapters.process import Result
from agent.adapters.swarm import stack_deploy
from agent.adapters.swarm.stack_deploy import StackDeploy
from agent.domain.errors import (
    CommitdError,
    MissingError,
    PermanentError,
    TransientError,
    UnreachableError,
)

_HOST = "unix:///nobody/is/here.sock"


@pytest.fixture
def noting(tmp_path: Path) -> StackDeploy:
    """A program that writes down how it was run, and fails."""
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" >{tmp_path}/words\nenv >{tmp_path}/env\ncat >{tmp_path}/file\n'
        'echo "cannot do it for hunter2hunter2" >&2\nexit 1\n'
    )
    program.chmod(0o755)
    return StackDeploy(program, _HOST, 60)


def test_the_file_comes_by_standard_input_and_nothing_else_is_told(
    noting: StackDeploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "caught")
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere")
    with pytest.raises(TransientError) as caught:
        anyio.run(partial(noting.deploy, logins=True), "web", b"services: {}", ["hunter2hunter2"])
    assert "hunter2" not in str(caught.value)
    assert (tmp_path / "file").read_bytes() == b"services: {}"
    words = (tmp_path / "words").read_text().split("\n")[:-1]
    assert words == [
        *("--host", _HOST, "stack", "deploy", "--with-registry-auth", "--resolve-image", "never"),
        *("--compose-file", "-", "web"),
    ]
    given = {line.partition("=")[0] for line in (tmp_path / "env").read_text().split("\n")}
    assert not given & {"CANARY", "DOCKER_HOST"}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("service app: Unknown mode: replicated-job", PermanentError),
        ("services.app Additional property x is not allowed", PermanentError),
        ("failed to create service web_app: rpc error: code = Unavailable", TransientError),
        ("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?",
         UnreachableError),
        ("", TransientError),
    ],
)  # fmt: skip
def test_only_what_it_says_of_the_file_is_for_good(said: str, kind: type[CommitdError]) -> None:
    found = stack_deploy._meaning(Result(1, b"", said.encode()), ())
    assert type(found) is kind
    assert found.message


def test_without_the_command_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_deploy, "_PLACES", ())
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(MissingError, match="docker") as caught:
        anyio.run(stack_deploy.find, _HOST, 60.0)
    assert "docker-cli" in (caught.value.hint or "")
