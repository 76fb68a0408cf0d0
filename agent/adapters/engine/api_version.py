"""The version of the Engine's API in which it is asked.

What an engine does when it is asked without one is its newest, which may be newer than any that
this agent was tried with; and it is going to be an error.
"""

from __future__ import annotations

import re

ASKED = "/_ping"
"""Where each engine answers, whatever the version."""
TOLD = "api-version"
"""The header in which it says its newest one."""
NEWEST = (1, 48)
"""Of Docker 28, the newest engine that the agent was tried with."""

_VERSION = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")


def common(said: str | None) -> str:
    """The newest version that both know, as a path begins with it: ``v1.41``.

    Raises ValueError for what is no version.
    """
    version = _VERSION.fullmatch(said or "")
    if version is None:
        raise ValueError("the engine does not say which version of the API it knows")
    major, minor = min((int(version[1]), int(version[2])), NEWEST)
    return f"v{major}.{minor}"
