"""Looks at what this host may have: the plaintext of its secrets, its images, the forge's ear.

Secrets are decrypted in memory, and forgotten. Where SOPS is a container and an agent runs, that
would take the container for undeclared: then its own journal says what it has decrypted.
"""

from __future__ import annotations

import os
import pwd
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import anyio.to_thread
from msgspec.structs import replace

from agent.adapters.clone.registry import Registries
from agent.adapters.engine import images
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.engine.engine import AbsentError, Engine
from agent.adapters.host import directories, key_file, lock
from agent.adapters.outside import forge
from agent.adapters.secrets import age_key as recipients
from agent.adapters.secrets import sops
from agent.adapters.state.journal import open_journal
from agent.control.doctor import declared
from agent.control.doctor.declared import Declared
from agent.control.secrets import wanted
from agent.domain.config import Config
from agent.domain.doctor import access
from agent.domain.doctor.access import Unusable
from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown
from agent.domain.errors import BusyError, CommitdError, ConfigError, DeniedError, UnreachableError
from agent.domain.outside_config import CommitStatus
from agent.domain.repository import image_reference
from agent.domain.repository.image_reference import Reference

SECRETS_S = 180.0
REGISTRIES_S = 120.0
_MOST_IMAGES = 100


async def secrets(config: Config) -> list[Finding]:
    """Whether each secret of this host decrypts, without writing any of it anywhere."""
    found = await declared.read(config)
    unread = [*access.unread(found.desired.list_faults, found.desired.broken)]
    return [*unread, *await _secrets(config, found, whole=not unread)]


async def _secrets(config: Config, found: Declared, *, whole: bool) -> list[Finding]:
    needed = wanted.needed(found.desired)
    if not needed:
        return [*access.secrets({}, 0, "")] if whole else []
    if config.secrets is None:
        return [
            problem(
                Code.SECRETS,
                f"{len(needed)} secrets are declared, and the configuration has no secrets:",
                "commitd setup --sops IMAGE adds it",
            )
        ]
    try:
        key = await anyio.to_thread.run_sync(key_file.read_key, config.secrets)
    except ConfigError:
        said = "not tried: the age key cannot be used, see age-key"
        return [unknown(Code.SECRETS, said, "commitd status shows what does not decrypt")]
    running = await anyio.to_thread.run_sync(lock.running_agent, config)
    if config.secrets.sops.image and running:
        return await anyio.to_thread.run_sync(_by_agent, config, needed)
    try:
        failures = await _tried(config, found, needed, key)
    except AbsentError as err:  # pulling it would change the host
        return [unknown(Code.SECRETS, f"not tried: {err.message}", err.hint or "")]
    except ConfigError as err:
        if config.secrets.sops.binary:
            return [unknown(Code.SECRETS, "not tried: SOPS cannot be used, see sops")]
        return [
            problem(Code.SOPS, f"SOPS cannot run: {err.fact}", err.hint or "commitd setup --sops")
        ]
    return [*access.secrets(failures, len(needed), f"tried with those of {found.where}")]


def age_key(config: Config) -> list[Finding]:
    """Whether the host's key can be read, and is one."""
    if config.secrets is None:
        return [ok(Code.AGE_KEY, "the configuration has no secrets:, so no key is needed")]
    if key_file.is_credential(config.secrets):
        said = "not looked at: systemd hands the age key to the service alone"
        return [unknown(Code.AGE_KEY, said, "commitd status shows what does not decrypt")]
    try:
        key = key_file.read_key(config.secrets)
    except ConfigError as err:
        if os.geteuid() != 0:
            return [unknown(Code.AGE_KEY, err.fact, "sudo commitd doctor")]
        return [problem(Code.AGE_KEY, err.fact, err.hint or "put the right file there")]
    known = recipients.recipients(key)
    shown = f"its public half is {known[0]}" if known else "of a kind whose public half is not told"
    return [ok(Code.AGE_KEY, f"the age key is whole; {shown}")]


async def _tried(
    config: Config, found: Declared, needed: Mapping[str, wanted.Wanted], key: bytes
) -> dict[str, Unusable]:
    """Why each that is of no use is not, by path."""
    if config.secrets is None:
        return {}
    opened = wanted.no_secrets(found.secrets)
    asked = [sops.EncryptedFile(path, found.secrets[path]) for path in needed if path not in opened]
    if asked:
        async with Engine(directories.docker_host(config)) as engine:
            if (image := config.secrets.sops.image) and not await images.present(engine, image):
                message = f"the SOPS image is not on this host: {image}"
                raise AbsentError(message, hint="the agent pulls it when it decrypts")
            answers = await sops.decryptor(config.secrets.sops, engine).decrypt(asked, key)
        opened |= {file.path: each for file, each in zip(asked, answers, strict=True)}
    problems = {path: _problem(path, each, opened[path]) for path, each in needed.items()}
    return {path: why for path, why in problems.items() if why}


def _problem(path: str, needed: wanted.Wanted, opened: sops.Opened) -> Unusable | None:
    if isinstance(opened, CommitdError):
        return Unusable(opened.message, opened.hint)
    why = wanted.unusable(path, needed, opened)
    return Unusable(why.removeprefix(f"{path}: ")) if why else None


def _by_agent(config: Config, needed: Mapping[str, wanted.Wanted]) -> list[Finding]:
    with closing(open_journal(config)) as journal:
        have = journal.plaintext()
    missing = {
        path: Unusable("the running agent has not decrypted it", "commitd status says why")
        for path, each in needed.items()
        if have.get(path) != each.oid
    }
    return [*access.secrets(missing, len(needed), "as the running agent has noted")]


async def registries(config: Config) -> list[Finding]:
    """Whether the registries of this host's images show them, with the logins that are here."""
    if os.geteuid() != 0:
        said = "the agent's logins are root's, which this user may not read"
        return [unknown(Code.REGISTRY, said, "sudo commitd doctor")]
    found = await declared.read(config)
    by_registry: dict[str, dict[str, Reference]] = defaultdict(dict)
    for mention in (each for stack in found.desired.stacks for each in stack.images.values()):
        try:
            reference = image_reference.parse(mention.text)
        except CommitdError:
            continue  # a variable, or what check complains about
        if reference.digest is None:
            continue  # as those that are built here, which no registry has
        by_registry[reference.registry].setdefault(reference.repository, reference)
    logins = await anyio.to_thread.run_sync(_logins)
    judged = []
    async with Registries(logins.login) as asked:
        for name, references in by_registry.items():
            judged.append(await _registry(asked, logins, name, [*references.values()]))
    return judged or [ok(Code.REGISTRY, "this host's stacks name no pinned image")]


def _logins() -> DockerConfig:
    """Those of root, whoever has become root here."""
    directory = os.environ.get("DOCKER_CONFIG") or f"{pwd.getpwuid(0).pw_dir}/.docker"
    return DockerConfig(Path(directory, "config.json"))


async def _registry(
    asked: Registries, logins: DockerConfig, name: str, references: list[Reference]
) -> Finding:
    some = references[:_MOST_IMAGES]
    try:
        login = await logins.login(name)
    except CommitdError as err:
        return problem(Code.REGISTRY, f"{name}: {err.message}", err.hint or f"docker login {name}")
    for reference in some:
        try:
            await asked.digest(replace(reference, tag=reference.digest or reference.tag))
        except BusyError as err:
            return unknown(Code.REGISTRY, f"{name}: {err.message}", "try again later")
        except UnreachableError as err:
            return problem(Code.REGISTRY, err.message, err.hint or "try again later")
        except CommitdError as err:
            return access.registry(
                name, err.message, login=str(logins.path) if login else None, images=len(some)
            )
    return access.registry(name, None, login=str(logins.path) if login else None, images=len(some))


async def forge_token(told: CommitStatus) -> list[Finding]:
    """What the forge says of the token, asked without changing anything."""
    try:
        token = await anyio.to_thread.run_sync(_token, told)
        seen = await forge.look(told, token)
    except DeniedError:
        raise
    except CommitdError as err:
        remedy = err.hint or "see url:, repository: and token_file: of commit_status"
        return [problem(Code.FORGE_TOKEN, f"commit_status: {err.message}", remedy)]
    return [
        access.forge_token(told.forge, told.repository, scopes=seen.scopes, may_push=seen.may_push)
    ]


def _token(told: CommitStatus) -> str:
    try:
        return told.token_file.read_text().strip()
    except PermissionError:
        raise DeniedError(f"this user may not read {told.token_file}") from None
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{told.token_file} cannot be read") from None
