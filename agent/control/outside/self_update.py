"""The version of the agent that a commit asks for, where the host's configuration allows it.

    declared ─▶ decided ─▶ fetched, its sum compared ─▶ unpacked ─▶ its --version asked for
      ─▶ activated, on trial (``packaging/lib/activate``) ─▶ this agent ends, and systemd starts it

Until the last step nothing of the host has changed. What does not work is said in ``status`` and
in the log, and is tried again: what may pass after a minute and later, what cannot when the entry
changes.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agent.adapters import process
from agent.adapters.guard import Guard
from agent.adapters.host import programs
from agent.adapters.host.programs import Programs
from agent.adapters.outside.download import download
from agent.adapters.state.journal import APPROVED_AGENT
from agent.adapters.tasks import task_group
from agent.control.outside.running import Running
from agent.domain.backoff import Backoff
from agent.domain.errors import CommitdError, HeldError, PermanentError, TransientError
from agent.domain.repository.agent_version import AgentVersion, fetchable
from agent.domain.status.verdict import State
from agent.domain.upgrade.request import Answer, Decision, decide

log = logging.getLogger("commitd.upgrade")

MOST = 256 * 1024**2
"""Bytes of a package; it has some 20 MB."""
FETCH_S = 900.0
_UNPACK_S = 300.0
_TRY_S = 60.0
_WAITS = Backoff(first_s=60.0, longest_s=3600.0)
_NAME = "agent"
_DIST = "usr/lib/commitd/dist"


@asynccontextmanager
async def updating(running: Running) -> AsyncIterator[None]:
    """Update while the block runs."""
    async with task_group() as group:
        update = partial(_update, running, Guard("updating the agent", log))
        group.start_soon(Guard("the update of the agent", log).until_done, update)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


async def _update(running: Running, guard: Guard) -> None:
    number, failures, due_at = 0, 0, 0.0
    handled: AgentVersion | None = None
    last: AgentVersion | None = None
    while True:
        standing = await running.standings.after(number, ended=True)
        number = standing.number
        wanted = declared(standing.facts.declared)
        if wanted is None:
            running.trouble.clear(_NAME)
            handled = None
            continue
        if wanted != last:
            last, failures, due_at = wanted, 0, 0.0
        if standing.verdict.state is State.WORKING or wanted == handled:
            continue
        if anyio.current_time() < due_at:
            continue
        try:
            if await _install(running, wanted):
                running.leave()
                return
        except HeldError as err:  # which costs nothing to ask again
            running.trouble.set(_NAME, str(err))
            guard.note(err)
        except TransientError as err:
            failures += 1
            due_at = anyio.current_time() + _WAITS.wait_s(failures)
            running.trouble.set(_NAME, str(err))
            guard.note(err)
        except CommitdError as err:
            handled, failures = wanted, 0
            running.trouble.set(_NAME, str(err))
            guard.note(err)
        else:
            failures = 0
            running.trouble.clear(_NAME)
            guard.recovered()


def declared(found: Mapping[str, Any] | None) -> AgentVersion | None:
    """The version that the applied commit asks for, as the journal has it."""
    said = (found or {}).get("agent")
    return AgentVersion(**said) if said else None


async def _install(running: Running, wanted: AgentVersion) -> bool:
    """Install it if it is to be; whether it was. Raises :class:`CommitdError`."""
    approved = await running.journal.get(APPROVED_AGENT)
    agreed = AgentVersion(**approved) if approved else None
    beside, decision = await anyio.to_thread.run_sync(_decided, wanted, agreed)
    if decision.answer is Answer.REFUSE:
        raise HeldError(f"agent: {decision.why}")
    if decision.answer is not Answer.INSTALL:
        return False
    log.info("agent: fetching version %s, which the commit asks for", wanted.version)
    incoming = beside.home / "incoming"
    try:
        await anyio.to_thread.run_sync(_empty, incoming)
        package = incoming / "package.deb"
        await download(
            wanted.url, package, wanted.sha256, most=MOST, within_s=FETCH_S, may_be=fetchable
        )
        tree = await _unpack(package, incoming / "tree", wanted)
        # It was for this once: the same entry, reverted in later, asks again.
        await running.journal.forget(APPROVED_AGENT)
        await _activate(beside, tree, wanted)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(shutil.rmtree, incoming, ignore_errors=True))
    log.info("agent: version %s is installed; it is started now, on trial", wanted.version)
    return True


def _decided(wanted: AgentVersion, approved: AgentVersion | None) -> tuple[Programs, Decision]:
    beside = programs.here()
    if beside is None:
        raise PermanentError(
            "self_update: this agent was not installed by the package, so no version is beside it"
        )
    return beside, decide(
        wanted,
        running=beside.version,
        on_trial=beside.trial() is not None,
        given_up=[(each.version, each.sha256, each.why) for each in beside.bad()],
        approved=approved,
    )


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    try:
        directory.mkdir(mode=0o700)
    except OSError as err:
        raise TransientError(
            f"the package cannot be unpacked: {err.strerror}", where=str(directory)
        ) from None


async def _unpack(package: Path, into: Path, wanted: AgentVersion) -> Path:
    """The tree of the agent in the package, which runs here and is of the version asked for."""
    await _run(["dpkg-deb", "--extract", str(package), str(into)], _UNPACK_S, "unpack the package")
    tree = into / _DIST
    said = await anyio.to_thread.run_sync(_version_of, tree)
    if said != wanted.version:
        raise PermanentError(f"the package is of {said or 'no version'}, not of {wanted.version}")
    python = [str(tree / "bin" / "python3"), "-I", "-B", "-m", "agent", "--version"]
    await _run(python, _TRY_S, "start the new version, so that it stays as it is")
    return tree


async def _activate(beside: Programs, tree: Path, wanted: AgentVersion) -> None:
    activate = [str(programs.LIB / "activate"), str(tree), wanted.sha256]
    await _run(activate, _UNPACK_S, f"install it beside {beside.version}")


async def _run(command: list[str], within_s: float, what: str) -> None:
    """Raises :class:`PermanentError` when it fails, :class:`TransientError` when it cannot run."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    result = await process.run(command, env=env, timeout_s=within_s, umask=0o022)
    if result.code != 0:
        lines = result.err.decode(errors="replace").strip().splitlines()
        raise PermanentError(f"agent: cannot {what}: {lines[-1] if lines else result.code}")


def _version_of(tree: Path) -> str | None:
    try:
        return (tree / "VERSION").read_text(errors="replace").strip()[:64]
    except OSError:
        return None
