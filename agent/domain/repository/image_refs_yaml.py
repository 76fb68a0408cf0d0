"""Where a Compose file names images, and how to change just those words of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from agent.domain import documents
from agent.domain.documents import Document, Path
from agent.domain.repository import hooks, yaml_edit

_NO_IMAGE = frozenset({"tag:yaml.org,2002:null", "!reset"})


@dataclass(frozen=True, slots=True)
class ImageMention:
    """An image as a file has it, at ``file:line``; with an anchor, where that stands."""

    text: str
    where: str


def find(content: bytes, path: str) -> list[ImageMention]:
    """The images of the services of the Compose file at ``path``, each once, in its order.

    Raises :class:`PermanentError` with ``path:line`` when the file cannot be read.
    """
    nodes = _images(_load(content, path)).values()
    return [ImageMention(node.value, f"{path}:{node.start_mark.line + 1}") for node in nodes]


def rewrite(content: bytes, path: str, wanted: Mapping[str, str]) -> bytes:
    """The file with the images that are keys of ``wanted`` replaced, and not a byte more.

    Quotes, anchors, comments and line ends stay. Raises :class:`PermanentError` with ``path:line``
    when the file cannot be read, or an image is spelled so that its characters are not its value.
    """
    images = _images(_load(content, path))
    changes = {at: wanted[node.value] for at, node in images.items() if node.value in wanted}
    return yaml_edit.rewrite(content, path, changes, in_place=True)


def _load(content: bytes, path: str) -> Document:
    document = documents.load(content, path)
    if not isinstance(document.data, dict):
        raise document.error((), "this is not a Compose file", "it begins with services:")
    if not isinstance(document.data.get("services") or {}, dict):
        raise document.error(("services",), "services: must be a mapping")
    return document


def _images(document: Document) -> dict[Path, yaml.ScalarNode]:
    """The place of each image and how it is written there; what is shared, at one place only."""
    root = documents.compose(document.content, document.name)[1]
    places: list[Path] = []
    for name, service in (document.data.get("services") or {}).items():
        if isinstance(service, dict):
            at = ("services", name)
            places.append((*at, "image"))
            found = hooks.of_service(name, service, hooks.KEY)
            places += [(*at, hook.key, hook.index, "image") for hook in found]
    nodes: dict[int, tuple[Path, yaml.ScalarNode]] = {}
    for place in places:
        node = documents.at(root, place)
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _NO_IMAGE:
                nodes.setdefault(node.start_mark.index, (place, node))
        elif node is not None:
            raise document.error(place, "image: must be text")
    return dict(nodes[start] for start in sorted(nodes))
