"""Where pages are, seen from one of them: always relative, so that a page can lie anywhere.

Behind a proxy's path, and as a file on a disk. A file needs a name with an ending, and one that any
disk takes.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from msgspec import Struct

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Links(Struct, frozen=True):
    """Links of a page that lies ``depth`` directories deep; ``files`` are for an export.

    ``session``: its reader has given the token, and can end that. ``fleet``: the first page is of
    all hosts.
    """

    depth: int = 0
    files: bool = False
    session: bool = False
    fleet: bool = False

    @property
    def root(self) -> str:
        """Where all begins."""
        return "../" * self.depth or "./"

    @property
    def start(self) -> str:
        """The first page."""
        return self.root + ("index.html" if self.files else "")

    def own(self, name: str) -> str:
        """The page of the host whose agent shows this."""
        return self.host(name) if self.fleet else self.start

    def host(self, name: str) -> str:
        """The page of a host."""
        return self._page("hosts", name)

    def stack(self, host: str, name: str) -> str:
        """The page of a stack."""
        return self._page("hosts", host, "stacks", name)

    def history(self, subject: str = "", host: str = "") -> str:
        """What was done, and when; to ``subject`` alone, if there is one, and on that ``host``."""
        narrowed = [
            f"{key}={quote(value, safe='*', errors='replace')}"
            for key, value in (("subject", subject), ("host", host))
            if value
        ]
        return self._page("history") + ("?" + "&".join(narrowed) if narrowed else "")

    def asset(self, name: str, version: str = "") -> str:
        """A stylesheet, a script, a picture."""
        return f"{self.root}assets/{name}" + (f"?v={version}" if version else "")

    def events(self) -> str | None:
        """The stream that tells when something is done; a file hears of nothing."""
        return None if self.files else f"{self.root}v1/events"

    def login(self) -> str:
        """Where a form with the token is sent."""
        return f"{self.root}login"

    def logout(self) -> str | None:
        """Where a session is ended, by those who have one."""
        return f"{self.root}logout" if self.session else None

    def _page(self, *names: str) -> str:
        if not self.files:
            return self.root + "/".join(quote(name, safe="", errors="replace") for name in names)
        return self.root + "/".join(map(file_name, names)) + ".html"


def file_name(name: str) -> str:
    """The name, or one in its place that leads nowhere else and is not too long."""
    if _SAFE.fullmatch(name):
        return name
    return "x-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:24]
