"""What ``commitd setup`` asks a person for, where no flag says it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec.structs import replace

from agent.domain.config import is_host_name
from agent.domain.errors import ConfigError, HeldError
from agent.domain.onboarding import answers as given
from agent.domain.onboarding.answers import Answers, Wanted

if TYPE_CHECKING:
    from agent.control.onboarding.setup import Setup

_T = TypeVar("_T")


def complete(steps: Setup, flags: Answers, *, named: bool) -> Answers:
    """All that has to be known for a new configuration; what a person says is kept at once.

    ``named``: the name of the host is part of it.

    Raises :class:`ConfigError` that names the flag where nobody can be asked.
    """
    typed = steps.earlier()
    if not named:
        typed = replace(typed, host=None)

    def note(**more: Any) -> None:
        nonlocal typed
        typed = Answers(**more).over(typed)
        steps.keep(typed)

    if named and flags.over(typed).host is None and sys.stdin.isatty():
        note(host=_ask("--host", "The name of this host", _host, platform.node()))
    if not (flags.remotes or typed.remotes):
        note(remotes=_ask("--remote", "The URL of the repository", _remotes))
    before = {(each.name, each.url): each for each in typed.remotes}
    remotes = [
        each if each.token_file else before.get((each.name, each.url), each)
        for each in flags.remotes or typed.remotes
    ]
    for index, each in enumerate(remotes):
        if each.scheme == "https" and each.token_file is None and sys.stdin.isatty():
            remotes[index] = _with_token(steps, each)
            note(remotes=tuple(remotes))
    if flags.over(typed).sops is None:
        question = "What decrypts secrets (an image name:tag, the path of sops, or none)"
        note(sops=_ask("--sops", question, sops, _offered()))
    answers = Answers(remotes=tuple(remotes)).over(flags.over(typed))
    return answers if answers.host or not named else Answers(host=platform.node()).over(answers)


def sops(text: str) -> str:
    """What may decrypt. Raises :class:`ConfigError`."""
    if text != given.NO_SOPS and not text.startswith("/") and ":" not in text:
        raise ConfigError(f"{text!r} is neither name:tag nor a path", where="--sops")
    return text


def _host(text: str) -> str:
    if not is_host_name(text):
        raise ConfigError(f"{text!r} cannot be the name of a host", where="--host")
    return text


def _remotes(text: str) -> tuple[Wanted, ...]:
    return given.remotes([text])


def _ask(flag: str, question: str, read: Callable[[str], _T], default: str | None = None) -> _T:
    """Ask until ``read`` makes something of the answer."""
    if not sys.stdin.isatty():
        message = "there is no such answer, and no terminal to ask on"
        raise ConfigError(message, where=flag, hint=f"give {flag}; commitd setup --help")
    while True:
        answer = _prompt(question, default=default)
        try:
            return read(answer)
        except ConfigError as err:
            click.echo(f"{err.message[:1].upper()}{err.message[1:]}.", err=True)


def _prompt(question: str, **how: Any) -> str:
    try:
        return str(click.prompt(question, **how)).strip()
    except click.Abort:
        click.echo()
        raise HeldError("stopped", hint="commitd setup goes on from here") from None


def _with_token(steps: Setup, wanted: Wanted) -> Wanted:
    """The remote with a token of its own, if a person has one for it."""
    question = f"A token that may read {wanted.name} (not shown; empty if it needs none)"
    token = _prompt(question, default="", hide_input=True, show_default=False)
    return replace(wanted, token_file=steps.keep_token(wanted.name, token)) if token else wanted


def _offered() -> str:
    from agent.control.onboarding import programs

    return programs.sops_here() or given.SOPS_IMAGE
