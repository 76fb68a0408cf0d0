"""Send one message with apprise: a program of its own, started only for that.

apprise with its services takes 30 MB, and hangs as long as a service does. Here both end with the
process. It runs isolated (``python -I``), so it imports nothing of the agent; see
:mod:`agent.adapters.outside.delivery`, which starts it.

Standard input is JSON: ``url``, ``title``, ``text``. Standard output is one word: ``sent``,
``unknown`` (no service is called by such a URL), ``missing`` (apprise), ``unreachable``,
``refused``, or the number with which the service answered. Nothing else is printed: what apprise
and services say may hold the URL.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys

_ANSWER = re.compile(r"\berror=([0-9]{3})\b")
_NO_ANSWER = re.compile(r"connection error|timed? ?out", re.IGNORECASE)


class _Heard(logging.Handler):
    """What apprise says of a failure, in a word."""

    word = "refused"

    def emit(self, record: logging.LogRecord) -> None:
        """Look for what is known in it."""
        text = record.getMessage()
        if found := _ANSWER.search(text):
            self.word = found[1]
        elif _NO_ANSWER.search(text):
            self.word = "unreachable"


def _send(url: str, title: str, text: str) -> str:
    try:
        import apprise  # noqa: PLC0415  its absence is an answer
    except ImportError:
        return "missing"
    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.handlers, logger.propagate = [heard], False
    asset = apprise.AppriseAsset(async_mode=False, http_redirects=False)
    services = apprise.Apprise(asset=asset)
    if not services.add(url):
        return "unknown"
    sent = services.notify(title=title, body=text, body_format=apprise.NotifyFormat.TEXT)
    return "sent" if sent else heard.word


def main() -> None:
    """Do it, whatever happens, without a word too many."""
    answer = sys.stdout.fileno()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    out = os.dup(answer)
    os.dup2(2, answer)
    given = json.load(sys.stdin)
    try:
        word = _send(given["url"], given["title"], given["text"])
    except Exception:  # noqa: BLE001  a traceback may hold the URL
        word = "refused"
    os.write(out, word.encode())


if __name__ == "__main__":
    main()
