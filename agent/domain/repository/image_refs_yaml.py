"""Where a Compose file names images, and how to change just those words of it."""

from __future__ import annotations

from collections.abc import Mapping

import yaml
from msgspec import Struct

from agent.domain import documents
from agent.domain.documents import Document, Path
from agent.domain.repository import artefacts, hooks, yaml_edit

_NO_IMAGE = frozenset({"tag:yaml.org,2002:null", "!reset"})


class ImageMention(Struct, frozen=True):
    """An image as a file has it, at ``file:line``; with an anchor, where that stands."""

    text: str
    where: str


def find(content: bytes, path: str) -> list[ImageMention]:
    """The images that services of the Compose file at ``path`` name, each once, in its order.

    Raises :class:`PermanentError` with ``path:line`` when the file cannot be read.
    """
    images = _images(_load(content, path)).values()
    return [ImageMention(text, f"{path}:{node.start_mark.line + 1}") for node, text in images]


def rewrite(content: bytes, path: str, wanted: Mapping[str, str]) -> bytes:
    """The file with the images that are keys of ``wanted`` replaced, and not a byte more.

    Quotes, anchors, comments and line ends stay. Raises :class:`PermanentError` with ``path:line``
    when the file cannot be read, or an image is spelled so that its characters are not its value.
    """
    images = _images(_load(content, path))
    changes = {
        at: node.value.removesuffix(text) + wanted[text]
        for at, (node, text) in images.items()
        if text in wanted
    }
    return yaml_edit.rewrite(content, path, changes, in_place=True)


def _load(content: bytes, path: str) -> Document:
    document = documents.load(content, path)
    if not isinstance(document.data, dict):
        raise document.error((), "this is not a Compose file", "it begins with services:")
    if not isinstance(document.data.get("services") or {}, dict):
        raise document.error(("services",), "services: must be a mapping")
    return document


def _images(document: Document) -> dict[Path, tuple[yaml.ScalarNode, str]]:
    """The place of each image, how it is written there, and the image in that.

    What is shared is at one place only.
    """
    root = documents.compose(document.content, document.name)[1]
    places: list[Path] = []
    parts: dict[Path, str] = {}
    for name, service in (document.data.get("services") or {}).items():
        if isinstance(service, dict):
            at = ("services", name)
            places.append((*at, "image"))
            found = hooks.of_service(name, service, hooks.KEY)
            places += [(*at, hook.key, hook.index, "image") for hook in found]
            more = artefacts.of_service(name, service)
            parts |= {each.path: each.reference for each in more if each.path not in places}
    nodes: dict[int, tuple[Path, tuple[yaml.ScalarNode, str]]] = {}
    for place in (*places, *parts):
        node = documents.at(root, place)
        if isinstance(node, yaml.ScalarNode):
            if node.tag not in _NO_IMAGE:
                text = parts.get(place, str(node.value))
                nodes.setdefault(node.start_mark.index, (place, (node, text)))
        elif node is not None:
            raise document.error(place, "image: must be text")
    return dict(nodes[start] for start in sorted(nodes))
