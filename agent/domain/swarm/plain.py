"""Values of a resolved model in the one spelling that ``docker stack deploy`` takes.

Compose 2.24 prints them much as the files have them (``64m``, ``["KEY=value"]``, ``true``), later
versions as text, and the schema of the stack's file wants some as numbers and some not. All raise
:class:`ValueError` for what they cannot read, without the value.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TRUE, _FALSE = frozenset({"true", "yes", "on", "y"}), frozenset({"false", "no", "off", "n"})


def text(value: Any) -> str:
    """A value as Compose hands it to a container."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.9f}".rstrip("0").rstrip(".")
    if not isinstance(value, str | int):
        raise ValueError("expected a text")  # noqa: TRY004  see the module
    return str(value)


def words(value: Any) -> list[str]:
    """A list of texts, or the only one; each once."""
    found = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(map(text, found)))


def arguments(value: Any) -> list[str]:
    """A command line, which may be written as a shell's words."""
    if isinstance(value, list):
        return [text(each) for each in value]
    return shlex.split(text(value))


def pairs(value: Any, separator: str = "=") -> dict[str, Any]:
    """A mapping, or the list of ``KEY=value`` that stands for one; None: a key alone."""
    if isinstance(value, Mapping):
        return dict(value)
    split = [each.partition(separator) for each in words(value)]
    return {key: own if found else None for key, found, own in split}


def texts(value: Any) -> dict[str, str]:
    """The same with texts; a key alone has an empty one."""
    return {str(key): text(own) for key, own in pairs(value).items()}


def environment(value: Any) -> dict[str, str | None]:
    """The same, in which a key alone unsets what the image has."""
    return {str(key): None if own is None else text(own) for key, own in pairs(value).items()}


def hosts(value: Any) -> list[str]:
    """``extra_hosts`` as ``NAME:ADDRESS``, without the brackets of an IPv6 address."""
    if isinstance(value, Mapping):
        listed = [(str(name), each) for name, own in value.items() for each in words(own)]
    else:
        listed = []
        for each in words(value):
            name, _, address = each.partition("=" if "=" in each else ":")
            listed.append((name, address))
    stripped = ((name, re.sub(r"^\[(.*)\]$", r"\1", address)) for name, address in listed)
    return list(dict.fromkeys(f"{name}:{address}" for name, address in stripped))


def truth(value: Any) -> bool:
    """Yes or no."""
    said = text(value).lower()
    if said not in _TRUE | _FALSE:
        raise ValueError("expected true or false")
    return said in _TRUE


def whole(value: Any) -> int:
    """A whole number."""
    return int(text(value))


def number(value: Any) -> int | float:
    """A number, whole where it is."""
    found = float(text(value))
    return int(found) if found.is_integer() else found


def size(value: Any) -> int:
    """Bytes; ``64m`` are 64 times 1024 times 1024."""
    match = _SIZE.fullmatch(text(value).strip())
    if not match:
        raise ValueError("expected a size")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def mode(value: Any) -> int:
    """Bits of a file's mode: text is octal, a number is what it is."""
    return int(value, 8) if isinstance(value, str) else whole(value)


def limits(value: Any) -> dict[str, Any]:
    """``ulimits``: a number, or two."""
    return {
        name: {key: whole(own) for key, own in limit.items()}
        if isinstance(limit, Mapping)
        else whole(limit)
        for name, limit in pairs(value).items()
    }


def logging(value: Any) -> dict[str, Any]:
    """Which driver writes a container's output, and how."""
    found: dict[str, Any] = {"driver": text(value["driver"])} if value.get("driver") else {}
    if value.get("options"):
        found["options"] = texts(value["options"])
    return found


def health(value: Any) -> dict[str, Any]:
    """``healthcheck`` without what only newer engines know."""
    if value.get("disable") and truth(value["disable"]):
        return {"disable": True}
    test = value.get("test")
    found: dict[str, Any] = {"test": test} if test else {}
    for key in ("interval", "timeout", "start_period"):
        if value.get(key):
            found[key] = text(value[key])
    if value.get("retries") is not None:
        found["retries"] = whole(value["retries"])
    return found
