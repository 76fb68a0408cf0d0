"""The token, given once: for a browser, which cannot show it with each request as a program does.

    any page ─ 401 with a form ─▶ POST /login ─ the token fits ─▶ cookie ─▶ the page
                                      └ does not: the form once more; too often: 429

The cookie is no token. It is HttpOnly, SameSite=Strict, for the paths below the login alone and, by
a browser that came by https, never sent without. What is posted has to come from a page of this
very address: the browser says so in ``Origin``, which no script can change.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from urllib.parse import SplitResult, unquote, urlsplit

from aiohttp import web

from agent.surface.api.access import TcpAccess
from agent.surface.api.errors import ApiError
from agent.surface.page import headers
from agent.surface.page.sessions import LASTS_S, Sessions, Tries

log = logging.getLogger("commitd.page")

_LONGEST = 8 * 1024
"""Bytes of a form."""
_FORM = "application/x-www-form-urlencoded"
_NO_FORM = "this is no form of this page"
_WAY = re.compile(r"[A-Za-z0-9_~?&=%.-]+(/[A-Za-z0-9_~?&=%.-]+)*")
"""A path below the login, which leads to no other host."""


class Login:
    """Of one listener, which calls this host ``host``."""

    def __init__(self, host: str, access: TcpAccess) -> None:
        # Cookies know no ports: tunnels to two hosts, both at localhost, keep theirs apart.
        self._cookie = f"commitd-{hashlib.sha256(host.encode()).hexdigest()[:8]}"
        self._access = access
        self._sessions = Sessions()
        self._tries = Tries()

    def knows(self, request: web.Request) -> bool:
        """Whether the browser has a session."""
        return self._sessions.holds(request.cookies.get(self._cookie, ""))

    async def begin(self, request: web.Request) -> web.Response:
        """``POST /login``. Raises :class:`ApiError`, 401 for a wrong token."""
        form = await _posted(request)
        address = request.remote or ""
        if wait_s := self._tries.wait_s(address):
            message = "too many wrong tokens"
            hint = f"try again in {math.ceil(wait_s)} seconds; programs are not kept out"
            raise ApiError(429, message, hint)
        if not self._access.fits(form.get("token", "").strip()):
            self._tries.failed(address)
            log.warning("a wrong token was given on the page, from %s", address)
            raise ApiError(
                401, "this is not the token", "it is in the file that api.token_file names"
            )
        log.info("a session of the page has begun, from %s", address)
        answer = _onward(form.get("to", ""))
        self._give(answer, self._sessions.begin(), LASTS_S, secure=_came_by_https(request))
        return answer

    async def end(self, request: web.Request) -> web.Response:
        """``POST /logout``."""
        await _posted(request)
        self._sessions.end(request.cookies.get(self._cookie, ""))
        answer = _onward("")
        self._give(answer, "", 0, secure=_came_by_https(request))
        return answer

    def _give(self, answer: web.Response, word: str, lasts_s: int, *, secure: bool) -> None:
        """Without a path, so that it is that of the login, also behind a proxy's."""
        parts = [f"{self._cookie}={word}", f"Max-Age={lasts_s}", "HttpOnly", "SameSite=Strict"]
        answer.headers["Set-Cookie"] = "; ".join([*parts, *(["Secure"] if secure else [])])


async def _posted(request: web.Request) -> dict[str, str]:
    """The fields of a form that a page of this address has sent."""
    origin = _origin(request)
    if not origin.netloc or origin.netloc.lower() != request.host.lower():
        hint = "a proxy in front of the agent has to hand on the Host that it was called by"
        raise ApiError(403, "this was not sent by a page of this address", hint)
    written = request.content_type == _FORM and request.charset in {None, "utf-8"}
    if not written or (request.content_length or 0) > _LONGEST:
        raise ApiError(400, _NO_FORM)
    try:
        fields = await request.post()
    except ValueError:
        raise ApiError(400, _NO_FORM) from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def _came_by_https(request: web.Request) -> bool:
    """As the browser says it, which knows better than what is behind a proxy."""
    return _origin(request).scheme == "https"


def _origin(request: web.Request) -> SplitResult:
    """Empty where it is none."""
    try:
        return urlsplit(request.headers.get("Origin", ""))
    except ValueError:
        return urlsplit("")


def _onward(way: str) -> web.Response:
    fits = len(way) < 500 and _WAY.fullmatch(way) and ".." not in unquote(way)  # noqa: PLR2004
    where = way if fits else ""
    return web.Response(status=303, headers={**headers.PAGE, "Location": f"./{where}"})
