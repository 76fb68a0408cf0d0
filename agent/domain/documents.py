"""YAML files of a person, read strictly: every complaint has a line.

The C loader of PyYAML composes recursively and crashes the process on deeply nested input, so
depth and aliases are counted on the event stream first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import yaml

from agent.domain import lfs
from agent.domain.errors import PermanentError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 100_000
"""Nodes after every alias is followed: what a reader that copies would have to hold."""

Path = tuple[str | int, ...]

_PLAIN = (str, int, float, date, type(None))
"""What `!!binary` writes is text to Compose and bytes here, where no rule would see it."""
_NULLS = ("", "null", "Null", "NULL", "~")
_MAX_BITS = 128
"""Longer numbers are no numbers that anybody means, and cannot even be printed."""
_QUOTED = 80
_ANCHOR = re.compile(r"^&\S+\s+")
_TAG = "tag:yaml.org,2002:"
_STRING, _MERGE = f"{_TAG}str", f"{_TAG}merge"
_KINDS = {
    f"{_TAG}bool": "true or false",
    f"{_TAG}int": "a number",
    f"{_TAG}float": "a number",
    f"{_TAG}timestamp": "a date",
    f"{_TAG}null": "nothing",
}
# PyYAML's constructors fail in every way on an explicit tag that does not fit, as in `!!bool x`.
_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data of one YAML file, and the line (from 1) of each value by its path.

    Keys are text, as they stand there, whatever YAML takes them for.
    """

    name: str
    data: Any
    lines: dict[Path, int]
    content: bytes = field(default=b"", repr=False, compare=False)

    def line(self, path: Path) -> int:
        """Line of the value at ``path``, or of the nearest parent that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def written(self, path: Path) -> str:
        """The value as it stands in the file, on one line and in quotes.

        What was read can look quite different: YAML takes ``off`` for false, ``1:30`` for 90.
        """
        text, root = compose(self.content, self.name)
        node = at(root, path)
        if node is None:
            return "nothing"
        said = _ANCHOR.sub("", text[node.start_mark.index : node.end_mark.index]).strip()
        first = said.split("\n", 1)[0]
        short = said if said == first and len(said) <= _QUOTED else f"{first[:_QUOTED]}…"
        return short if short[:1] in {"'", '"'} else f"'{short}'"

    def as_text(self, path: Path) -> str | None:
        """How to write the value so that YAML takes it for text; None if it does, or is no word."""
        node = at(compose(self.content, self.name)[1], path)
        kind = _KINDS.get(node.tag) if isinstance(node, yaml.ScalarNode) else None
        return f"YAML takes it for {kind}: put it in quotes" if kind else None

    def error(self, path: Path, message: str, hint: str | None = None) -> PermanentError:
        """An error that points at the value."""
        return PermanentError(message, where=f"{self.name}:{self.line(path)}", hint=hint)


def load(content: bytes, name: str) -> Document:
    """Read one YAML document; ``name`` is how errors call the file.

    Raises :class:`PermanentError` with ``name:line`` for anything but one well-formed document
    with unique keys, at most ``MAX_BYTES`` long, ``MAX_DEPTH`` deep and ``MAX_NODES`` large.
    """
    _, root = compose(content, name)
    if root is None:
        return Document(name, None, {(): 1})
    lines: dict[Path, int] = {}
    data = _Reader(name, lines).read(root, ())
    return Document(name, data, lines, content)


def compose(content: bytes, name: str) -> tuple[str, yaml.Node | None]:
    """The text without a byte order mark, and its nodes, whose marks count the text's characters.

    None: an empty document. Raises as :func:`load` does, but looks at no key and no value.
    """
    if lfs.is_pointer(content):
        raise PermanentError(lfs.MESSAGE, where=f"{name}:1", hint=lfs.HINT)
    text = _text(content, name)
    try:
        _check_shape(text, name)
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError as err:
        raise _syntax_error(err, name, text) from None
    return text, root


def compose_all(content: bytes, name: str) -> list[yaml.Node]:
    """The nodes of all documents of a file, under the limits of one; as :func:`compose` does."""
    text = _text(content, name)
    try:
        _check_shape(text, name, most=len(text))
        return list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
    except yaml.YAMLError as err:
        raise _syntax_error(err, name, text) from None


def at(node: yaml.Node | None, path: Path) -> yaml.Node | None:
    """The node at ``path`` below ``node``, also one that an alias or ``<<`` brings."""
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = _entry(node, str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step] if step < len(node.value) else None
        else:
            return None
    return node


def _entry(node: yaml.MappingNode, name: str) -> yaml.Node | None:
    """Its own key, or what ``<<`` brings; the first source wins."""
    for key, value in node.value:
        if key.tag != _MERGE and key.value == name:
            found: yaml.Node = value
            return found
    for key, value in node.value:
        if key.tag == _MERGE:
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                inherited = _entry(source, name) if isinstance(source, yaml.MappingNode) else None
                if inherited is not None:
                    return inherited
    return None


def value(data: object, path: Path) -> object:
    """What is at ``path`` of plain data; where that ends sooner, what is there."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step] if step < len(data) else None
    return data


def _text(content: bytes, name: str) -> str:
    if len(content) > MAX_BYTES:
        message = f"the file is {len(content):,} bytes long, more than the limit of {MAX_BYTES:,}"
        raise PermanentError(message, where=name, hint="keep data out of YAML files")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise PermanentError(
            "the file is not UTF-8", where=f"{name}:{line}", hint="save it as UTF-8"
        ) from None


def _check_shape(text: str, name: str, *, most: int = 1) -> None:
    """Refuse what would be costly or deadly to compose."""
    depth = 0
    documents = 0
    total = 0
    sizes: dict[str, int] = {}
    heights: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    below: list[int] = [0]
    parser = yaml.CSafeLoader(text)
    # Most of reading a repository is spent here: no generator, and the most common event first.
    while (event := parser.get_event()) is not None:
        deepest = depth
        if isinstance(event, yaml.ScalarEvent):
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
                heights[event.anchor] = 0
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > most:
                raise _refused(
                    name,
                    event,
                    "a second document starts here",
                    "keep one document a file: remove the line ---",
                )
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            deepest = depth
            below.append(0)
            total += 1
            open_nodes.append((event.anchor, total))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            anchor, before = open_nodes.pop()
            height = below.pop() + 1
            below[-1] = max(below[-1], height)
            if anchor:
                sizes[anchor] = total - before + 1
                heights[anchor] = height
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_nodes):
                raise _refused(
                    name, event, f"the alias *{event.anchor} contains itself", "remove the alias"
                )
            total += sizes.get(event.anchor or "", 1)
            height = heights.get(event.anchor or "", 0)
            below[-1] = max(below[-1], height)
            deepest = depth + height
        if deepest > MAX_DEPTH:
            raise _refused(
                name, event, f"nested more than {MAX_DEPTH} levels deep", "flatten the file"
            )
        if total > MAX_NODES:
            raise _refused(
                name,
                event,
                f"the aliases unfold to more than {MAX_NODES:,} values",
                "write the values out, or use fewer aliases",
            )


def _refused(name: str, event: yaml.Event, message: str, hint: str) -> PermanentError:
    line = event.start_mark.line + 1 if event.start_mark else 1
    return PermanentError(message, where=f"{name}:{line}", hint=hint)


class _Reader:
    """Nodes to plain data, with lines, unique keys and only the tags of plain YAML."""

    def __init__(self, name: str, lines: dict[Path, int]) -> None:
        self._name = name
        self._lines = lines
        self._scalars = yaml.constructor.SafeConstructor()

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if node.tag == _STRING and isinstance(node, yaml.ScalarNode):
            return node.value
        if node.tag == "!reset" and node.value in _NULLS:
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        if node.tag.startswith("!"):
            # Compose's own tags, as in `!override 1`. What `!reset` takes out is judged as if it
            # stayed: at a key, or in the wrong place, it does stay.
            return node.value
        try:
            value = self._scalars.construct_object(node)
        except _UNREADABLE:
            value = node
        if isinstance(value, _PLAIN) and not (
            isinstance(value, int) and value.bit_length() > _MAX_BITS
        ):
            return value
        message = f"{node.value[:_QUOTED]!r} is not a valid value"
        hint = "put it in quotes"
        raise PermanentError(message, where=f"{self._name}:{node.start_mark.line + 1}", hint=hint)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                sources = (
                    value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                )
                for source in sources:
                    value = self.read(source, path)
                    if not isinstance(value, dict):
                        message = "<< needs a mapping"
                        hint = "see YAML merge"
                        raise PermanentError(message, where=f"{self._name}:{line}", hint=hint)
                    for key, inherited in value.items():
                        merged.setdefault(key, inherited)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise PermanentError(
                    "a key must be a plain word", where=f"{self._name}:{line}", hint="quote the key"
                )
            self.read(key_node, (*path, key_node.value))
            key = key_node.value  # to Compose, a service may be called "on"
            if key in own:
                message = f"the key {key!r} stands here a second time"
                raise PermanentError(message, where=f"{self._name}:{line}", hint="keep one of them")
            own[key] = self.read(value_node, (*path, key))
            self._lines[(*path, key)] = line
        return {**merged, **own}


def _syntax_error(err: yaml.YAMLError, name: str, text: str) -> PermanentError:
    if isinstance(err, yaml.reader.ReaderError):
        line = text.encode().count(b"\n", 0, err.position) + 1
        message = "a character that YAML does not allow"
        return PermanentError(message, where=f"{name}:{line}", hint="save it as plain UTF-8 text")
    mark = getattr(err, "problem_mark", None)
    lines = text.splitlines() or [""]
    line = min(mark.line + 1, len(lines)) if mark else 1
    problem = getattr(err, "problem", None) or "it cannot be read"
    said = lines[line - 1]
    hint = "check indentation and quotes around this line"
    indentation = re.match(r"[\s-]*", said)
    if indentation and "\t" in indentation[0]:
        hint = "YAML is indented with spaces, not tabs"
    return PermanentError(f"not valid YAML: {problem}", where=f"{name}:{line}", hint=hint)
