"""Looks at the agent: its service, its socket, its version, and what the installed one would do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import agent
from agent.adapters.host import api_socket, lock, programs, services, sight
from agent.adapters.state import older
from agent.adapters.state.database import DamagedError
from agent.adapters.state.journal import open_journal, worked_before
from agent.control.doctor import named_files
from agent.control.review import plan_view
from agent.control.status import on_trial
from agent.domain.config import Config
from agent.domain.doctor import running, unit
from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning
from agent.domain.errors import CommitdError, ConfigError, DeniedError, TransientError
from agent.domain.outcome import Reason
from agent.domain.status.unit import NAME

PLAN_S = 180.0
_USUAL = Path("/run/commitd")
_SHOWN = 10


def installed() -> str:
    """The version of this program."""
    return metadata.version("commitd")


def service(config: Config | None) -> Iterator[Finding]:
    """The agent's unit and Docker's, and what loosens the agent's."""
    seen = services.look(NAME)
    yield from unit.agent_service(seen.service if seen else None)
    docker = services.look("docker.service")
    yield unit.docker_service(docker.service if docker else None)
    if seen is None or seen.service.load != "loaded":
        return
    lines: list[unit.Line] = []
    for path in seen.files:
        try:
            lines += unit.lines(str(path), services.text(path))
        except OSError as err:
            yield unknown(Code.UNIT_DROP_IN, f"{path}: {err.strerror}", "sudo commitd doctor")
    dirs = ("state_dir", "runtime_dir") if config else ()
    written = [(name, str(getattr(config, name))) for name in dirs]
    if config:
        yield from unit.memory(lines, config.converge.parallel)
        yield from unit.beyond_reach(lines, named_files.all_of(config), written)
    found = unit.loosened(lines, [path for _, path in written])
    yield from found
    if not found:
        names = ", ".join(map(str, seen.files))
        yield ok(Code.UNIT_DROP_IN, f"nothing loosens the unit ({names})")


def agent_process(config: Config | None) -> tuple[int | None, bool]:
    """The process of the agent, and whether this user can see that."""
    with suppress(TransientError):
        if (seen := services.look(NAME)) and seen.process:
            return seen.process, True
    try:
        return lock.running_agent(config or Config(host="", remotes=())), True
    except DeniedError:
        return None, False


def agent_runs(config: Config | None, *, start: str) -> Iterator[Finding]:
    """Whether it runs, and answers; ``start`` has one run."""
    process, known = agent_process(config)
    try:
        answer = api_socket.ask(config.runtime_dir if config else _USUAL, "GET", "/healthz")
    except OSError:
        answer = None
    if process is None and answer is None and not known:
        hint = "sudo commitd doctor, or join the group commitd"
        yield unknown(Code.AGENT, "this user may not see whether the agent runs", hint)
    else:
        may_ask = sight.passable(config.runtime_dir if config else _USUAL)
        yield running.agent(process, answers=answer is not None, may_ask=may_ask, start=start)


def trial() -> list[Finding]:
    """Whether a version of the agent is on trial, or was given up."""
    if found := on_trial.now():
        remedy = "commitd status shows what is not right yet; commitd rollback-agent goes back now"
        return [warning(Code.TRIAL, found.line, remedy)]
    beside = programs.here()
    given_up = beside.bad() if beside else []
    if not given_up:
        return [ok(Code.TRIAL, "no version of the agent is on trial, and none was given up")]
    last = given_up[-1]
    said = f"no version is on trial; {last.version} was given up at {last.at}: {last.why}"
    return [ok(Code.TRIAL, said)]


def journal(config: Config) -> list[Finding]:
    """Whether what the agent remembers can be read, by this version."""
    file = config.state_dir / "journal.db"
    try:
        with closing(open_journal(config)) as opened:
            opened.verify()
    except DeniedError:
        raise
    except TransientError as err:
        return [unknown(Code.JOURNAL, f"not looked at: {err.fact}", err.hint or "")]
    except ConfigError as err:
        if isinstance(err, DamagedError) or older.is_newer(file):
            return [problem(Code.JOURNAL, err.fact, err.hint or "")]
        if os.path.lexists(file):  # of an older version, which may be at work
            return [warning(Code.JOURNAL, err.fact, err.hint or "")]
        if worked_before(config):
            said = f"{file} was lost: what was agreed to and deployed here is not known any more"
            remedy = (
                "systemctl restart commitd: the agent begins a new one, and removes nothing until"
                " commitd enroll"
            )
            return [problem(Code.JOURNAL, said, remedy)]
        return [ok(Code.JOURNAL, f"no agent has worked here, so there is no {file} yet")]
    return [ok(Code.JOURNAL, f"{file} is whole")]


def agent_version(config: Config | None) -> Iterator[Finding]:
    """Whether the agent that runs is the one that is installed."""
    process, _ = agent_process(config)
    began = sight.began(process) if process else None
    changed = sight.changed(Path(agent.__file__).parent)
    yield running.version(installed(), began=began, changed=changed)


async def plan(config: Config) -> list[Finding]:
    """What the installed version would do to what runs, with the commit that is applied."""
    try:
        document = await plan_view.document(config, None)
    except DeniedError:
        raise
    except CommitdError as err:
        return [unknown(Code.PLAN, f"no plan could be made: {err.message}", err.hint or "")]
    return [*_planned(document)]


def _planned(document: Mapping[str, Any]) -> Iterator[Finding]:
    where = f"with {installed()} at {document['revision'][:7]}"
    changes = [*map(_deploy, document["deploys"])]
    changes += [f"{each['stack']} would be taken down" for each in document["removals"]]
    changes += [f"{each['name']} would be evicted" for each in document["evictions"]]
    remedy = "commitd plan shows why; it is done in the next cycle unless it is held"
    for change in changes[:_SHOWN]:
        yield warning(Code.PLAN, f"{where}: {change}", remedy)
    if len(changes) > _SHOWN:
        yield warning(Code.PLAN, f"{where}: {len(changes) - _SHOWN} more changes", remedy)
    for hold in document["holds"]:
        if hold["needs_person"] and hold["reason"] != Reason.OTHER_MACHINE:
            said = f"{hold['subject']} waits for a person: {hold['message']}"
            yield warning(Code.PLAN, said, "commitd status has the command")
    if not changes:
        yield ok(Code.PLAN, f"{where} nothing that runs would be changed")


def _deploy(deploy: Mapping[str, Any]) -> str:
    touched = [f"{s['action']} {s['name']}" for s in deploy["services"] if s["action"] != "none"]
    named = f" ({', '.join(touched)})" if touched else ""
    return f"{deploy['stack']} would be deployed{named}: {deploy['message']}"


def machine(config: Config) -> list[Finding]:
    """Whether the keys are those of this machine, and not of one that it was cloned from."""
    from agent.adapters.host import identity_file  # noqa: PLC0415  beside its only use

    if (noted := identity_file.of_another_machine(config)) is None:
        if found := identity_file.unreadable(config):
            return [_unreadable(*found)]
        if identity_file.this_machine() is None:
            said = "this machine has no number (/etc/machine-id), so a clone cannot be told"
            return [warning(Code.IDENTITY, said, "systemd-machine-id-setup")]
        return [ok(Code.IDENTITY, "nothing says that the keys were made on another machine")]
    return [
        problem(
            Code.IDENTITY,
            f"the keys were made on another machine, as {noted.host}: this is a clone of it",
            "commitd setup --new-keys makes new ones; with --keep-keys they are kept",
        )
    ]


def _unreadable(path: Path, why: str | None) -> Finding:
    """A note beside the keys that does not say which machine they belong to."""
    if why is not None:
        said = f"{path} cannot be read ({why}): whether the keys are this machine's is not known"
        return unknown(Code.IDENTITY, said, "sudo commitd doctor" if os.geteuid() else "")
    said = f"{path} is no note of commitd's: a clone of this machine could not be told"
    remedy = "if the keys were made here: commitd setup writes it anew"
    return warning(Code.IDENTITY, said, remedy)
