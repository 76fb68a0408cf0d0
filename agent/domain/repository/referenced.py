"""What the Compose files of one stack name, as :func:`references.follow` finds it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from agent.domain.finding import Fault
from agent.domain.repository import image_refs_yaml
from agent.domain.repository.compose_paths import NamedMount, PathMention, Variable


class Refused(Struct, frozen=True, kw_only=True):
    """A mention in ``document`` that must not be followed; it is relative to ``base``.

    ``fault`` is why; it is ``outside`` when the name leads out of the repository.
    """

    document: str
    mention: PathMention
    base: str
    fault: Fault | None = None
    outside: bool = False


class References(Struct, frozen=True, kw_only=True):
    """Paths of the tree outside the stack's directory, and what is refused, as it was found.

    ``compose`` are all Compose files that were read, the stack's own first; ``env_files`` what
    they name for values, wherever it is. ``images`` are those of the services by name, as the file
    has them that decides; ``variables`` are the names of files that are to be judged once Compose
    has finished them. ``secrets`` are the secret files whose plaintext is named,
    ``secret_env_files`` those that ``env_file:`` names, and whether in the raw format. ``raw`` are
    the files of that format as they are named, secret or not. ``refused`` are the mentions behind
    the faults, unless these are ``named_files.ENOUGH``. ``mounts`` are those from the
    host, wherever they lead; ``own_volumes`` and ``named_volumes`` as in :mod:`own_volumes`.
    """

    paths: frozenset[str]
    faults: tuple[Fault, ...] = ()
    compose: tuple[str, ...] = ()
    env_files: frozenset[str] = frozenset()
    images: Mapping[str, image_refs_yaml.ImageMention] = field(default_factory=dict)
    variables: tuple[Variable, ...] = ()
    secrets: frozenset[str] = frozenset()
    secret_env_files: frozenset[tuple[str, bool]] = frozenset()
    raw: frozenset[str] = frozenset()
    refused: tuple[Refused, ...] = ()
    mounts: tuple[NamedMount, ...] = ()
    own_volumes: tuple[str, ...] = ()
    named_volumes: tuple[str, ...] = ()
