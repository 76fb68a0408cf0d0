"""Where a Compose file names images, and how to change just those words of it."""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from agent.domain import documents
from agent.domain.errors import PermanentError
from agent.domain.repository import hooks

_MERGE, _NULL, _RESET = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:null", "!reset"


@dataclass(frozen=True, slots=True)
class Mention:
    """An image as a file has it, at ``file:line``; with an anchor, where that stands."""

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Found:
    """The images of one file, and the other files that it includes or extends.

    ``followed`` are paths in the repository, ``unfollowed`` words that are none: of another place,
    or with a variable. Each only once, in the order of the file.
    """

    images: tuple[Mention, ...]
    followed: tuple[Mention, ...]
    unfollowed: tuple[Mention, ...]


@dataclass(frozen=True, slots=True)
class _Spot:
    """A value and its characters in the text, from ``start`` to before ``end``."""

    text: str
    line: int
    start: int
    end: int


def find(content: bytes, path: str) -> Found:
    """The images of the services of the Compose file at ``path`` in the repository.

    Raises :class:`PermanentError` with ``path:line`` when the file cannot be read.
    """
    _, images, others = _read(content, path)
    followed: list[Mention] = []
    unfollowed: list[Mention] = []
    for spot in others:
        where = f"{path}:{spot.line}"
        if (inside := _inside(path, spot.text)) is not None:
            followed.append(Mention(inside, where))
        else:
            unfollowed.append(Mention(spot.text, where))
    return Found(
        images=tuple(Mention(spot.text, f"{path}:{spot.line}") for spot in images),
        followed=tuple(followed),
        unfollowed=tuple(unfollowed),
    )


def rewrite(content: bytes, path: str, wanted: Mapping[str, str]) -> bytes:
    """The file with the images that are keys of ``wanted`` replaced, and not a byte more.

    Quotes, anchors, comments and line ends stay. Raises :class:`PermanentError` with ``path:line``
    when the file cannot be read, or an image is spelled so that its characters are not its value.
    """
    text, images, _ = _read(content, path)
    expected = [wanted.get(spot.text, spot.text) for spot in images]
    # From the end, so that the places before stay where they are.
    for spot in sorted(images, key=lambda spot: spot.start, reverse=True):
        if spot.text not in wanted:
            continue
        # A tag or an anchor may stand before the value, and a comment after it.
        at = text.rfind(spot.text, spot.start, spot.end)
        if at < 0:
            raise _spelling(path, spot)
        text = text[:at] + wanted[spot.text] + text[at + len(spot.text) :]
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    result = mark + text.encode()
    try:
        found = [spot.text for spot in _read(result, path)[1]]
    except PermanentError:
        found = []
    if found != expected:
        raise _spelling(path, next(spot for spot in images if spot.text in wanted))
    return result


def _spelling(path: str, spot: _Spot) -> PermanentError:
    return PermanentError(
        f"{spot.text} is spelled in a way that cannot be changed here",
        where=f"{path}:{spot.line}",
        hint="write it on one line, without escapes",
    )


def _read(content: bytes, path: str) -> tuple[str, list[_Spot], list[_Spot]]:
    """The text, its images and the files it names, each in the order of the text."""
    document = documents.load(content, path)
    text, root = documents.compose(content, path)
    if not isinstance(root, yaml.MappingNode):
        raise document.error((), "this is not a Compose file", "it begins with services:")
    top = _entries(root)
    images: dict[int, _Spot] = {}
    others: dict[int, _Spot] = {}
    for node in _included(top.get("include")):
        _add(others, node)
    services = top.get("services")
    if (
        services is not None
        and services.tag != _NULL
        and not isinstance(services, yaml.MappingNode)
    ):
        raise document.error(("services",), "services: must be a mapping")
    for name, service in _mapping(services).items():
        keys = _mapping(service)
        image = keys.get("image")
        if image is not None and not isinstance(image, yaml.ScalarNode):
            raise document.error(("services", name, "image"), "image: must be text")
        _add(images, image)
        for hook in _items(keys.get(hooks.KEY)):
            _add(images, _mapping(hook).get("image"))
        _add(others, _mapping(keys.get("extends")).get("file"))
    return text, _sorted(images), _sorted(others)


def _add(spots: dict[int, _Spot], node: yaml.Node | None) -> None:
    if isinstance(node, yaml.ScalarNode) and node.tag not in {_NULL, _RESET}:
        start, end = node.start_mark, node.end_mark
        spots[start.index] = _Spot(node.value, start.line + 1, start.index, end.index)


def _sorted(spots: dict[int, _Spot]) -> list[_Spot]:
    return [spots[start] for start in sorted(spots)]


def _included(node: yaml.Node | None) -> Iterator[yaml.Node]:
    """The paths of ``include:``: words, or mappings with one or more of them."""
    for item in _items(node):
        if isinstance(item, yaml.MappingNode):
            path = _entries(item).get("path")
            yield from _items(path) if isinstance(path, yaml.SequenceNode) else filter(None, [path])
        else:
            yield item


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _mapping(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return _entries(node) if isinstance(node, yaml.MappingNode) else {}


def _entries(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    """Keys to values, with what ``<<`` brings; the mapping's own keys and the first source win."""
    own = {key.value: value for key, value in node.value if key.tag != _MERGE}
    for key, value in node.value:
        if key.tag == _MERGE:
            sources = _items(value) if isinstance(value, yaml.SequenceNode) else [value]
            for source in sources:
                for name, inherited in _mapping(source).items():
                    own.setdefault(name, inherited)
    return own


def _inside(path: str, named: str) -> str | None:
    """The path in the repository that the file at ``path`` calls ``named``; None: it is none."""
    if not named or "$" in named or ":" in named or named.startswith(("/", "~")):
        return None
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), named))
    return None if joined == ".." or joined.startswith("../") else joined
