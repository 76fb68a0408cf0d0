"""Images on the engine: whether they are there, and getting them from their registries."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from agent.adapters.engine.docker_config import DockerConfig, Login
from agent.adapters.engine.engine import AbsentError, Engine
from agent.domain.errors import CommitdError, PermanentError, TransientError, UnreachableError
from agent.domain.repository import image_reference

STALLED_S = 120.0
"""Without a word from the engine for so long, a pull has stalled."""

_BUSY = re.compile(
    r"timeout|timed out|EOF|reset by peer|connection refused|no such host|i/o|temporar"
    r"|TLS handshake|received unexpected|context (?:canceled|deadline)",
    re.IGNORECASE,
)
_LIMITED = re.compile(
    r"toomanyrequests|too many requests|\b429\b|\b50[0234]\b|unavailable|bad gateway", re.IGNORECASE
)
_WORK = "pull an image"
_AROUND = ('failed to resolve reference "{}": ', "manifest for {} not found: ", "{}: ")
"""What engines put before the reason, with the reference."""
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
_REASON_CHARS = 300
_NO_CODES = re.compile(r"sha256:[0-9a-f]+|:\d+(?=/)|:[\w.-]+(?=@|\s|\"|$)")
"""Digits of digests, ports and tags, which say nothing of how a registry answered."""
_ABSENT = re.compile(
    r"manifest unknown|not found|no such image|no matching manifest|unauthorized|denied"
    r"|authentication required|no basic auth credentials|repository does not exist",
    re.IGNORECASE,
)


class ImageError(CommitdError):
    """The registry does not have it, or not for us: asked again later, not at once."""


class RegistryBusyError(TransientError):
    """The registry asks to be left alone for a while."""


async def present(engine: Engine, reference: str) -> bool:
    """Whether the engine has exactly this image."""
    return await identity(engine, reference) is not None


async def identity(engine: Engine, reference: str) -> str | None:
    """The engine's ID of the image that ``reference`` names now, or None."""
    try:
        async with engine.asking("inspect an image") as docker:
            found = await docker.images.inspect(reference)
    except AbsentError:
        return None
    return str(found["Id"])


async def digests(engine: Engine, image_id: str) -> list[str]:
    """The ``name@sha256:…`` under which registries have this image; none: it was made here."""
    try:
        async with engine.asking("inspect an image") as docker:
            found = await docker.images.inspect(image_id)
    except AbsentError:
        return []
    return sorted(found.get("RepoDigests") or [])


async def pull(
    engine: Engine, reference: str, logins: DockerConfig, said: Callable[[str], None]
) -> None:
    """Get an image from its registry; ``said`` hears of progress.

    Raises :class:`RegistryBusyError`, :class:`TransientError` or :class:`ImageError`.
    """
    registry = image_reference.parse(reference).registry
    try:
        login = await logins.login(registry)
    except PermanentError as err:
        raise ImageError(err.message, where=err.where, hint=err.hint) from None
    try:
        async with engine.asking(_WORK, None) as docker:
            stream = docker.images.pull(
                reference, auth=_auth(login, registry), stream=True, timeout=None
            )
            problem = await _follow(stream, said)
    except UnreachableError:
        raise
    except CommitdError as err:
        problem = err.message.removeprefix(f"cannot {_WORK}: ")
    if problem:
        raise _meaning(reference, problem)


async def _follow(stream: AsyncIterator[dict[str, Any]], said: Callable[[str], None]) -> str | None:
    """Hear a pull out; the error that ended it, if one did."""
    steps = aiter(stream)
    while True:
        try:
            with anyio.fail_after(STALLED_S):
                step = await anext(steps)
        except StopAsyncIteration:
            return None
        except TimeoutError:
            return f"timed out: nothing came for {STALLED_S:g} s"
        if error := step.get("error"):
            return str(error)
        said(str(step.get("status", "")))


def _auth(login: Login | None, registry: str) -> dict[str, Any] | None:
    """As the engine's API wants it."""
    if login is None:
        return None
    if login.username is None:
        return {"identitytoken": login.secret, "serveraddress": registry}
    return {"username": login.username, "password": login.secret, "serveraddress": registry}


def _meaning(reference: str, said: str) -> CommitdError:
    message = f"{reference} cannot be pulled: {_reason(reference, said)}"
    said = _NO_CODES.sub("", said.replace(reference, ""))
    if _LIMITED.search(said):
        return RegistryBusyError(message)
    if _ABSENT.search(said) and not _BUSY.search(said):
        return ImageError(message, hint="is the image pushed, and may this host pull it?")
    return TransientError(message)


def _reason(reference: str, said: str) -> str:
    """Why a pull failed, in the engine's words but for the reference, which is named already.

    Engines say it last: of a long chain of reasons the end is kept.
    """
    text = " ".join(said.split()).removeprefix("unknown: ")
    for around in _AROUND:
        text = text.replace(around.format(reference), "")
    parts = _DIGEST.sub(r"\1…", text).split(": ")
    text = ": ".join(
        part for part, after in zip(parts, [*parts[1:], None], strict=True) if part != after
    )
    if len(text) <= _REASON_CHARS:
        return text
    return f"… {text[-_REASON_CHARS:].partition(' ')[2]}"
