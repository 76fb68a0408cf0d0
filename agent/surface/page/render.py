"""Templates and assets, from the package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from msgspec import Struct

from agent.surface.page import text
from agent.surface.page.links import Links

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Asset(Struct, frozen=True):
    """One file that pages name; ``version`` changes with its content."""

    content: bytes
    kind: str
    version: str


def assets() -> dict[str, Asset]:
    """All of them, by name. Blocks."""
    found = {}
    for file in resources.files("agent.surface.page").joinpath("assets").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind:
            content = file.read_bytes()
            found[file.name] = Asset(content, kind, hashlib.sha256(content).hexdigest()[:16])
    return found


class Renderer:
    """Makes HTML. Blocks."""

    def __init__(self) -> None:
        self.assets = assets()
        self._pages = Environment(
            loader=PackageLoader("agent.surface.page", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=text.plain,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._pages.filters |= {
            "author": text.author, "clip": text.clip, "moment": text.moment, "prose": text.prose,
            "tick": text.tick,
        }  # fmt: skip

    def page(self, name: str, links: Links, values: Mapping[str, Any]) -> bytes:
        """One page."""

        def asset(file: str) -> str:
            return links.asset(file, self.assets[file].version)

        template = self._pages.get_template(f"{name}.html")
        return template.render({"made": None, **values}, links=links, asset=asset).encode()
