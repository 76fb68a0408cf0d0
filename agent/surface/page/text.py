"""Other people's words (of commits, containers, labels) in a page.

Templates escape all text, so that none of it is markup. This is about the rest that text can do: be
endless, and steer the text around it by characters that nobody sees.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from markupsafe import Markup, escape

LONGEST = 2000
"""Characters of one value that are shown."""
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb]"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def plain(value: object) -> object:
    """A value as a template shows it: text without what steers, and bounded. Markup stays."""
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > LONGEST:
        more = len(value) - LONGEST
        value = f"{value[:LONGEST]}… ({more} more characters)"
    return _STEERING.sub(_code, value)


def _code(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def clip(value: str | None, length: int) -> str:
    """The beginning of a text."""
    text = value or ""
    return text if len(text) <= length else f"{text[:length]}…"


def author(name: str | None) -> str:
    """Who a commit is by, without the address."""
    text = name or "?"
    return text.partition(" <")[0] or text


def moment(at: str | None) -> Markup | str:
    """A time (ISO 8601) as an element; its text is in UTC until a script has put it right."""
    try:
        then = datetime.fromisoformat(at or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return str(plain(clip(at, 40))) if at else "never"
    written = then.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Markup('<time datetime="{}">{}</time>').format(written, f"{then:%d %b %Y, %H:%M:%S} UTC")


def tick(at: str, scale: str) -> Markup:
    """A time below a picture, as short as its ``scale`` (day, month) allows."""
    then = datetime.fromisoformat(at)
    shown = f"{then:%H:%M}" if scale == "day" else f"{then:%d %b}"
    return Markup('<time datetime="{}" data-scale="{}">{}</time>').format(at, scale, shown)


def prose(value: str | None) -> Markup:
    """A sentence with its times as elements."""
    text = str(plain(value or ""))
    parts: list[Markup | str] = []
    end = 0
    for found in _TIME.finditer(text):
        parts += [escape(text[end : found.start()]), escape(moment(found[0]))]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])
