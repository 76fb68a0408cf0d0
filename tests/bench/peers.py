"""Other agents beside commitd, doing the same: what anyone has built of doco-cd and composeflux.

`DOCO_CD=` and `COMPOSEFLUX=` name their binaries, which are set up as their documentation says; one
that is not named is left out. Each in turn is started on an empty engine, with twenty stacks in a
repository over SSH that it polls every ten seconds, the least that doco-cd takes. Counted from the
start of its process to the last container's `start` event; then idle; then one changed stack, from
the push to its `start` event, the wait for the poll included; then a container that is stopped by
hand, from its `die` event until one runs.

Memory is that of all its processes. At its peak it is looked at in a start of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import hand_stopped, stacks
from tests.bench.by_hand import events
from tests.bench.figures import Figure
from tests.bench.processes import Meter, looking, share_mb
from tests.sandbox import Sandbox, SandboxError, Workspace
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STACKS = 20
CHANGES = 3
STOPS = 3
POLL_S = 10
IDLE_S = 20.0
SETTLE_S = 3.0
PATIENCE_S = 90.0
NAMED_BY = {"doco-cd": "DOCO_CD", "composeflux": "COMPOSEFLUX"}


_Command = tuple[list[str], dict[str, str]]
_Adapter = Callable[..., _Command]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Took:
    """What one agent needed; times in seconds, memory in MB."""

    first_s: float
    first_cpu_s: float
    peak_mb: float
    idle_mb: float
    idle_cpu_s: float
    changed_s: list[float]
    back_s: list[float]


def main() -> list[Figure]:
    found = {name: os.environ.get(variable, "") for name, variable in NAMED_BY.items()}
    if not any(found.values()):
        return [_hint(name) for name in found]
    with Sandbox() as box:
        image = box.images.build("idle", "1.0")
        box.engine.pull(image)
        scene = _Scene(box, image)
        ours = scene.play("commitd", _commitd)
        figures = []
        for name, program in found.items():
            if not program:
                figures.append(_hint(name))
                continue
            try:
                theirs = scene.play(name, _ADAPTERS[name], Path(program).resolve())
            except (SandboxError, OSError) as error:  # the others have figures to show
                figures.append(_missing(name, f"failed: {error}"))
            else:
                figures += _rows(name, ours, theirs)
    return figures


def _hint(name: str) -> Figure:
    return _missing(name, f"name it: {NAMED_BY[name]}=")


def _missing(name: str, why: str) -> Figure:
    return Figure(what=f"beside {name}", measured="", against=why)


class _Scene:
    """The same work for each, on an engine that is emptied before."""

    def __init__(self, box: Sandbox, image: str) -> None:
        self._box, self._image = box, image
        self._work = Workspace(box)
        self._names = stacks.declare(self._work, image, STACKS)
        self._turn = 0

    def play(self, name: str, adapter: _Adapter, *program: Path) -> _Took:
        """Two starts on an empty engine: one that is looked at, one that is timed and goes on."""
        looked_at = self._started(f"{name}-1", adapter, *program)
        with looked_at as (meter, began), looking(meter) as looks:
            self._deployed(began)
        with self._started(f"{name}-2", adapter, *program) as (meter, began):
            first_s, first_cpu_s = self._deployed(began), meter.cpu_s()
            time.sleep(SETTLE_S)
            before, since = meter.cpu_s(), time.monotonic()
            time.sleep(IDLE_S)
            idle_cpu_s = (meter.cpu_s() - before) / (time.monotonic() - since)
            idle_mb = share_mb(meter.pids())
            changed = [self._changed() for _ in range(CHANGES)]
            time.sleep(SETTLE_S)
            back = [hand_stopped.stopped(self._box.engine, self._names[0]) for _ in range(STOPS)]
        return _Took(
            first_s=first_s,
            first_cpu_s=first_cpu_s,
            peak_mb=looks.peak_mb,
            idle_mb=idle_mb,
            idle_cpu_s=idle_cpu_s,
            changed_s=changed,
            back_s=back,
        )

    @contextlib.contextmanager
    def _started(
        self, name: str, adapter: _Adapter, *program: Path
    ) -> Iterator[tuple[Meter, float]]:
        """Its process, with its meter and the moment when it began."""
        self._box.engine.remove_everything()
        root = self._box.root / f"peer-{name}"
        root.mkdir()
        argv, environment = adapter(self._box, root, *program)
        with (root / "log").open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", 'read -r _; exec "$@" < /dev/null', "sh", *argv],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                cwd=Path(__file__).parents[2],
            )
        try:
            meter = Meter(f"peer-{name}", [process.pid])
            assert process.stdin is not None
            began = time.time()
            process.stdin.write(b"\n")
            process.stdin.close()
            yield meter, began
        except BaseException:
            print(f"{name} has said:\n{(root / 'log').read_text(errors='replace')[-4000:]}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _deployed(self, began: float) -> float:
        """Wait until every stack was started; seconds until the last one was."""

        def look() -> dict[str, float]:
            return {name: at for _, name, at in events(self._box.engine, began, "start")}

        wait_until(
            lambda: set(self._names) <= look().keys(),
            what="every stack to be started",
            seconds=PATIENCE_S,
        )
        return max(look().values()) - began

    def _changed(self) -> float:
        """Change one stack; seconds from the push until it is started anew."""
        self._turn += 1
        name = self._names[STACKS // 2]
        text = stacks.compose(self._image, self._turn)
        self._work.write({f"stacks/{name}/compose.yaml": text})
        self._work.commit(f"turn {self._turn}")
        self._work.push()
        pushed = time.time()
        found: list[float] = []

        def look() -> bool:
            told = events(self._box.engine, pushed, "start")
            found[:] = [at for _, project, at in told if project == name]
            return bool(found)

        wait_until(look, what=f"{name} to be changed", seconds=PATIENCE_S)
        time.sleep(SETTLE_S)
        return found[0] - pushed


def _commitd(box: Sandbox, _root: Path) -> _Command:
    """An enrolled host with one remote."""
    host = stacks.host(box)
    host.config["remotes"] = [box.gitea.remote_config(poll=f"{POLL_S}s")]
    host.write_config()
    return [sys.executable, "-m", "agent", "run"], host.environment


def _doco_cd(box: Sandbox, root: Path, program: Path) -> _Command:
    """By its documentation: a poll with an inline deployment that discovers the stacks."""
    deployment = {
        "working_dir": "stacks",
        "auto_discovery": {"enabled": True, "depth": 1},
        "reconciliation": {"enabled": True, "events": ["die", "destroy", "unhealthy"]},
    }
    poll = {
        "url": box.gitea.url,
        "reference": "main",
        "interval": POLL_S,
        "deployments": [deployment],
    }
    (root / "poll.yaml").write_text(json.dumps([poll]))
    (root / "data").mkdir()
    return [str(program)], _environment(box, root) | {
        "SSH_PRIVATE_KEY_FILE": str(box.gitea.ssh_key),
        "POLL_CONFIG_FILE": str(root / "poll.yaml"),
        "DATA_HOST_PATH": str(root / "data"),
        "DATA_MOUNT_PATH": str(root / "data"),
        "DOCKER_SWARM_FEATURES": "false",
        "HTTP_PORT": "18080",
        "METRICS_PORT": "19120",
        "TMPDIR": str(root),
    }


def _composeflux(box: Sandbox, root: Path, program: Path) -> _Command:
    """By its documentation; its health loop is off unless it is given an interval."""
    return [str(program), "run"], _environment(box, root) | {
        "GIT_REPO_URL": box.gitea.url,
        "GIT_SSH_KEY_PATH": str(box.gitea.ssh_key),
        "GIT_CLONE_PATH": str(root / "clone"),
        "GIT_INTERVAL": f"{POLL_S}s",
        "HEALTH_RECONCILE_INTERVAL": f"{POLL_S}s",
        "STACK_PATH": "stacks",
        "PRUNE_INTERVAL": "0",
        "SSH_KNOWN_HOSTS": str(box.gitea.known_hosts),
    }


def _environment(box: Sandbox, root: Path) -> dict[str, str]:
    path = f"{box.compose.parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": str(root), "DOCKER_HOST": box.engine.host}


_ADAPTERS: Mapping[str, _Adapter] = {"doco-cd": _doco_cd, "composeflux": _composeflux}


def _rows(name: str, ours: _Took, theirs: _Took) -> list[Figure]:
    def row(what: str, unit: str, our: Sequence[float], their: Sequence[float]) -> Figure:
        own, other = statistics.median(our), statistics.median(their)
        return Figure(
            what=what,
            measured=f"{own:.2f} {unit}",
            against=f"{name} {other:.2f} {unit}",
            ratio=f"{own / other:.2f}" if other else "",
            numbers={"commitd": our, name: their},
        )

    return [
        row(f"beside {name}: first deploy of {STACKS}, from its start",
            "s", [ours.first_s], [theirs.first_s]),
        row("  CPU time", "CPU-s", [ours.first_cpu_s], [theirs.first_cpu_s]),
        row("  memory at its peak (PSS)", "MB", [ours.peak_mb], [theirs.peak_mb]),
        row("  idle: memory (PSS)", "MB", [ours.idle_mb], [theirs.idle_mb]),
        row(f"  idle: CPU a minute, a poll every {POLL_S} s",
            "CPU-s", [ours.idle_cpu_s * 60], [theirs.idle_cpu_s * 60]),
        row("  one stack changed, poll included", "s", ours.changed_s, theirs.changed_s),
        row("  hand-stopped container back", "s", ours.back_s, theirs.back_s),
    ]  # fmt: skip
