"""docs/reference/openapi.yaml is what the agent answers, asked with what is right and wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR, SHUT_WR, socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import Fleet

_REFERENCE = Path(__file__).parents[2] / "docs/reference"
_STREAM = "events"
_EXAMPLES = 3
"""For each path beside those that its description leads to; about half a minute for all."""


@contextmanager
def _relayed(path: Path) -> Iterator[str]:
    """The socket at ``path`` by TCP, which is all that the program speaks."""
    with socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        accepting = threading.Thread(target=_accept, args=(listener, path))
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(SHUT_RDWR)
        accepting.join()


def _accept(listener: socket, path: Path) -> None:
    with suppress(OSError):  # closed: the test is over
        while True:
            client = listener.accept()[0]
            threading.Thread(target=_relay, args=(client, path), daemon=True).start()
            del client


def _relay(client: socket, path: Path) -> None:
    with client, socket(AF_UNIX) as server:
        server.connect(str(path))
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(source: socket, target: socket) -> None:
    with suppress(OSError):
        while said := source.recv(65536):
            target.sendall(said)
    with suppress(OSError):
        target.shutdown(SHUT_WR)


def test_the_agent_answers_as_its_description_promises(fleet: Fleet, tmp_path: Path) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    program = Path(sys.executable).with_name("schemathesis")
    with host.running() as agent:
        agent.says("in sync with")
        with _relayed(Path(host.config["runtime_dir"], "commitd.sock")) as url:
            done = subprocess.run(
                [
                    program, "run", _REFERENCE / "openapi.yaml", "--url", url,
                    "--exclude-operation-id", _STREAM, "--phases", "examples,coverage,fuzzing",
                    "--max-examples", str(_EXAMPLES), "--seed", "1", "--no-shrink",
                    "--suppress-health-check", "all", "--request-timeout", "60",
                ],
                cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert "Traceback" not in agent.log
        assert "unexpected" not in agent.log
