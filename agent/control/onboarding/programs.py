"""The programs that the agent needs: whether they are here, and which SOPS exactly."""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters.clone.registry import Registries
from agent.adapters.compose import locate
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.engine.engine import Engine
from agent.adapters.git import version
from agent.adapters.host import directories, key_file
from agent.adapters.secrets import sops
from agent.domain.config import Config, Sops
from agent.domain.errors import CommitdError, ConfigError, PermanentError
from agent.domain.onboarding import todo
from agent.domain.onboarding.answers import NO_SOPS
from agent.domain.repository import image_reference

_USUAL_SOCKETS = {"unix:///run/docker.sock", "unix:///var/run/docker.sock"}


def sops_here() -> str | None:
    """The path of a program called sops on this machine, if the service can see it."""
    found = shutil.which("sops")
    return found if found and not key_file.in_a_home(Path(found)) else None


def refuse_hidden(flag: str, text: str | None) -> None:
    """Raise :class:`ConfigError` for a path where the service sees nothing."""
    if text and text.startswith("/") and key_file.in_a_home(Path(text)):
        message = f"the service sees no home directories, and so not {text}"
        raise ConfigError(message, where=flag, hint="copy it to /etc/commitd, or for sops to /usr")


def docker_socket() -> str | None:
    """The engine's address as the configuration needs it; None: it is the usual one.

    The service has none of the variables that a shell has.
    """
    address = os.environ.get("DOCKER_HOST", "")
    return address if address.startswith("unix://") and address not in _USUAL_SOCKETS else None


async def pinned(answer: str) -> Sops | None:
    """An image (``name:tag``) or a program (``/path``) with what pins it; None for ``none``.

    Raises :class:`CommitdError`.
    """
    if answer == NO_SOPS:
        return None
    if answer.startswith("/"):
        return Sops(binary=Path(answer), sha256=await anyio.to_thread.run_sync(_sum, Path(answer)))
    try:
        reference = image_reference.question(answer)
    except PermanentError as err:
        raise ConfigError(err.message, where="--sops", hint=err.hint) from None
    if reference is None:
        return Sops(image=answer)
    async with Registries(DockerConfig().login) as registries:
        return Sops(image=reference.at(await registries.digest(reference)))


def _sum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as err:
        message = f"the program cannot be read: {err.strerror}"
        raise ConfigError(message, where=str(path), hint="--sops") from None


async def check(config: Config) -> list[str]:
    """Look for Git, Compose and the engine; which there are, and what a Swarm needs, in words.

    Raises :class:`CommitdError` for the first that is missing, too old or silent.
    """
    git = await version.check()
    docker_host = directories.docker_host(config)
    compose = await locate.find(docker_host, config.converge.timeout)
    async with Engine(docker_host) as engine:
        await engine.identity()
    where = docker_host.removeprefix("unix://")
    found = f"Found git {git}, {compose.binary}, Docker at {where}."
    note = todo.of_a_swarm(config.host, config.docker.mode, engine.part)
    return [found, *([note] if note else [])]


async def try_sops(config: Config) -> None:
    """Have SOPS look at a file that it cannot decrypt: it has to run for that.

    Raises :class:`CommitdError` when it cannot.
    """
    if config.secrets is None or key_file.is_credential(config.secrets):
        return
    key = await anyio.to_thread.run_sync(key_file.read_key, config.secrets)
    async with Engine(directories.docker_host(config)) as engine:
        decrypt = partial(sops.decryptor(config.secrets.sops, engine).decrypt, key=key)
        answer = (await decrypt([sops.EncryptedFile("none.secret.env", b"A=1\n")]))[0]
    if not isinstance(answer, CommitdError) or answer.message != sops.NOT_ENCRYPTED:
        said = answer.message if isinstance(answer, CommitdError) else "it decrypts anything"
        raise ConfigError(f"this is no SOPS that can be used: {said}", where="secrets.sops")
