"""``commitd setup``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from agent.adapters.host import config_file, service_unit
from agent.domain.errors import ConfigError, HeldError
from agent.domain.onboarding import answers as given
from agent.domain.onboarding.answers import Answers
from agent.surface.cli import common, setup_questions

if TYPE_CHECKING:
    from agent.control.onboarding.keys import HostKeys
    from agent.domain.config import Config
    from agent.domain.onboarding.todo import Todo

_OF_REMOTE = "With two or more remotes over https: NAME=…"


@click.command()
@click.option("--host", metavar="NAME", help="The host's directory in the repository [hostname].")
@click.option(
    "--remote",
    "urls",
    metavar="[NAME=]URL",
    multiple=True,
    help="Where the repository is, in order of preference; can be repeated.",
)
@click.option("--branch", metavar="NAME", help="The branch to follow [main].")
@click.option(
    "--host-key",
    "host_keys",
    metavar="SHA256:…",
    multiple=True,
    help="The fingerprint of the SSH server's own key; can be repeated.",
)
@click.option(
    "--token-file",
    "token_files",
    metavar="FILE",
    multiple=True,
    help=f"A file with a token that may read, for a remote over https. {_OF_REMOTE}",
)
@click.option("--username", "usernames", metavar="NAME", multiple=True, help="For the token [git].")
@click.option(
    "--ca-file",
    "ca_files",
    metavar="FILE",
    multiple=True,
    help="Whom to trust beside the machine's own authorities.",
)
@click.option(
    "--sops",
    metavar="IMAGE|PATH|none",
    help="What decrypts: name:tag of an image, or a program; its digest is filled in.",
)
@click.option(
    "--keep-keys", is_flag=True, help="Keys that were made on another machine are this one's now."
)
@click.option(
    "--new-keys", is_flag=True, help="Set the keys that are here aside, and make new ones."
)
@click.option(
    "--template", is_flag=True, help="Write what clones of this machine share: no name, no keys."
)
@click.option("-y", "--yes", is_flag=True, help="Agree to a changed configuration unasked.")
@click.option(
    "--wait", is_flag=True, help="Wait until the repository has this host; start the service."
)
@click.pass_context
def command(
    ctx: click.Context,
    *,
    host: str | None,
    urls: tuple[str, ...],
    branch: str | None,
    host_keys: tuple[str, ...],
    token_files: tuple[str, ...],
    usernames: tuple[str, ...],
    ca_files: tuple[str, ...],
    sops: str | None,
    keep_keys: bool,
    new_keys: bool,
    template: bool,
    yes: bool,
    wait: bool,
) -> None:
    """Make this machine a host of the repository: keys, configuration, service.

    Asks for what no flag says, and changes nothing that is there without a yes. Stopped anywhere
    and started again, it goes on. Says at the end what to paste into the forge and what to commit.

    Example: commitd setup --remote ssh://git@gitea.lan:2222/ops/homelab.git --wait
    """
    import anyio

    from agent.control.onboarding.keys import Wish
    from agent.control.onboarding.setup import Setup

    if keep_keys and new_keys:
        raise ConfigError("keys are either kept or made anew", where="--keep-keys, --new-keys")
    wanted = given.remotes(urls)
    for key, values in (
        ("token_file", token_files), ("username", usernames), ("ca_file", ca_files),
    ):  # fmt: skip
        wanted = given.told(wanted, key, values)
    steps = Setup(config_file.config_path(ctx.obj).absolute(), _Terminal())
    chosen = setup_questions.sops(sops) if sops else None
    flags = Answers(host=host, branch=branch, remotes=wanted, sops=chosen)
    if template and (host or wait):
        message = "a template has no name of its own, and runs no service"
        raise ConfigError(message, where="--template", hint="leave out --host and --wait")
    if wait and not service_unit.booted():
        click.echo("! systemd does not run this machine: there will be no service to start.")
    answers = flags
    if steps.before is None:
        answers = setup_questions.complete(steps, flags, named=not template)

    async def share() -> None:
        text, config = await steps.configuration(answers)
        steps.agree(text, agreed=yes)
        await steps.prepare_template(text, config, host_keys=host_keys)
        steps.write(text)
        click.echo("On each clone, once it has its hostname: commitd setup --wait")

    async def work() -> tuple[Config, Todo]:
        text, config = await steps.configuration(answers)
        steps.agree(text, agreed=yes)
        wish = Wish(keep=keep_keys, new=new_keys)
        found = await steps.prepare(config, host_keys=host_keys, wish=wish)
        steps.write(text)
        steps.have_it_read(config)
        left = await steps.settle(config, found, _report(config), keep_keys=keep_keys, wait=wait)
        return config, left

    if template:
        anyio.run(share, backend="asyncio")
        return
    config, left = anyio.run(work, backend="asyncio")
    if left.waits_for:
        again = "commitd setup --keep-keys --wait" if keep_keys else "commitd setup --wait"
        hint = f"{again} starts the service once that is there"
        raise HeldError(f"{config.host} waits for {left.waits_for}", hint=hint)
    _begin(config, wait=wait)


class _Terminal:
    """See :class:`agent.control.onboarding.dialog.Dialog`."""

    @property
    def asks(self) -> bool:
        return sys.stdin.isatty()

    def say(self, text: str) -> None:
        click.echo(text)

    def agree(self, question: str) -> bool:
        return self.asks and common.agreed(question)


def _report(config: Config) -> Callable[[Todo, HostKeys], None]:
    """What people have to do, in blocks that can be copied."""
    over_ssh = {remote.name for remote in config.remotes if remote.ssh_key}

    def report(left: Todo, found: HostKeys) -> None:
        closed = [name for name in left.unreadable if name in over_ssh]
        for name, why in left.unreadable.items():
            click.echo(f"{name} cannot be read: {why}")
        for public in dict.fromkeys(found.deploy_keys[name] for name in closed):
            where = " and ".join(name for name in closed if found.deploy_keys[name] == public)
            click.echo(f"\nPaste this into {where}, as a deploy key that may only read:\n")
            click.echo(f"{public} commitd@{config.host}")
        if left.commands:
            click.echo("\nRun this in a clone of the repository, where you may push:\n")
            click.echo("\n".join(left.commands))
        if left.waits_for:
            click.echo(f"\nWaiting for {left.waits_for}.")
        else:
            click.echo(f"The repository can be read, and has {config.host}.")

    return report


def _begin(config: Config, *, wait: bool) -> None:
    """Start the service, or say how that is done."""
    if wait:
        service_unit.enable_now()
        click.echo("The service runs, and starts at each boot. commitd status shows what it does.")
    else:
        click.echo("Next: systemctl enable --now commitd")
    click.echo("commitd doctor looks at all that can be wrong.")
    click.echo(
        f"Then commitd enroll, which shows what would be removed from {config.host}, and asks:"
        " until then nothing is."
    )
