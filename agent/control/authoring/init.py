"""Starting a repository of stacks: its files, from the templates beside this module."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

from agent.adapters.clone import new_files
from agent.domain.adopt import scaffold
from agent.domain.adopt.scaffold import TemplateSource


def start(
    directory: Path, hosts: Sequence[str], people: Sequence[str], source: str | None
) -> list[str]:
    """Write the files of a new repository, and return those that were not there before.

    ``people`` are the public age keys of those who edit secrets, ``source`` is where CI gets
    commitd (``URL@COMMIT``). Raises :class:`ConfigError` before anything is written. Blocks.
    """
    templates = importlib.resources.files("agent.control.authoring") / "templates"
    files = scaffold.render(
        dict(_below(templates)),
        hosts=list(dict.fromkeys(hosts)) or ["media"],
        people=list(dict.fromkeys(people)),
        source=TemplateSource.parse(source) if source is not None else None,
    )
    return new_files.write(directory, files)


def _below(place: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names, with ``/``, and contents of the files."""
    for entry in place.iterdir():
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.read_text(encoding="utf-8")
