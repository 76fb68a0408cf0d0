"""Services that apprise knows, each message by a child that ends with it.

The URL goes to the child in memory (:mod:`agent.adapters.memory_file`): it is in no argument, no
environment and no file. Of a service's answer only its status code is passed on, because its text
may hold the URL.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from agent.adapters import process
from agent.domain.errors import ConfigError, PermanentError, TransientError

APPRISE = "apprise"
LIMIT_S = 30.0
"""For one message, with the start of the child. Each service has limits of its own before that."""
_MEMORY = 256 << 20
_CHILD = Path(__file__).with_name("delivery_child.py")
_PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def missing() -> ConfigError:
    """That apprise is not installed."""
    hint = "install commitd[notify], see docs/how-to/notify.md"
    return ConfigError("notify: apprise is not installed", hint=hint)


def is_there() -> bool:
    """Whether apprise is installed; loads nothing of it. Blocks."""
    return importlib.util.find_spec(APPRISE) is not None


async def send(url: str, title: str, text: str) -> None:
    """Send it once.

    Raises :class:`TransientError` when it may go in a while, :class:`PermanentError` when not
    before something is changed; neither holds the URL.
    """
    given = json.dumps({"url": url, "title": title, "text": text}).encode()
    env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    for name in _PASSED_ON:
        env |= {n: os.environ[n] for n in (name, name.lower()) if n in os.environ}
    try:
        ended = await process.run(
            [sys.executable, "-I", str(_CHILD)],
            env=env,
            timeout_s=LIMIT_S,
            stdin=given,
            max_output=4096,
            max_memory=_MEMORY,
        )
    except process.OverdueError:
        raise TransientError(f"the service does not answer within {LIMIT_S:g} s") from None
    word = ended.out.decode(errors="replace")
    match word:
        case "sent":
            return
        case "missing":
            raise missing()
        case "unknown":
            raise PermanentError(
                "apprise knows no service by this URL",
                hint="how they are written: https://appriseit.com/services/",
            )
        case "unreachable":
            raise TransientError("the service cannot be reached")
        case "refused":
            raise TransientError("the service does not take it")
        case _ if word.isdecimal():
            raise TransientError(f"the service answers {word}")
        case _:
            raise TransientError(f"the child that sends it ended with {ended.code}")
