"""What people do without an agent: `deploy.sh` as cron runs it, Compose by hand.

The sandbox has no plugin for the docker command line, but Compose's binary is one: it is linked to
where `docker compose` looks for it.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.bench.processes import Looks, Meter, looking
from tests.sandbox.process import SandboxError, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.sandbox import Engine, Sandbox

PLUGIN, BINARY = "docker compose", "docker-compose"

_DEPLOY_SH = """\
set -eu
cd {clone}
git fetch --quiet origin main
git reset --quiet --hard origin/main
{compose} ls > /dev/null
for stack in $(sed 's/^- //' host/media/stacks.yaml); do
    (cd "stacks/$stack" && {compose} pull --quiet && {compose} up --detach)
done
"""
PATIENCE_S = 200.0


@dataclass(frozen=True, slots=True)
class Run:
    """One command: when it began, by the clock, and what it took with all its children.

    `looks` is what was seen of them meanwhile, where somebody looked.
    """

    began: float
    wall_s: float
    cpu_s: float
    looks: Looks | None = None


class ByHand:
    """A clone of the repository over SSH, and commands in it against the sandbox's engine."""

    def __init__(self, box: Sandbox) -> None:
        self._engine = box.engine
        self._runs = 0
        plugins = box.root / "docker-config" / "cli-plugins"
        plugins.mkdir(parents=True)
        (plugins / BINARY).symlink_to(box.compose)
        path = [str(box.compose.parent), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        ssh = ["ssh", "-F", "/dev/null", "-i", box.gitea.ssh_key, "-o", "IdentitiesOnly=yes"]
        ssh += ["-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={box.gitea.known_hosts}"]
        self.environment = {
            "PATH": ":".join(path),
            "HOME": os.environ["HOME"],
            "DOCKER_HOST": box.engine.host,
            "DOCKER_CONFIG": str(plugins.parent),
            "GIT_SSH_COMMAND": shlex.join(map(str, ssh)),
        }
        self.clone = box.root / "by-hand"
        url = box.gitea.url
        run(["git", "clone", "--quiet", url, self.clone], env=self.environment)

    def deploy_sh(self, compose: str = PLUGIN, *, looks: bool = False) -> Run:
        """The classic script, once."""
        return self.run(["sh", "-c", self.script(compose)], looks=looks)

    def script(self, compose: str = PLUGIN) -> str:
        """Its text."""
        return _DEPLOY_SH.format(clone=self.clone, compose=compose)

    def xargs(self, stacks: Sequence[str], at_once: int, *, looks: bool = False) -> Run:
        """All stacks side by side, `at_once` at a time."""
        one = [BINARY, "--project-name", "{}", "--file", f"{self.clone}/stacks/{{}}/compose.yaml"]
        words = ["xargs", "-P", str(at_once), "-I", "{}", *one, "up", "--detach"]
        script = f"printf '%s\\n' {' '.join(stacks)} | {shlex.join(words)}"
        return self.run(["sh", "-c", script], looks=looks)

    def up(self, project: str, file: Path) -> Run:
        """One stack."""
        return self.run([BINARY, "--project-name", project, "--file", str(file), "up", "--detach"])

    def run(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        looks: bool = False,
    ) -> Run:
        """Run a command, counted from its first moment. Raises SandboxError when it fails.

        With `looks` its processes are looked at all the time, which makes it slower.
        """
        self._runs += 1
        log = self.clone.with_name(f"by-hand-{self._runs}.log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", 'read -r _; exec "$@" < /dev/null', "sh", *argv],
                env=environment or self.environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                cwd=Path(__file__).parents[2],
            )
            try:
                meter = Meter(f"by-hand-{self._runs}", [process.pid])
                before, began, at = meter.cpu_s(), time.monotonic(), time.time()
                with looking(meter) if looks else nullcontext() as seen:
                    _let_run(process)
            finally:
                process.kill()
        wall_s = time.monotonic() - began
        if process.returncode != 0:
            raise SandboxError(f"{argv[0]} exited {process.returncode}: {log.read_text()[-2000:]}")
        return Run(at, wall_s, meter.cpu_s() - before, seen)


def _let_run(process: subprocess.Popen[bytes]) -> None:
    """Until it ends. Not by a wait with a timeout, which asks every 50 ms whether it has ended."""
    descriptor = os.pidfd_open(process.pid)
    try:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.close()
        if not select.select([descriptor], [], [], PATIENCE_S)[0]:
            raise SandboxError(f"{process.args!r} runs for more than {PATIENCE_S:g} s")
    finally:
        os.close(descriptor)
    process.wait()


def events(engine: Engine, since: float, *kinds: str) -> list[tuple[str, str, float]]:
    """Kind, project and time of the containers' events, by the engine's clock.

    The engine remembers the last 256 of all kinds.
    """
    filters = quote(json.dumps({"type": ["container"], "event": kinds}))
    path = f"/events?since={since:.9f}&until={time.time():.9f}&filters={filters}"
    told: list[dict[str, Any]] = [*map(json.loads, engine._request("GET", path).splitlines())]
    return [
        (
            event["Action"],
            event["Actor"]["Attributes"].get("com.docker.compose.project", ""),
            event["timeNano"] / 1e9,
        )
        for event in told
    ]
