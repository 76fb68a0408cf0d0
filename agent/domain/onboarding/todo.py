"""What is left for people to do before a host can work: at the forge, and in the repository."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from msgspec import Struct

from agent.domain.recipients.access import Access, host_key_path

_LIST = "host/{}/stacks.yaml"


class Sight(Struct, frozen=True, kw_only=True):
    """What the remotes showed: for each why it cannot be read, None where it can; and the files.

    ``files`` are those of ``host/`` that were wanted, None where no remote could be read.
    """

    remotes: Mapping[str, str | None]
    files: Mapping[str, bytes] | None

    def other_host(self, host: str, own: tuple[str, ...]) -> str | None:
        """Another host whose ``age.pub`` has one of these keys; None where there is none.

        One that ``host`` has in its own ``age.pub`` is its own, whoever else has it.
        """
        if self.files is None:
            return None
        keys = Access(self.files).host_keys
        doubtful = {*own} - keys.get(host, {}).keys()
        return next(
            (name for name, found in keys.items() if name != host and found.keys() & doubtful), None
        )


class Todo(Struct, frozen=True, kw_only=True):
    """``unreadable`` are remotes, each with why; ``list`` and ``key`` are what to commit.

    ``key`` are the recipients that ``age.pub`` lacks; empty: nothing.
    """

    host: str
    unreadable: Mapping[str, str] = {}
    blind: bool = False
    list: bool = False
    key: tuple[str, ...] = ()

    @property
    def waits_for(self) -> str | None:
        """What the host cannot begin without, in words; None: nothing."""
        if self.blind:
            said = "; ".join(f"{name}: {why}" for name, why in self.unreadable.items())
            return f"a remote that can be read ({said})"
        missing = [_LIST.format(self.host)] if self.list else []
        missing += [host_key_path(self.host)] if self.key else []
        return f"{' and '.join(missing)} in the repository" if missing else None

    @property
    def commands(self) -> tuple[str, ...]:
        """What to run in a clone of the repository, so that it knows this host."""
        if not (self.list or self.key):
            return ()
        directory = f"host/{shlex.quote(self.host)}"
        lines = [f"mkdir -p {directory}"]
        lines += [f"echo {key} >> {directory}/age.pub" for key in self.key]
        lines += [f"echo '[]' > {directory}/stacks.yaml"] if self.list else []
        message = shlex.quote(f"host {self.host}")
        return (*lines, f"git add {directory} && git commit -m {message} && git push")


def left(host: str, sight: Sight, own: tuple[str, ...] | None) -> Todo:
    """What is left, by what the remotes showed; ``own`` are the recipients of the host's key."""
    unreadable = {name: why for name, why in sight.remotes.items() if why}
    files = sight.files or {}
    known = Access(files).host_keys.get(host, {})
    return Todo(
        host=host,
        unreadable=unreadable,
        blind=sight.files is None,
        list=_LIST.format(host) not in files,
        key=tuple(key for key in own or () if key not in known),
    )


def of_a_swarm(host: str, mode: str, part: str | None) -> str | None:
    """What to know where the engine has a ``part`` in a Swarm (manager or worker), or should have.

    ``mode`` is ``docker.mode``. None: nothing.
    """
    match mode, part:
        case "swarm", "manager":
            return (
                f"This is a manager of the Swarm {host}. Set up an agent on each manager, with the"
                f" same host: {host}; each has an age key of its own, and {host_key_path(host)} has"
                f" all of them, one a line. host/{host}/commitd.yaml has to say mode: swarm."
            )
        case "swarm", _:
            what = "in no Swarm" if part is None else "a worker of its Swarm"
            return (
                f"! docker.mode is swarm, and Docker is {what}: the agent works on managers alone."
            )
        case _, "manager":
            return (
                "! Docker is a manager of a Swarm, whose services the agent leaves alone. If it is"
                " to deploy to the Swarm: docker: {mode: swarm} and one host: for all managers."
            )
        case _, "worker":
            return (
                "! Docker is a worker of a Swarm, whose services the agent leaves alone; an agent"
                " on a manager can deploy to it."
            )
        case _:
            return None
