"""Errors of the API: JSON with what is wrong and what to do, and a code of HTTP."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from agent.domain.errors import CommitdError

log = logging.getLogger("commitd.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """What a client is told. ``code`` is of HTTP."""

    def __init__(self, code: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @classmethod
    def of(cls, err: CommitdError, code: int = 503) -> ApiError:
        """The same as an error of the agent, which cannot answer now unless ``code`` says else."""
        return cls(code, f"{err.where}: {err.message}" if err.where else err.message, err.hint)

    def response(self) -> web.Response:
        """The answer."""
        body = {"error": self.message} | ({"hint": self.hint} if self.hint else {})
        return web.json_response(body, status=self.code)


@web.middleware
async def as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around each answer: whatever is wrong is told in the same shape."""
    try:
        return await handler(request)
    except ApiError as err:
        return err.response()
    except web.HTTPException as err:
        headers = {"Allow": err.headers["Allow"]} if "Allow" in err.headers else None
        return web.Response(
            text=json.dumps({"error": err.reason}),
            status=err.status,
            headers=headers,
            content_type="application/json",
        )
    except ConnectionError:
        raise
    except Exception:
        log.exception("%s %s: unexpected", request.method, request.path)
        return ApiError(500, "unexpected error; the agent's log says more").response()
