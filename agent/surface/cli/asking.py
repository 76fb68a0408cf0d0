"""Asking the agent that runs, or the journal where none does: with the same answer.

Members of the group ``commitd`` may ask the agent, but read neither the configuration nor the
journal.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from agent.adapters.host import api_socket
from agent.domain.config import Config
from agent.domain.errors import (
    CommitdError,
    ConfigError,
    DeniedError,
    HeldError,
    PermanentError,
    TransientError,
)  # fmt: skip
from agent.surface.cli import common

Batch = tuple[int, list[Any]]
"""Events, and the number of the last one so far."""

_USUAL = Path("/run/commitd")
_KINDS: Mapping[str, type[CommitdError]] = {
    "invalid": ConfigError,
    "denied": DeniedError,
    "failed": PermanentError,
    "held": HeldError,
    "unavailable": TransientError,
}


def document(
    ctx: click.Context, path: str | None, otherwise: Callable[[Config], Any], /, **parameters: Any
) -> Any:
    """What the agent answers at ``path``, or ``otherwise``; None is what it does not answer.

    Raises :class:`CommitdError`.
    """
    config, denied = _config(ctx)
    wanted = {key: value for key, value in parameters.items() if value not in (None, "", ())}
    query = f"?{urlencode(wanted, doseq=True)}" if wanted else ""
    try:
        answer = path and api_socket.ask(_directory(config), "GET", path + query)
    except OSError:
        answer = None
    if answer and answer.code == api_socket.OK:
        return answer.document
    if answer and (error := _error(answer)) and not isinstance(error, TransientError | DeniedError):
        raise error
    if config is None:
        raise denied
    return otherwise(config)


def events(
    ctx: click.Context, after: int | None, otherwise: Callable[[Config, int | None], Batch]
) -> Iterator[Batch]:
    """What happened after event number ``after`` (None: from now on), with the number of the last.

    From the agent, as long as it answers; one batch that is read ``otherwise``, where none does.
    The first one comes at once. Raises :class:`CommitdError` when there can be none.
    """
    config, denied = _config(ctx)
    answers = False
    try:
        for answer in api_socket.events(_directory(config), after):
            if isinstance(answer, api_socket.Answer):
                raise _error(answer) or TransientError(f"the agent has answered {answer.code}")
            answers = True
            yield answer
    except (OSError, DeniedError):  # none answers, or no more
        if config is None and after is None and not answers:
            raise denied from None
    except CommitdError:
        if config is None:
            raise
    if config is not None and not answers:
        yield otherwise(config, after)


def order(
    ctx: click.Context, verb: str, said: Mapping[str, Any], otherwise: Callable[[Config], Any]
) -> tuple[Any, str]:
    """Have the agent do something, or do it ``otherwise`` and wake one that runs.

    The answer, and when the agent acts on it, in words. Raises :class:`CommitdError`.
    """
    config, denied = _config(ctx)
    body = {key: value for key, value in said.items() if value is not None}
    try:
        answer = api_socket.ask(_directory(config), "POST", f"/v1/{verb}", body)
    except OSError as err:
        message = f"the agent has got the order and does not answer: {err}"
        raise TransientError(message, hint="commitd status shows what it does") from None
    if answer and answer.code == api_socket.OK:
        return answer.document, "now"
    if answer and (error := _error(answer)):
        raise error
    if config is None:
        raise denied
    if verb != "sync":
        common.refuse_elsewhere(config)
    return otherwise(config), common.wake_agent(config)


def host(ctx: click.Context) -> str:
    """What this host is called, as far as this user may know."""
    config, _ = _config(ctx)
    return config.host if config else platform.node()


def duration(seconds: float | None) -> str | None:
    """As the agent reads it."""
    return None if seconds is None else f"{seconds:.3f}s"


def quoted(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _config(ctx: click.Context) -> tuple[Config | None, DeniedError]:
    try:
        return common.load(ctx), DeniedError("")
    except DeniedError as err:
        return None, err


def _directory(config: Config | None) -> Path:
    return config.runtime_dir if config else _USUAL


def _error(answer: api_socket.Answer) -> CommitdError | None:
    """What the agent says is wrong; None for an agent that has no such path."""
    said = answer.document if isinstance(answer.document, dict) else {}
    kind = _KINDS.get(str(said.get("kind")))
    return kind(str(said["error"]), hint=said.get("hint")) if kind else None
