"""The real Compose as the agent runs it, for what it does without an engine."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from agent.adapters import process
from agent.adapters.compose import go_runtime, locate
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.domain.errors import CommitdError
from tests.sandbox import packaged
from tests.unit.builders import stack
from tests.values import replace


@pytest.fixture
def compose() -> Compose:
    return Compose(packaged("compose", "docker-compose"), "unix:///nobody/is/here.sock", 60)


def call(root: Path, text: str) -> Invocation:
    declared = stack("web")
    (root / declared.compose).parent.mkdir(parents=True, exist_ok=True)
    (root / declared.compose).write_text(text)
    return Invocation(stack=declared, root=root)


def test_no_variable_of_the_agent_reaches_a_stack(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "caught")
    text = "services: {app: {image: 'a:${CANARY:-clean}'}}"
    found = anyio.run(compose.resolve, call(tmp_path, text))
    assert found.model["services"]["app"]["image"] == "a:clean"


@pytest.mark.parametrize(
    "more", ["bogus: 1", "env_file: a.env", "extends: {file: ../b.yaml, service: b}"]
)
def test_what_is_wrong_is_told_of_a_file_as_git_calls_it(
    compose: Compose, tmp_path: Path, more: str
) -> None:
    text = f"services:\n  app:\n    image: a\n    {more}\n"
    invocation = replace(call(tmp_path / "export", text), checkout=tmp_path / "repo")
    with pytest.raises(CommitdError) as caught:
        anyio.run(compose.resolve, invocation)
    assert "stacks/" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@contextmanager
def listening(callers: list[object]) -> Iterator[int]:
    """A port that notes who connects, and parts at once."""

    class Note(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            callers.append(self.client_address)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Note) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("scheme", ["oci", "https"])
def test_compose_itself_fetches_no_include_from_elsewhere(
    compose: Compose, tmp_path: Path, scheme: str
) -> None:
    """Such a file is refused before; should one get through, Compose has no loader for it."""
    callers: list[object] = []
    with listening(callers) as port:
        url = f"{scheme}://127.0.0.1:{port}/fleet.git"
        with pytest.raises(CommitdError):
            anyio.run(compose.resolve, call(tmp_path, f"include: ['{url}']"))
        assert callers == []


GO = "services: {app: {image: 'a:${GOGC-unset}-${GOMAXPROCS-unset}'}}"


def test_a_stack_that_names_variables_of_the_go_runtime_gets_its_own_or_none(
    compose: Compose, tmp_path: Path
) -> None:
    named = call(tmp_path / "named", GO)
    included = call(tmp_path / "included", "include: [other.yaml]")
    (included.file.parent / "other.yaml").write_text(GO)
    other = ("stacks/web/other.yaml", "0" * 40)
    included = replace(included, stack=replace(included.stack, inputs=(other,)))
    value = call(tmp_path / "value", "services: {app: {image: 'a:${X}'}}")
    (value.file.parent / ".env").write_text("X=${GOGC-unset}-unset")
    value = replace(value, env_files=(value.file.parent / ".env",))
    for each in (named, included, value):
        found = anyio.run(compose.resolve, each)
        assert found.model["services"]["app"]["image"] == "a:unset-unset"
    own = call(tmp_path / "own", GO)
    (own.file.parent / ".env").write_text("GOGC=50")
    own = replace(own, env_files=(own.file.parent / ".env",), secrets={"GOMAXPROCS": "2"})
    found = anyio.run(compose.resolve, own)
    assert found.model["services"]["app"]["image"] == "a:50-2"


def test_names_of_the_go_runtime_that_are_written_in_other_letters_are_seen(
    compose: Compose, tmp_path: Path
) -> None:
    escaped = call(tmp_path, r'services: {app: {image: "a:${\x47OGC-unset}"}}')
    found = anyio.run(compose.resolve, escaped)
    assert found.model["services"]["app"]["image"] == "a:unset"


def test_what_a_service_passes_on_and_nothing_sets_is_set_by_no_setting_of_compose_itself(
    tmp_path: Path,
) -> None:
    """Compose fills in what the model that it is given leaves open, from its own environment."""
    environments: list[dict[str, str]] = []
    program = packaged("compose", "docker-compose")
    compose = Compose(program, "unix:///nobody/is/here.sock", 60, _noting(environments))
    passes = call(tmp_path, "services: {app: {image: a, environment: [GOGC, GOMEMLIMIT]}}")
    found = anyio.run(compose.resolve, passes)
    assert found.model["services"]["app"]["environment"] == {"GOGC": None, "GOMEMLIMIT": None}
    anyio.run(compose.hashes, passes, found.model)
    assert len(environments) == 2
    assert not any(go_runtime.SETTINGS.keys() & each.keys() for each in environments)


def _noting(environments: list[dict[str, str]]) -> process.Run:
    async def run(argv: list[str], **how: object) -> process.Result:
        environments.append(dict(how["env"]))  # type: ignore[call-overload]
        return await process.run(argv, **how)  # type: ignore[arg-type]

    return run


def test_compose_runs_without_collecting_garbage_where_a_stack_does_not_name_that(
    tmp_path: Path,
) -> None:
    environments: list[dict[str, str]] = []
    program = packaged("compose", "docker-compose")
    compose = Compose(program, "unix:///nobody/is/here.sock", 60, _noting(environments))
    plain = call(tmp_path, "services: {app: {image: a}}")
    found = anyio.run(compose.resolve, plain)
    anyio.run(compose.hashes, plain, found.model)
    assert len(environments) == 2
    assert all(go_runtime.SETTINGS.items() <= each.items() for each in environments)
    assert not os.environ.keys() & go_runtime.SETTINGS.keys()


def test_the_question_for_its_version_collects_no_garbage_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker-compose"
    program.write_text('#!/bin/sh\necho "$GOGC $GOMAXPROCS"')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert anyio.run(locate.versions)[program] == "off 1"
