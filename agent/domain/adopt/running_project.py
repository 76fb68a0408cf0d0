"""A Compose project as a person started it: all that decides on its containers."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class ProjectValues(Struct, frozen=True):
    """An env file of the project: its bytes, and its values as Compose reads them."""

    content: bytes
    values: Mapping[str, str]


class Origin(Struct, frozen=True, kw_only=True):
    """A project as it was started.

    ``content`` is the one Compose file, or all of them merged; ``name`` is how errors call it.
    ``environment`` is what each service gets, as Compose resolves it, ``binds`` what it mounts of
    the host by the place in the container. ``interpolation`` and ``env_files`` are its files of
    values by absolute path; ``pins`` maps images as the file has them to pinned ones. ``raw`` is
    whether the Compose of this host reads env files of that format.
    """

    project: str
    name: str
    directory: str
    home: str
    content: bytes
    environment: Mapping[str, Mapping[str, str | None]]
    binds: Mapping[str, Mapping[str, str]]
    interpolation: Mapping[str, ProjectValues]
    env_files: Mapping[str, ProjectValues]
    pins: Mapping[str, str]
    raw: bool = True
