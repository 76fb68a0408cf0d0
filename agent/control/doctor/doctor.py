"""All looks at this host, and what they found. See examination.py for how they are run."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent.adapters.engine import about
from agent.adapters.host import config_file, key_file
from agent.adapters.state.database import iso
from agent.control.doctor import access, host, remotes, running
from agent.control.doctor.examination import Check, examine, waiting
from agent.domain.config import Config
from agent.domain.doctor import choices
from agent.domain.doctor.finding import Code, Finding, document, ok, problem, unknown
from agent.domain.errors import CommitdError, ConfigError, DeniedError

CONFIG_S = 10.0


def look(path: Path) -> dict[str, Any]:
    """The document of ``doctor --json`` for the host whose configuration is at ``path``. Blocks."""
    read: list[Config] = []
    # Within the time of a look: the file may be a pipe, or on a disk that does not answer.
    found = examine(
        [Check(code=Code.CONFIG, look=partial(_configuration, path, read), limit_s=CONFIG_S)]
    )
    config = read[0] if read else None
    found += examine([*_checks(path, config)])
    return document(
        found,
        host=config.host if config else None,
        version=running.installed(),
        at=iso(datetime.now(UTC)),
    )


def _configuration(path: Path, read: list[Config]) -> list[Finding]:
    """Whether the configuration can be read; then it is put into ``read``."""
    try:
        config = config_file.load_config(path)
    except DeniedError as err:
        return [unknown(Code.CONFIG, f"{path}: {err.message}", "sudo commitd doctor")]
    except ConfigError as err:
        if not os.path.lexists(path):
            said = f"there is no {path}: this machine is no host yet"
            return [problem(Code.CONFIG, said, "commitd setup")]
        remedy = f"{err.hint}; " if err.hint else ""
        where = err.where or str(path)
        remedy += "docs/reference/configuration.md has all keys"
        return [problem(Code.CONFIG, f"{where}: {err.message}", remedy)]
    said = f"{path} is read: host {config.host}, on {platform.node()}"
    read.append(config)
    return [ok(Code.CONFIG, said)]


def _checks(path: Path, config: Config | None) -> Iterator[Check]:
    """What can be looked at; without a configuration only what does not hang on it."""
    yield waiting(Code.GIT, partial(host.tools, config), 60)
    yield Check(code=Code.UNIT, look=partial(running.service, config), limit_s=45)
    start = "systemctl start commitd" if config else "commitd setup --wait"
    blind = config is None and os.path.lexists(path)
    if blind:
        start = "mend the configuration, see config; then systemctl start commitd"
    agent_runs = partial(running.agent_runs, config, start=start)
    yield Check(code=Code.AGENT, look=agent_runs, limit_s=45)
    yield Check(code=Code.AGENT_VERSION, look=partial(running.agent_version, config), limit_s=45)
    yield Check(code=Code.TRIAL, look=running.trial)
    yield Check(code=Code.SPACE, look=host.journal_room)
    yield from _of_docker(config, blind=blind)
    if os.path.lexists(path):
        yield Check(code=Code.TRUST_FILE, look=partial(host.config_file, path))
    if config is None:
        return
    yield Check(code=Code.CONFIG, look=partial(_starts, config))
    yield Check(code=Code.CONFIG_CHOICE, look=partial(choices.judge, config))
    yield Check(code=Code.DIRECTORY, look=partial(host.own_directories, config))
    yield Check(code=Code.JOURNAL, look=partial(running.journal, config), limit_s=45)
    yield Check(code=Code.SPACE, look=partial(host.room, "state_dir", config.state_dir))
    yield Check(code=Code.SECRET_FILE, look=partial(host.files_of, config))
    yield Check(code=Code.IDENTITY, look=partial(running.machine, config))
    yield waiting(Code.CLOCK, partial(host.time_of_others, config), 45)
    for remote in config.remotes:
        if remote.scheme == "ssh":
            yield waiting(Code.HOST_KEY, partial(remotes.host_key, remote), 45)
        yield waiting(Code.REMOTE, partial(remotes.remote, config, remote), remotes.FETCH_S)
    yield Check(code=Code.AGE_KEY, look=partial(access.age_key, config))
    yield waiting(Code.SECRETS, partial(access.secrets, config), access.SECRETS_S)
    yield waiting(Code.REGISTRY, partial(access.registries, config), access.REGISTRIES_S)
    if config.commit_status:
        told = config.commit_status
        yield waiting(Code.FORGE_TOKEN, partial(access.forge_token, told), 45)
    yield waiting(Code.PLAN, partial(running.plan, config), running.PLAN_S)


def _of_docker(config: Config | None, *, blind: bool) -> Iterator[Check]:
    """The engine; ``blind``: there is a configuration that may name another socket than the usual
    one, and it cannot be read.
    """
    try:
        engine = host.docker_address(config)
    except CommitdError as err:
        found = problem(Code.DOCKER, err.message, err.hint or "")
        yield Check(code=Code.DOCKER, look=partial(_found, found))
        return
    usual = engine.removeprefix("unix://")
    if blind and not os.path.lexists(usual):
        said = f"not looked at: there is no {usual}, and the configuration may name another socket"
        found = unknown(Code.DOCKER, said, "mend the configuration, see config")
        yield Check(code=Code.DOCKER, look=partial(_found, found))
        return
    yield Check(code=Code.DOCKER_SOCKET, look=partial(host.socket, engine))
    # Longer than its answer may take: one that hangs is a problem, and said to be.
    mode = config.docker.mode if config else "host"
    yield waiting(Code.DOCKER, partial(host.docker, engine, mode), about.ANSWER_S + 15)
    if config and config.docker.mode == "swarm":
        from agent.control.doctor import swarm  # noqa: PLC0415  a host does without it

        yield waiting(Code.SWARM, partial(swarm.look, config), about.ANSWER_S + 15)


def _starts(config: Config) -> list[Finding]:
    """What would keep the agent from starting with this configuration, as it looks itself."""
    if config.secrets and key_file.is_credential(config.secrets):
        config = replace(config, secrets=None)  # only the service has its key
    try:
        config_file.check_files(config)
    except ConfigError as err:
        if os.geteuid() != 0:
            return [unknown(Code.CONFIG, f"not looked at: {err.message}", "sudo commitd doctor")]
        where = f"{err.where}: " if err.where else ""
        said = f"the agent does not start with this configuration: {where}{err.message}"
        return [problem(Code.CONFIG, said, err.hint or "mend it, or name another file")]
    return [ok(Code.CONFIG, "the agent can start with it: all files that it names can be used")]


def _found(finding: Finding) -> Iterable[Finding]:
    return (finding,)
