"""Which values look as if nobody but their service should know them."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"(?:^|_)(?:\w*PASS(?:WORDS?|WD|PHRASE)?|PWD|\w*PW|\w*SECRETS?|\w*TOKEN|\w*KEY|CREDENTIALS?|DSN|SALT)"
    r"(?:_[A-Z]?\d+|_BASE64|_HASH)?$"
    r"|(?:^|_)(?:PASSWORD|SECRET|API_?KEY|PRIVATE_?KEY)_",
    re.IGNORECASE,
)
_NO_SECRET_NAME = re.compile(
    r"(?:_FILE|_PATH|_DIR|_LENGTH|_TTL|_ENABLED|PUBLIC_?KEY)$", re.IGNORECASE
)
_NO_SECRET = re.compile(
    r"(?:true|false|yes|no|on|off|null|none|[01]?|(?:/[\w.-]+){2,})$", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"[A-Za-z][\w+.-]{0,30}://[^/\s:@]*:[^/\s@]+@")
"""Bounded, or a long line of letters takes quadratic time, in which nothing else is done."""


def looks_secret(name: str, value: str) -> bool:
    """By the variable's name, unless its value can hold no secret; or by credentials in a URL."""
    if _CREDENTIALS.search(value):
        return True
    if _NO_SECRET.fullmatch(value) or _NO_SECRET_NAME.search(name):
        return False
    return bool(_NAME.search(name))


def with_credentials(value: str) -> bool:
    """Whether ``value`` holds a URL with a password."""
    return bool(_CREDENTIALS.search(value))
