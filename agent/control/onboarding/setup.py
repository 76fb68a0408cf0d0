"""Making this machine a host, step by step; each step finds out what is there and adds the rest.

    programs ─▶ keys ─▶ host keys of the servers ─▶ config.yaml ─▶ a look at the repository
                                                                            │
                       the service is started ◀─ waiting for people ◀───────┘

So setup that was stopped anywhere, and is started again, goes on. Answers of a person are kept
beside the configuration until that is written.
"""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from agent.adapters import private_file
from agent.adapters.host import identity_file, lock
from agent.control.onboarding import keys, look, pinning, programs
from agent.control.onboarding.dialog import Dialog
from agent.control.onboarding.keys import HostKeys, Wish
from agent.domain import config as configuration
from agent.domain import documents
from agent.domain.config import Config, Sops
from agent.domain.errors import ConfigError, DeniedError, HeldError
from agent.domain.onboarding import answers as given
from agent.domain.onboarding import config_text, todo
from agent.domain.onboarding.answers import Answers
from agent.domain.onboarding.todo import Sight, Todo

AGAIN_S = 10.0
"""Between two looks at the repository while it is waited for people."""
_DRAFT = ".setup-answers.json"


class Setup:
    """Of the host whose configuration is at ``path``. Its methods raise :class:`CommitdError`."""

    def __init__(self, path: Path, dialog: Dialog) -> None:
        """Reads the configuration, if there is one. Blocks."""
        self.path = path
        self.directory = path.parent
        there = next(each for each in (path.parent, *path.parent.parents) if each.exists())
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            raise DeniedError("this user may not write there", where=str(path.parent))
        self.before: str | None = self._now()
        self._dialog = dialog
        self._sight = Sight(remotes={}, files=None)

    def earlier(self) -> Answers:
        """The answers given to a setup that was interrupted. Blocks."""
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode((self.directory / _DRAFT).read_bytes(), type=Answers)
        return Answers()

    def keep(self, answers: Answers) -> None:
        """Keep these answers for another try. Blocks."""
        try:
            content = msgspec.json.encode(answers).decode()
            private_file.replace(self.directory / _DRAFT, content)
        except OSError as err:
            message = f"nothing can be written there: {err.strerror}"
            raise ConfigError(message, where=str(self.directory)) from None

    async def configuration(self, answers: Answers) -> tuple[str, Config]:
        """The text of the configuration with these answers, and what it means."""
        for remote in answers.remotes:
            programs.refuse_hidden("--token-file", remote.token_file)
            programs.refuse_hidden("--ca-file", remote.ca_file)
        programs.refuse_hidden("--sops", answers.sops)
        sops = await programs.pinned(answers.sops) if answers.sops else None
        return await anyio.to_thread.run_sync(self._text, answers, sops)

    def _now(self) -> str | None:
        """The configuration as it is at this moment; None for none, and for an empty file."""
        try:
            return self.path.read_text(errors="replace") or None
        except FileNotFoundError:
            return None
        except OSError as err:
            message = f"it cannot be read: {err.strerror}"
            raise ConfigError(message, where=str(self.path)) from None

    def _text(self, answers: Answers, sops: Sops | None) -> tuple[str, Config]:
        before, name = self.before, str(self.path)
        data = self._data()
        if answers.sops == given.NO_SOPS and data.get("secrets"):
            message = "secrets are configured, and setup takes no section out"
            hint = f"take secrets: out of {name} by hand"
            raise ConfigError(message, where="--sops", hint=hint)
        sections = given.sections(answers, sops, self.directory, data)
        if before is None and (socket := programs.docker_socket()):
            sections["docker"] = {"socket": socket}
        if before is None:
            text = config_text.new(sections)
        else:
            text = config_text.changed(before, name, sections)
        try:
            return text, configuration.parse(text.encode(), name, hostname=platform.node())
        except ConfigError as err:
            if text == before:
                raise
            (self.directory / _DRAFT).unlink(missing_ok=True)  # or it would be said for ever
            # The line is of a file that is not written.
            raise ConfigError(err.message, hint=err.hint) from None

    def _data(self) -> dict[str, Any]:
        """What the configuration that is there says, as it is written; {} without one."""
        if not self.before:
            return {}
        found = documents.load(self.before.encode(), str(self.path)).data
        if not isinstance(found, dict):
            raise ConfigError("the file holds no settings", where=str(self.path))
        return found

    async def prepare(self, config: Config, *, host_keys: Sequence[str], wish: Wish) -> HostKeys:
        """Programs, keys, and the host keys of the servers."""
        for line in await programs.check(config):
            self._dialog.say(line)
        ensure = partial(keys.ensure, config, self.directory, self._dialog, wish)
        found = await anyio.to_thread.run_sync(ensure)
        await self._pin(config, host_keys)
        if await anyio.to_thread.run_sync(lock.running_agent, config) is None:
            await programs.try_sops(config)  # a running agent would take the container for another
        return found

    def keep_token(self, name: str, token: str) -> str:
        """Put a token into a file of its own; its path. Another one there is set aside. Blocks."""
        path = self.directory / f"{name}.token"
        try:
            if path.exists() and path.read_text(errors="replace") != f"{token}\n":
                aside = private_file.set_aside(path, "before")
                self._dialog.say(f"The token that was in {path} is now {aside}.")
            private_file.replace(path, f"{token}\n")
        except OSError as err:
            message = f"it cannot be written: {err.strerror}"
            raise ConfigError(message, where=str(path)) from None
        return str(path)

    async def prepare_template(
        self, text: str, config: Config, *, host_keys: Sequence[str]
    ) -> None:
        """What clones of this machine share: programs, and the host keys of the servers."""
        if "host" in documents.load(text.encode(), str(self.path)).data:
            message = "it names a host, and all clones would be that one"
            raise ConfigError(message, where=str(self.path), hint="take host: out of it")
        own = [self.directory / name for name in (*keys.FILES, identity_file.NAME)]
        for path in (*own, config.state_dir / "journal.db"):
            if path.exists():
                self._dialog.say(f"! {path} is of this machine alone: move it away before a clone.")
        for line in await programs.check(config):
            self._dialog.say(line)
        await self._pin(config, host_keys)

    async def _pin(self, config: Config, host_keys: Sequence[str]) -> None:
        pinned = {
            remote.name: await pinning.pin(remote, host_keys, self._dialog)
            for remote in config.remotes
        }
        pinning.refuse_others(pinned, host_keys)

    def agree(self, text: str, *, agreed: bool) -> None:
        """Show how a configuration that is there would change, and have a yes to that. Blocks."""
        if self.before is None or text == self.before:
            return
        if self.path.is_symlink():
            message = "it is a link, and is not written through"
            raise ConfigError(message, where=str(self.path), hint="change where it leads")
        self._dialog.say(config_text.difference(self.before, text, str(self.path)))
        if not agreed and not self._dialog.agree(f"Change {self.path} so?"):
            raise HeldError(f"{self.path} stays as it is", hint="--yes agrees to the change")

    def write(self, text: str) -> None:
        """Put the configuration there, which was agreed to. Blocks."""
        if self._now() != self.before:
            raise self._changed()
        if text == self.before:
            self._dialog.say(f"{self.path} says so already.")
        else:
            try:
                if self.path.exists():
                    private_file.replace(self.path, text)
                else:
                    private_file.make(self.path, text)
            except FileExistsError:
                raise self._changed() from None
            except OSError as err:
                message = f"it cannot be written: {err.strerror}"
                raise ConfigError(message, where=str(self.path)) from None
            self._dialog.say(f"Wrote {self.path}.")
        (self.directory / _DRAFT).unlink(missing_ok=True)

    def _changed(self) -> HeldError:
        message = f"{self.path} was changed by somebody else meanwhile, and stays as it is"
        return HeldError(message, hint="commitd setup again starts from what is there now")

    async def settle(
        self,
        config: Config,
        found: HostKeys,
        report: Callable[[Todo, HostKeys], None],
        *,
        keep_keys: bool,
        wait: bool,
    ) -> Todo:
        """What the repository lacks of this host; if ``wait``, until that is nothing.

        ``report`` hears of it, and again when it changes.
        """
        reported = None
        while True:
            found = await self._of_nobody_else(config, found, keep=keep_keys)
            left = todo.left(config.host, self._sight, found.age_keys)
            if left != reported:
                report(left, found)
                reported = left
            if left.waits_for is None or not wait:
                return left
            await anyio.sleep(AGAIN_S)

    async def _of_nobody_else(self, config: Config, found: HostKeys, *, keep: bool) -> HostKeys:
        """The keys, with another age key if the repository says that this one is another host's."""
        self._sight = await look.look(config)
        other = self._sight.other_host(config.host, found.age_keys or ())
        if other is None or keep:
            return found
        if found.made_here or len(found.age_keys or ()) > 1:
            raise HeldError(
                f"host/{other}/age.pub has the age key of this host, {config.host}, too",
                hint=f"if {other} is mistyped, mend that in the repository; if {config.host} was"
                f" called {other} or they share it, --keep-keys; else --new-keys",
            )
        renew = partial(keys.renew_age_key, config, self.directory, other, self._dialog)
        return await anyio.to_thread.run_sync(renew)

    def have_it_read(self, config: Config) -> None:
        """Have an agent that runs here read its configuration and the note anew. Blocks."""
        if agent := lock.running_agent(config):
            with suppress(ProcessLookupError):
                os.kill(agent, signal.SIGHUP)
            self._dialog.say("The agent that runs here was told to read it.")
