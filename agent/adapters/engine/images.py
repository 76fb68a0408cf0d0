"""Images on the engine: whether they are there, and getting them from their registries."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from urllib.parse import quote

import anyio

from agent.adapters.engine.client import objects
from agent.adapters.engine.docker_config import DockerConfig, Login, server_of
from agent.adapters.engine.engine import AbsentError, Engine, OverdueError
from agent.adapters.http1 import Answer
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
            found = await docker.get(_path(reference))
    except AbsentError:
        return None
    return str(found["Id"])


async def digests(engine: Engine, image_id: str) -> list[str]:
    """The ``name@sha256:…`` under which registries have this image; none: it was made here."""
    try:
        async with engine.asking("inspect an image") as docker:
            found = await docker.get(_path(image_id))
    except AbsentError:
        return []
    return sorted(found.get("RepoDigests") or [])


async def pull(
    engine: Engine,
    reference: str,
    logins: DockerConfig,
    said: Callable[[str], None],
    *,
    stalled_s: float = STALLED_S,
) -> None:
    """Get an image from its registry; ``said`` hears of progress.

    The engine may be silent for ``stalled_s`` seconds, from the first moment on.
    Raises :class:`RegistryBusyError`, :class:`TransientError` or :class:`ImageError`.
    """
    named = image_reference.parse(reference)
    try:
        login = await logins.login(named.registry)
    except PermanentError as err:
        raise ImageError(err.message, where=err.where, hint=err.hint) from None
    try:
        async with engine.asking(_WORK, None) as docker:
            params = {"fromImage": reference}
            if not (named.tag or named.digest):  # or the engine would get all tags that there are
                params["tag"] = named.asked_tag
            auth = _auth(login, named.registry)
            asked = docker.answer("POST", "images/create", params, headers=auth)
            problem = await _follow(asked, said, stalled_s)
    except UnreachableError:
        raise
    except CommitdError as err:
        problem = err.message.removeprefix(f"cannot {_WORK}: ")
    if problem:
        raise _meaning(reference, problem)


async def ask_registry(engine: Engine, reference: str, logins: DockerConfig) -> None:
    """Have the engine ask an image's registry for it, and get nothing but its manifest.

    Raises what :func:`pull` raises where that would fail at once.
    """
    named = image_reference.parse(reference)
    try:
        login = await logins.login(named.registry)
    except PermanentError as err:
        raise ImageError(err.message, where=err.where, hint=err.hint) from None
    path = f"distribution/{quote(reference, safe='/:@')}/json"
    try:
        async with engine.asking(_WORK) as docker:
            asked = docker.answer("GET", path, {}, headers=_auth(login, named.registry))
            async with asked as answer:
                await answer.body()
    except OverdueError as err:  # the engine waits for the registry
        raise _meaning(reference, f"timed out: nothing came for {err.after_s:g} s") from None
    except UnreachableError:
        raise
    except CommitdError as err:
        raise _meaning(reference, err.message.removeprefix(f"cannot {_WORK}: ")) from None


async def _follow(
    asked: AbstractAsyncContextManager[Answer], said: Callable[[str], None], stalled_s: float
) -> str | None:
    """Hear a pull out; the error that ended it, if one did."""
    async with AsyncExitStack() as stack:
        try:
            # The engine does not begin to answer before the registry has answered it.
            with anyio.fail_after(stalled_s):
                steps = aiter(objects(await stack.enter_async_context(asked)))
            while True:
                with anyio.fail_after(stalled_s):
                    step = await anext(steps)
                if error := (step.get("errorDetail") or {}).get("message") or step.get("error"):
                    return str(error)
                said(str(step.get("status", "")))
        except StopAsyncIteration:
            return None
        except TimeoutError:
            return f"timed out: nothing came for {stalled_s:g} s"


def _auth(login: Login | None, registry: str) -> dict[str, str]:
    """The header by which the engine's API gets it."""
    if login is None:
        return {}
    fields = {"serveraddress": server_of(registry)}
    if login.username is None:
        fields["identitytoken"] = login.secret
    else:
        fields |= {"username": login.username, "password": login.secret}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()}


def _path(name: str) -> str:
    """Where the engine tells of the image with this name or ID."""
    return f"images/{quote(name, safe='/:@')}/json"


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
