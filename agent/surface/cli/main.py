"""The command ``commitd``: finds the verb, and says errors the way people can use them."""

from __future__ import annotations

import errno
import importlib
import shlex
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from agent.domain.errors import (
    AgentUnhealthyError,
    CommitdError,
    ConfigError,
    DeniedError,
    HeldError,
)
from agent.surface.cli import terminal

VERBS = {
    "run": "Work as a service until told to stop.",
    "once": "Do one whole cycle and say how it ended.",
    "plan": "Show what the next cycle would do, and do nothing.",
    "status": "Show what runs here and whether it is what Git says.",
    "history": "Show what was done, and why.",
    "why": "Say why a stack or a container runs here.",
    "page": "Write the pages about this host to files.",
    "enroll": "Agree to the removal of what Git does not declare.",
    "suspend": "Stop the agent from changing a stack or the host.",
    "resume": "End a suspension.",
    "undo": "Bring back a container that was ended.",
    "retry": "Try a stack again that failed.",
    "approve": "Accept a commit that waits for a person.",
    "notify": "Send a test to those who are notified.",
    "sync": "Have the agent look at the remotes now.",
    "setup": "Make this machine a host of the repository.",
    "leave": "End the agent's work here; what runs goes on.",
    "doctor": "Look at all that can be wrong on this host.",
    "init": "Start a repository of stacks, with its review.",
    "adopt": "Write the Compose projects that run here into a repository.",
    "check": "Check a clone before it is merged.",
    "diff": "Show what a change would do to each host.",
    "pin": "Pin the images of a clone by tag and digest.",
    "secrets": "Keep secrets readable by those who need them.",
    "completion": "Print what a shell needs to complete names.",
    "version": "Show the versions of the agent and its tools.",
    "rollback-agent": "Have the previous version of the agent run again.",
}
"""One line each, here rather than in the modules: --help imports none of them."""

DONE, FAILED, USAGE, WAITING, UNHEALTHY = 0, 1, 2, 3, 5


class Verbs(click.Group):
    """Loads a verb's module when that verb is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """All verbs, in the order people meet them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The verb, or None."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"agent.surface.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; no name, reason or path of ours is anything but text."""
        if any("\ud800" <= c <= "\udfff" for word in args for c in word):
            raise click.UsageError("An argument is not UTF-8.", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest verb for a mistyped one."""
        mistyped = args and args[0] not in VERBS and not args[0].startswith("-")
        if mistyped and not ctx.resilient_parsing:  # which is how completion looks at half a line
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no verb {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The verbs and their lines, without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs that begin so, without importing them; options as click does."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(verb, help=line)
            for verb, line in VERBS.items()
            if verb.startswith(incomplete)
        ]

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run; errors of ours become one line on standard error and an exit code."""
        terminal.prepare()
        try:
            return super().main(*args, **kwargs)
        except DeniedError as err:
            words = (args[0] if args else kwargs.get("args")) or sys.argv[1:]
            err.hint = f"sudo {shlex.join(['commitd', *words])}"
            _say(err)
            sys.exit(USAGE)
        except ConfigError as err:
            _say(err)
            sys.exit(USAGE)
        except HeldError as err:
            _say(err)
            sys.exit(WAITING)
        except AgentUnhealthyError as err:
            _say(err)
            sys.exit(UNHEALTHY)
        except CommitdError as err:
            _say(err)
            sys.exit(FAILED)
        except OSError as err:
            if err.errno != errno.ENOSPC or err.filename:
                raise
            # What is left in its buffer cannot be written at the end either.
            sys.stdout = None
            click.echo(f"commitd: standard output cannot be written: {err.strerror}", err=True)
            sys.exit(FAILED)


def _say(err: CommitdError) -> None:
    from agent.surface.cli import logs

    logs.say(terminal.one_line(terminal.local(f"commitd: {err}")))


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", metavar="FILE", help="The host's file [/etc/commitd/config.yaml].")
@click.version_option(package_name="commitd", prog_name="commitd", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, config: str | None) -> None:
    """The commit is the deploy: keep this Docker host equal to a Git repository.

    Example: commitd status
    """
    ctx.obj = config
    ctx.color = terminal.coloured()
