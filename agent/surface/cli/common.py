"""What several verbs need: the configuration, the journal, and one way to print."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from agent.adapters.host import config_file, lock
from agent.domain.config import Config, is_host_name, lasting
from agent.domain.errors import ConfigError
from agent.domain.outcome import Action
from agent.surface.cli.terminal import ROLLED_BACK, age, clock, json_text, state

_Command = TypeVar("_Command", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, a stable contract.")
directory = click.Path(exists=True, file_okay=False, path_type=Path)
clone_argument = click.argument("start", metavar="[PATH]", default=".", type=directory)
clone_option = click.option(
    "--dir",
    "start",
    metavar="DIR",
    default=".",
    type=directory,
    help="The clone, or a directory in it [the current one].",
)


class _Duration(click.ParamType[float]):
    """``10s``, ``5m``, ``24h``, as in the configuration."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return lasting(value)
        except ValueError as err:
            self.fail(str(err), param, ctx)


def for_option(**more: Any) -> Callable[[_Command], _Command]:
    """``--for``, in seconds once parsed."""
    return click.option("--for", "for_s", type=_Duration(), metavar="TIME", **more)


def until(at: float | str | None) -> str:
    """Until when, as the clock on the wall shows it; begins with a space."""
    return " until you resume it" if at is None else f" until {clock(at)}"


def agreed(question: str) -> bool:
    """Ask a person. No: also when nobody is there to answer, or they press Ctrl-C."""
    try:
        return click.confirm(question, default=False)
    except click.Abort:
        click.echo()
        return False


def ignore_wakes() -> None:
    """Who holds the host's lock is sent these signals; they must not end one that does not listen.

    SIGUSR1 by orders, SIGHUP by ``setup``.
    """
    for number in (signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def refuse_elsewhere(config: Config) -> None:
    """Orders are for the manager that leads a Swarm. Raises :class:`CommitdError` elsewhere."""
    if config.docker.mode == "swarm":
        import anyio

        from agent.control.operator import leader

        anyio.run(leader.refuse_elsewhere, config, backend="asyncio")


def wake_agent(config: Config) -> str:
    """Have the agent, if one runs, act on an order now; when it will, in words."""
    agent = lock.running_agent(config)
    if agent is None:
        return "once it runs (systemctl start commitd)"
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(agent, signal.SIGUSR1)
    return "now"


def load(ctx: click.Context) -> Config:
    """The host's configuration."""
    return config_file.load_config(config_file.config_path(ctx.obj))


def for_host(ctx: click.Context, name: str | None) -> Config:
    """The host's configuration, or one of defaults where there is none; ``name`` wins in it.

    Raises :class:`ConfigError` for what cannot be the name of a host.
    """
    path = config_file.config_path(ctx.obj)
    named = ctx.obj or os.environ.get("COMMITD_CONFIG")
    there = named or path.exists()
    config = config_file.load_config(path) if there else Config(host=platform.node(), remotes=())
    host = config.host if name is None else name
    if not is_host_name(host):
        raise ConfigError(
            f"{host!r} cannot be the name of a host (letters, digits, '.', '_' and '-')",
            where="--host",
        )
    return msgspec.structs.replace(config, host=host)


def load_for_work(ctx: click.Context) -> Config:
    """The same, with the files it names checked: for verbs that do the agent's work."""
    config = load(ctx)
    config_file.check_files(config)
    return config


def print_json(data: Any) -> None:
    """Indented for people, complete for programs."""
    click.echo(json_text(data))


def sync(stack: Mapping[str, Any]) -> str:
    """How a stack of the status is with its sign, or what is being done with it."""
    if stack["working"]:
        seconds = age(stack["working"]["since"])
        return f"… {Action(stack['working']['action']).text} ({seconds} s)"
    if back := stack.get("rolled_back_to"):
        return f"{ROLLED_BACK} rolled back to {back[:7]}"
    return state(stack["sync"])


def health(stack: Mapping[str, Any]) -> str:
    """Its health with a sign: no failure yet, while something is being done with it."""
    shown = state(stack["health"])
    return f"… {stack['health']}" if stack["working"] and shown.startswith("✗") else shown


def alike(holds: Iterable[Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Holds for people: those that are held for the same reason are one, with all their names."""
    found: dict[tuple[str, bool], tuple[list[str], Mapping[str, Any]]] = {}
    for hold in holds:
        names, _ = found.setdefault((hold["message"], hold["needs_person"]), ([], hold))
        names.append(hold["subject"])
    return [(", ".join(names), hold) for names, hold in found.values()]
