"""The real Compose as the agent runs it, for what it does without an engine."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.domain.errors import CommitdError
from tests.sandbox import packaged
from tests.unit.builders import stack


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
