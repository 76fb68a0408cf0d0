"""Commit statuses of Gitea (and Forgejo) and of GitHub: one request each, of the same shape.

https://docs.gitea.com/api (repoCreateStatus), https://docs.github.com/rest/commits/statuses
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from msgspec import Struct

from agent.adapters.outside import http
from agent.adapters.outside.http import Reply
from agent.domain.errors import BusyError, CommitdError, PermanentError, UnreachableError
from agent.domain.outside.commit_status import Report
from agent.domain.outside_config import CommitStatus

_OK, _CREATED, _NOT_FOUND = 200, 201, 404
_MOST = 256 * 1024
_PATIENCE_S = 60.0
_LONGEST_S = 3600.0


async def tell(section: CommitStatus, context: str, report: Report, token: str) -> None:
    """Have the forge show the report under ``context``.

    Raises :class:`PermanentError` for what is wrong with the request, :class:`BusyError` and
    :class:`UnreachableError` for what may pass. None of them shows the token, or what was said.
    """
    status = {"state": report.state, "context": context, "description": report.text}
    if section.page_url:
        status["target_url"] = section.page_url
    reply = await http.ask(
        "POST",
        f"{section.statuses}/{report.revision}",
        {"Content-Type": "application/json", **_headers(section, token)},
        json.dumps(status).encode(),
        ca_file=section.ca_file,
    )
    if reply.status != _CREATED:
        raise _refusal(reply, section, report.revision[:7])


class Seen(Struct, frozen=True, kw_only=True):
    """What a forge shows of a token: ``scopes``, None where it names none, and whether the account
    that it belongs to may push; None where it does not say.
    """

    scopes: tuple[str, ...] | None
    may_push: bool | None


async def look(section: CommitStatus, token: str) -> Seen:
    """Ask for the repository with the token, which changes nothing. Raises as :func:`tell`."""
    reply = await http.ask(
        "GET",
        section.statuses.removesuffix("/statuses"),
        _headers(section, token),
        ca_file=section.ca_file,
        most=_MOST,
    )
    if reply.status == _NOT_FOUND:
        message = f"404: there is no {section.repository} that the token may see"
        raise PermanentError(message, hint="see repository: and the token's rights")
    if reply.status != _OK:
        raise _refusal(reply, section, "")
    try:
        said = json.loads(reply.body)
    except ValueError:
        said = None
    if not isinstance(said, Mapping):
        raise PermanentError("what answers there is not the API of a forge")
    rights = said.get("permissions")
    push = rights.get("push") if isinstance(rights, Mapping) else None
    named = reply.headers.get("x-oauth-scopes")
    scopes = None if named is None else tuple(s.strip() for s in named.split(",") if s.strip())
    return Seen(scopes=scopes, may_push=push if isinstance(push, bool) else None)


def _headers(section: CommitStatus, token: str) -> dict[str, str]:
    if section.forge == "gitea":
        return {"Accept": "application/json", "Authorization": f"token {token}"}
    return {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {token}",
        "X-GitHub-Api-Version": "2022-11-28",
    }


def _refusal(reply: Reply, section: CommitStatus, commit: str) -> CommitdError:
    status, repository = reply.status, section.repository
    patience_s = _patience_s(reply)
    match status:
        case 429 | 503:
            return BusyError(f"{status}: too many requests, or out of service",
                             retry_after_s=patience_s)  # fmt: skip
        case 403 if patience_s is not None:  # GitHub's way to say 429
            return BusyError("403: too many requests", retry_after_s=patience_s)
        case 401:
            return PermanentError(f"401: the token in {section.token_file} is not accepted")
        case 403:
            hint = f"it needs to write commit statuses of {repository}"
            return PermanentError("403: the token may not do this", hint=hint)
        case 404 | 422:
            hint = "a mirror may lag behind; else see repository: and the token's rights"
            return PermanentError(
                f"{status}: there is no {repository} with {commit} that the token may see",
                hint=hint,
            )
        case _ if 300 <= status < 400:  # noqa: PLR2004
            hint = "redirects are not followed; write the forge's own url and the name of today"
            return PermanentError(f"{status}: the forge sends us elsewhere", hint=hint)
        case _ if status >= 500:  # noqa: PLR2004
            return UnreachableError(f"{status}: the forge has failed")
        case _:
            return PermanentError(f"{status}: what answers there is not the API of a forge")


def _patience_s(reply: Reply) -> float | None:
    """Seconds for which the forge wants to be left alone, an hour at most; None: it does not say.

    GitHub says when its limit ends in headers of its own.
    """
    if (said := reply.retry_after_s) is not None:
        return said
    if reply.headers.get("x-ratelimit-remaining") != "0":
        return None
    ends = reply.headers.get("x-ratelimit-reset", "")
    left_s = float(ends) - time.time() if ends.isdecimal() and ends.isascii() else _PATIENCE_S
    return min(max(left_s, 1.0), _LONGEST_S)
