"""Errors of the API: JSON with what is wrong and what to do, and a code of HTTP."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from agent.domain.errors import CommitdError, ConfigError, DeniedError, HeldError, PermanentError

log = logging.getLogger("commitd.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """What a client is told. ``code`` is of HTTP; the reference has the kinds."""

    def __init__(
        self, code: int, message: str, hint: str | None = None, kind: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.kind = kind or _KINDS.get(code, "failed")

    @classmethod
    def of(cls, err: CommitdError, code: int | None = None) -> ApiError:
        """The same as an error of the agent; ``code`` where another one says more."""
        known, kind = next((known for cause, known in _MEANING if isinstance(err, cause)))
        message = f"{err.where}: {err.message}" if err.where else err.message
        return cls(code or known, message, err.hint, kind)

    def response(self) -> web.Response:
        """The answer."""
        body = {"error": self.message, "kind": self.kind, "hint": self.hint}
        headers = {"WWW-Authenticate": "Bearer"} if self.code == UNAUTHORIZED else None
        return web.json_response(body, status=self.code, headers=headers)


UNAUTHORIZED, NOT_FOUND, TOO_MANY = 401, 404, 429
_KINDS = {
    400: "invalid",
    401: "denied",
    403: "denied",
    404: "invalid",
    408: "http",
    413: "http",
    421: "http",
    429: "denied",
    503: "unavailable",
}
_MEANING: tuple[tuple[type[CommitdError], tuple[int, str]], ...] = (
    (DeniedError, (503, "unavailable")),  # it is the agent that may not
    (ConfigError, (400, "invalid")),
    (PermanentError, (409, "failed")),
    (HeldError, (409, "held")),
    (CommitdError, (503, "unavailable")),
)
"""The first that an error is: its code of HTTP, and its kind."""


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around each answer: whatever is wrong is told in the same shape."""
    try:
        return await handler(request)
    except ApiError as err:
        return err.response()
    except web.HTTPException as err:
        answer = ApiError(err.status, err.reason, kind="http").response()
        if allowed := err.headers.get("Allow"):
            answer.headers["Allow"] = allowed
        return answer
    except ConnectionError:
        raise
    except Exception:
        log.exception("%s %s: unexpected", request.method, request.path)
        return ApiError(500, "unexpected error; the agent's log says more").response()
