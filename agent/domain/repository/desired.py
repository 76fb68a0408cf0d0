"""What one commit declares for one host: its stacks, and what is allowed beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import astuple

from agent.domain.finding import Fault
from agent.domain.repository.agent_version import AgentVersion
from agent.domain.repository.allow_rules import AllowRule
from agent.domain.repository.compose_paths import NamedMount, Variable
from agent.domain.repository.fleet_policy import Policy
from agent.domain.repository.image_refs_yaml import ImageMention
from agent.domain.repository.stack_settings import Settings
from agent.domain.repository.tree import Inputs
from agent.domain.revision import Revision


class EnvFile(Struct, frozen=True):
    """A file of values for Compose; ``oid`` is the Git object (of the ciphertext, if secret)."""

    path: str
    oid: str
    secret: bool


class Stack(Struct, frozen=True, kw_only=True):
    """A declared stack that can be read. ``digest`` names the whole of its inputs.

    ``services`` are those that its own file names, those of inactive profiles included; it has
    ``more`` when it includes other files, which may name others. ``policy`` is what it was read
    under. ``images`` is where its files name them, by service; ``variables`` are names of files
    that only Compose can finish. ``sealed`` are the secrets that are files and no variables,
    ``env_files`` the secret files that ``env_file:`` names, and whether with ``format: raw``.
    ``modes`` are those of inputs that are no plain files (100755, 120000), by path. ``called`` is
    what its file calls it, where that is something else; ``notes`` say what in it has no effect.
    ``mounts`` are those from the host as its files name them; ``own_volumes`` are what follows the
    stack's name in those of volumes that are called after it, ``named_volumes`` are the
    names of others as they are written out. ``tracked`` are all paths of the commit, sorted.
    """

    name: str
    compose: str
    environment: tuple[EnvFile, ...]
    inputs: Inputs
    digest: str
    services: frozenset[str] = frozenset()
    more: bool = False
    policy: Policy = field(default_factory=Policy)
    settings: Settings = field(default_factory=Settings)
    images: Mapping[str, ImageMention] = field(default_factory=dict)
    variables: tuple[Variable, ...] = ()
    sealed: Inputs = ()
    env_files: frozenset[tuple[str, bool]] = frozenset()
    modes: Mapping[str, str] = field(default_factory=dict)
    called: str | None = None
    notes: tuple[Fault, ...] = ()
    mounts: tuple[NamedMount, ...] = ()
    own_volumes: tuple[str, ...] = ()
    named_volumes: tuple[str, ...] = ()
    tracked: Sequence[str] = ()

    def __eq__(self, other: object) -> bool:
        """Whether it is declared alike, whatever else the two commits hold."""
        return isinstance(other, Stack) and astuple(self)[:-1] == astuple(other)[:-1]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Stack({self.name!r}, digest={self.digest!r})"

    @property
    def versions(self) -> Inputs:
        """The inputs, each with all that a container can see of it change: object and mode."""
        return with_modes(self.inputs, self.modes)

    @property
    def secrets(self) -> dict[str, str]:
        """All that is decrypted for it: paths to Git objects."""
        values = {file.path: file.oid for file in self.environment if file.secret}
        return {**values, **dict(self.sealed)}

    def owns(self, path: str) -> bool:
        """Whether the file is in its own directory."""
        return path.startswith(f"stacks/{self.name}/")

    def owner(self, secret: str) -> tuple[int, int] | None:
        """Whom the plaintext of a secret file shall belong to (user, group); None: to the agent."""
        place = f"stacks/{self.name}/"
        own = secret.startswith(place)
        return self.settings.owner(secret.removeprefix(place)) if own else None


def with_modes(files: Iterable[tuple[str, str]], modes: Mapping[str, str]) -> Inputs:
    """Paths and Git objects, with the mode behind the object where it is no plain file's."""
    return tuple((path, f"{oid} {modes[path]}" if path in modes else oid) for path, oid in files)


class DesiredState(Struct, frozen=True, kw_only=True):
    """What one commit declares for one host.

    ``broken`` are stacks that are declared but cannot be read: what runs of them is protected.
    ``list_faults`` mean that the list itself, or what is allowed beside it, is in doubt: nothing
    may be removed. ``rolled_back`` are stacks whose release of this commit was not healthy, and
    why: in ``stacks`` they are as they were before. ``allow`` lets containers be that
    no stack declares. ``listed`` is where the host's list has each name, as ``file:line``.
    ``present`` are the names of all stacks that have files in the commit, whoever runs them.
    ``agent`` is the version of the agent that it asks for. ``swarm`` says that the host is a Swarm.
    """

    revision: Revision
    host: str
    stacks: tuple[Stack, ...]
    broken: Mapping[str, Fault] = field(default_factory=dict)
    list_faults: tuple[Fault, ...] = ()
    rolled_back: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[AllowRule, ...] = ()
    listed: Mapping[str, str] = field(default_factory=dict)
    present: frozenset[str] = frozenset()
    agent: AgentVersion | None = None
    swarm: bool = False

    @property
    def names(self) -> frozenset[str]:
        """All declared stacks, readable or not."""
        return frozenset(stack.name for stack in self.stacks) | frozenset(self.broken)
