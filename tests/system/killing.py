"""Killing the agent at an effect of one cycle, before or after the engine heard of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.sandbox import agent
from tests.sandbox.forkserver import ROOT
from tests.sandbox.process import descendants, freeze, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.sandbox import Sandbox
    from tests.sandbox.agent import Process
    from tests.sandbox.engine_proxy import EngineProxy, Request
    from tests.sandbox.host import Host

    Fatal = Callable[[int, Request], bool]


def once_until(
    host: Host, proxy: EngineProxy, fatal: Fatal | None, *, after: bool = False
) -> list[Request]:
    """One cycle, ended by SIGKILL at the first `fatal` effect; the effects up to there.

    The host reaches its engine by `proxy`. Fails if there was no such effect.
    """
    effects: list[Request] = []
    started, killed = threading.Event(), threading.Event()

    def hook(number: int, request: Request) -> None:
        started.wait()
        if not killed.is_set():
            effects.append(request)
            if not (fatal and fatal(number, request)):
                return
            kill(running)
            killed.set()
        raise ConnectionAbortedError  # also for what was on its way already

    proxy.on_effect(hook, after=after)
    running = host.start("once")
    started.set()
    running.wait(timeout=240)
    proxy.on_effect(None)
    assert killed.is_set() == bool(fatal), effects
    return effects


def kill(running: Process) -> None:
    """As systemd does it with the agent's unit: whatever the agent has started goes with it."""
    freeze(running.pid)  # or it could start one more meanwhile
    children = descendants(running.pid)
    for pid in (running.pid, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in children),
        what="the agent's children to be gone",
    )


def at(wanted: int) -> Fatal:
    """The effect with this number, counted from 1."""
    return lambda number, _: number == wanted


def nth(kind: str, count: int = 1) -> Fatal:
    """The effect of this kind that is the `count`-th of its kind."""
    seen: list[str] = []

    def fatal(_: int, request: Request) -> bool:
        seen.append(request.kind)
        return request.kind == kind and seen.count(kind) == count

    return fatal


_ON_FILES = """
import importlib, json, os, signal, sys
left, constants = int(sys.argv.pop(1)), json.loads(sys.argv.pop(1))
for name, value in constants.items():
    module, _, constant = name.rpartition(".")
    setattr(importlib.import_module(module), constant, value)
def fatal(effect):
    def done(*args, **more):
        global left
        found = effect(*args, **more)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
    return done
for name in ("link", "rename", "replace", "unlink", "rmdir"):
    setattr(os, name, fatal(getattr(os, name)))
from agent.__main__ import main
main()
"""


def after(
    number: int,
    words: Sequence[str],
    env: Mapping[str, str],
    *,
    box: Sandbox,
    constants: Mapping[str, float | str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """How a verb ends that is killed after so many changes of names of files; -9: it was.

    It runs on the same machine as those that `tests.sandbox.agent` starts.
    """
    given = json.dumps(agent.with_machine_id(box, constants))
    return subprocess.run(
        [sys.executable, "-c", _ON_FILES, str(number), given, *words],
        env={**env, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
