"""One host of the fleet: its configuration, its state, and the agent as people start it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests import schemas
from tests.sandbox import agent
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.sandbox import GitServer, Sandbox


_SYSTEM_PATH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Host:
    """A host called `name` with its own state; `settings` override the configuration's defaults.

    SOPS runs as the pinned binary unless `settings` say otherwise.
    """

    def __init__(
        self,
        box: Sandbox,
        name: str = "media",
        *,
        remotes: Sequence[GitServer] | None = None,
        **settings: Any,
    ) -> None:
        self.box = box
        self.root = Path(tempfile.mkdtemp(prefix=f"host-{name}-", dir=box.root))
        self.config_path = self.root / "config.yaml"
        self.state = self.root / "state"
        self.repo = self.state / "repo"
        self.git_dir = self.state / "git"
        servers = (box.gitea, box.github) if remotes is None else remotes
        self.config: dict[str, Any] = {
            "host": name,
            "remotes": [server.remote_config(poll="1s") for server in servers],
            "secrets": {
                "age_key": str(box.age.private),
                "sops": {"binary": str(box.sops), "sha256": box.sops_sha256},
            },
            "docker": {"socket": box.engine.host},
            "undeclared": {"stop_timeout": "1s"},
            "converge": {"steady": "200ms"},
            "state_dir": str(self.state),
            "runtime_dir": str(self.root / "run"),
            **settings,
        }
        self.path = [str(box.compose.parent), *_SYSTEM_PATH]
        self.constants: Mapping[str, float | str] = {}
        """Of the agent, by their full names: for what would be waited for in full."""
        self.write_config()

    def write_config(self) -> None:
        """Put `config` on disk."""
        self.config_path.write_text(yaml.safe_dump(self.config))

    @property
    def environment(self) -> dict[str, str]:
        """What the agent's process gets: PATH with the sandbox's Compose, and little else."""
        return {
            "PATH": ":".join(self.path),
            "HOME": os.environ["HOME"],
            "LC_ALL": "C.UTF-8",
            "COMMITD_CONFIG": str(self.config_path),
        }

    def commitd(
        self,
        *words: str,
        stdin: str = "",
        check: bool = False,
        timeout_s: float = 240,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run one verb to its end."""
        env = self.environment | environment
        result = agent.run(
            self.box, words, env=env, stdin=stdin, timeout_s=timeout_s, constants=self.constants
        )
        if check:
            result.check_returncode()
        return result

    def start(self, *words: str) -> agent.Process:
        """Start one verb whose words nobody reads."""
        return agent.start(self.box, words, env=self.environment, constants=self.constants)

    def once(self) -> subprocess.CompletedProcess[str]:
        """One cycle."""
        return self.commitd("once")

    def ask(self, request: str = "GET /v1/status") -> tuple[int, str]:
        """The status code and the body of an answer of the API."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(Path(self.config["runtime_dir"], "commitd.sock")))
            client.sendall(f"{request} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    @contextlib.contextmanager
    def listening(self, last: str = "") -> Iterator[Iterator[dict[str, Any]]]:
        """The events of the API, each with its `id`, its `event` and its `data`."""
        with socket.socket(socket.AF_UNIX) as client, client.makefile() as lines:
            client.settimeout(60)
            client.connect(str(Path(self.config["runtime_dir"], "commitd.sock")))
            more = f"Last-Event-ID: {last}\r\n" if last else ""
            client.sendall(f"GET /v1/events HTTP/1.0\r\n{more}\r\n".encode())
            while next(lines) != ":\n":  # the stream has begun
                pass
            yield _events(lines)

    def json(self, *words: str) -> Any:
        """The JSON answer of a verb, checked against its published schema."""
        result = self.commitd(*words, "--json")
        if result.returncode != 0:
            raise AssertionError(f"commitd {' '.join(words)}: {result.stderr}")
        answer = json.loads(result.stdout)
        if schemas.published(words[0]) and (faults := schemas.faults(answer, words[0])):
            raise AssertionError(f"commitd {' '.join(words)} breaks its word: {faults}")
        return answer

    def enroll(self) -> None:
        """Agree to removals."""
        self.commitd("enroll", "--yes", check=True)

    @contextlib.contextmanager
    def running(self, **environment: str) -> Iterator[RunningAgent]:
        """The daemon, ended when the block ends."""
        log = self.root / "agent.log"
        with log.open("ab") as out:
            begin = out.tell()  # what another one said before it says nothing of this one
            process = agent.start(
                self.box,
                ("run", "--verbose"),
                env=self.environment | environment,
                stdout=out,
                stderr=out,
                constants=self.constants,
            )
        running = RunningAgent(process, log, begin)
        try:
            yield running
        except BaseException:
            print(f"the agent has said:\n{running.log[-20_000:]}")
            raise
        finally:
            running.end()


class RunningAgent:
    """A daemon and its log, which begins at this byte of the file."""

    def __init__(self, process: agent.Process, log: Path, begin: int) -> None:
        self.process = process
        self._log = log
        self._begin = begin

    @property
    def log(self) -> str:
        """Everything it has said."""
        with self._log.open("rb") as log:
            log.seek(self._begin)
            return log.read().decode(errors="replace")

    def says(self, text: str, *, timeout_s: float = 60) -> None:
        """Wait until the log holds `text`; fails with the log if the agent ends first."""
        wait_until(
            lambda: text in self.log or self.process.poll() is not None,
            what=f"the agent to say {text!r} (see {self._log})",
            seconds=timeout_s,
        )
        if text not in self.log:
            raise AssertionError(f"the agent ended before it said {text!r}:\n{self.log[-4000:]}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    for line in lines:
        key, _, value = line.rstrip("\n").partition(": ")
        if event and not key:
            yield event | {"data": json.loads(event["data"])}
            event = {}
        elif value:
            event[key] = value
