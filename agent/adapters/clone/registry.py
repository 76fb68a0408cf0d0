"""Asks registries which digest a tag has now, as a Docker engine would ask before it pulls.

The digest is that of what the tag names: the list of all platforms when there is one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp
import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters.clone import registry_http
from agent.adapters.engine.docker_config import Login
from agent.adapters.probes import http_errors
from agent.adapters.probes.base import CONNECT_S
from agent.adapters.retrying import in_passing, retrying
from agent.domain.backoff import Backoff
from agent.domain.errors import BusyError, PermanentError, UnreachableError
from agent.domain.repository.image_reference import HUB, Reference, is_digest

ANSWER_S = 30.0
"""For one request altogether."""
TRIES = 4
PATIENCE_S = 30.0
"""The longest that a registry may have us wait before the next try."""
PARALLEL = 8
_PAUSES = Backoff(first_s=0.5, longest_s=PATIENCE_S)
_REDIRECTS = 5
_MAX_BODY = 4 * 1024 * 1024
"""No registry takes a larger manifest."""
_HUB_HOST = "registry-1.docker.io"
_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_TOO_OLD = "application/vnd.docker.distribution.manifest.v1"
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')

_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_NO_HEAD = {405, 501}
_BUSY = {429, 503}


class _Reply(Struct, frozen=True, kw_only=True):
    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    body: bytes
    retry_after_s: float | None


class Registries:
    """Any number of registries, asked side by side; use it with ``async with``.

    ``login`` gives the login for a registry, or None.
    """

    def __init__(self, login: Callable[[str], Awaitable[Login | None]]) -> None:
        self._login = login
        self._limit = anyio.CapacityLimiter(PARALLEL)
        self._session: aiohttp.ClientSession | None = None
        self._authorizations: dict[tuple[str, str], str] = {}
        self._gone: dict[str, UnreachableError] = {}

    async def __aenter__(self) -> Self:
        trust = await anyio.to_thread.run_sync(http_errors.trust)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trust),
            headers={"User-Agent": "commitd", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, connect=CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # which would send what is in ~/.netrc
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def digest(self, reference: Reference) -> str:
        """The digest, ``sha256:…``, that the reference's tag has now.

        Raises :class:`PermanentError` when there is none or it is not shown to us, and
        :class:`TransientError` after ``TRIES`` tries. No message holds a secret.
        """
        async with self._limit:
            try:
                return await retrying(TRIES, _PAUSES, _worth_another)(self._ask, reference)
            except BusyError:
                raise
            except UnreachableError as err:
                self._gone[reference.registry] = err
                raise

    async def _ask(self, reference: Reference) -> str:
        # One registry that is away costs its time-outs once, not for each image.
        if gone := self._gone.get(reference.registry):
            raise PermanentError(gone.message, hint=gone.hint)
        return await self._digest(reference)

    async def _digest(self, reference: Reference) -> str:
        said = await self._manifest("HEAD", reference)
        if said.status not in _NO_HEAD:
            _check(said, reference)
            digest = said.headers.get("Docker-Content-Digest", "")
            if is_digest(digest):
                return digest
        said = await self._manifest("GET", reference)
        _check(said, reference)
        return f"sha256:{hashlib.sha256(said.body).hexdigest()}"

    async def _manifest(self, method: str, reference: Reference) -> _Reply:
        registry = reference.registry
        scheme = "http" if registry_http.is_loopback(registry) else "https"
        host = _HUB_HOST if registry == HUB else registry
        url = f"{scheme}://{host}/v2/{reference.repository}/manifests/{reference.asked_tag}"
        place = (registry, reference.repository)
        headers = {"Accept": ", ".join(_TYPES)}
        if known := self._authorizations.get(place):
            headers["Authorization"] = known
        said = await self._send(method, url, registry, headers=headers)
        if said.status == _UNAUTHORIZED and known is None:
            self._authorizations[place] = await self._authorization(said.challenges, reference)
            headers["Authorization"] = self._authorizations[place]
            said = await self._send(method, url, registry, headers=headers)
        return said

    async def _authorization(self, challenges: tuple[str, ...], reference: Reference) -> str:
        """What to say to a registry that wants to know who asks, and for what."""
        kinds = {challenge.partition(" ")[0].lower(): challenge for challenge in challenges}
        login = await self._login(reference.registry)
        if "bearer" in kinds:
            return await self._token(dict(_PARAMETER.findall(kinds["bearer"])), login, reference)
        if "basic" in kinds and login is not None and login.username is not None:
            return login.basic
        raise _denied(reference)

    async def _token(
        self, wanted: Mapping[str, str], login: Login | None, reference: Reference
    ) -> str:
        registry, realm = reference.registry, wanted.get("realm", "")
        if not _may_hear(realm, registry):
            raise PermanentError(
                f"{registry} sends us for a token to a place that is not https",
                hint="the registry's settings have to change",
            )
        asked = {
            "service": wanted.get("service", ""),
            "scope": wanted.get("scope") or f"repository:{reference.repository}:pull",
        }
        if login is not None and login.username is None:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": login.secret}
            form["client_id"] = "commitd"
            said = await self._send("POST", realm, registry, data=form)
        else:
            headers = {"Authorization": login.basic} if login else {}
            said = await self._send("GET", realm, registry, headers=headers, params=asked)
        _check(said, reference)
        try:
            answer = json.loads(said.body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise UnreachableError(f"{registry} gives no token where it says that there is one")
        return f"Bearer {token}"

    async def _send(self, method: str, url: str, registry: str, **what: Any) -> _Reply:
        """One request and its answer, redirects followed from https to https only."""
        if self._session is None:
            raise RuntimeError("not entered")
        try:
            for _ in range(_REDIRECTS):
                async with self._session.request(
                    method, url, allow_redirects=False, proxy=registry_http.proxy(url), **what
                ) as response:
                    to = urljoin(url, response.headers.get("Location", url))
                    moved = 300 <= response.status < 400  # noqa: PLR2004
                    if method == "POST" or not moved or to == url:
                        return await _read(response)
                if {urlsplit(url).scheme, urlsplit(to).scheme} != {"https"}:
                    raise PermanentError(f"{registry} sends us to a place that is not https")
                if urlsplit(to).netloc != urlsplit(url).netloc:  # who is not to hear our secrets
                    what["headers"] = {"Accept": what.get("headers", {}).get("Accept", "*/*")}
                url = to
                what.pop("params", None)
        except TimeoutError as err:
            known = isinstance(err, aiohttp.ConnectionTimeoutError)
            why = registry_http.failure(err) if known else f"no answer within {ANSWER_S:g} s"
            raise _unreachable(registry, why) from None
        except aiohttp.ClientSSLError as err:  # trust does not grow by asking again
            raise PermanentError(f"{registry}: {registry_http.failure(err)}") from None
        except (aiohttp.ClientError, ValueError) as err:
            raise _unreachable(registry, registry_http.failure(err)) from None
        raise PermanentError(f"{registry} sends us from one place to the next without end")


async def _read(response: aiohttp.ClientResponse) -> _Reply:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > _MAX_BODY:
            raise PermanentError(f"{response.host} answers with more than {_MAX_BODY:,} bytes")
    challenges = tuple(response.headers.getall("WWW-Authenticate", ()))
    return _Reply(
        status=response.status,
        headers=response.headers,
        challenges=challenges,
        body=bytes(body),
        retry_after_s=http_errors.retry_after(response.headers.get("Retry-After", "")),
    )


def _check(said: _Reply, reference: Reference) -> None:
    """Raise unless the answer is the one that was hoped for."""
    registry, status = reference.registry, said.status
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        raise _denied(reference)
    if status == _NOT_FOUND:
        raise PermanentError(
            f"{registry} has no {reference.repository}:{reference.asked_tag}",
            hint="check the name and the tag",
        )
    if status in _BUSY:
        raise BusyError(
            f"{registry} answers {status}: it is too busy",
            retry_after_s=said.retry_after_s,
        )
    if status >= 500:  # noqa: PLR2004
        raise UnreachableError(f"{registry} answers {status}: it has failed", hint="try later")
    if status != _OK:
        raise PermanentError(f"{registry} answers {status}", hint="check the name and the tag")
    if said.headers.get("Content-Type", "").startswith(_TOO_OLD):
        raise PermanentError(
            f"{registry} has {reference.repository}:{reference.asked_tag} only as a schema 1 "
            "manifest",
            hint="push it again with a newer Docker",
        )


def _denied(reference: Reference) -> PermanentError:
    login = "docker login" if reference.registry == HUB else f"docker login {reference.registry}"
    return PermanentError(
        f"{reference.registry} does not show {reference.repository} to us",
        hint=f"check the name; if it is private, {login}",
    )


def _unreachable(registry: str, why: str) -> UnreachableError:
    return UnreachableError(f"{registry}: {why}", hint="check the name and the network")


def _worth_another(err: BaseException) -> bool:
    if isinstance(err, BusyError):
        return (err.retry_after_s or 0) <= PATIENCE_S
    return in_passing(err)


def _may_hear(realm: str, registry: str) -> bool:
    """Whether a login may be sent there: over https, or within this machine."""
    try:
        parts = urlsplit(realm)
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname)
    return (
        parts.scheme == "http"
        and registry_http.is_loopback(parts.netloc)
        and registry_http.is_loopback(registry)
    )
