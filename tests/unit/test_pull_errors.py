from __future__ import annotations

import pytest

from agent.adapters.engine.images import ImageError, RegistryBusyError, _meaning
from agent.domain.errors import CommitdError, TransientError

IMAGE = "registry.example/app:1@sha256:{}"
CLEAN = "a" * 64


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("toomanyrequests: You have reached your pull rate limit", RegistryBusyError),
        ("unexpected status from HEAD request to http://r/v2/: 429 Too Many Requests", None),
        ("error parsing HTTP 429 response body: invalid character '<'", RegistryBusyError),
        ("manifest unknown", ImageError),
        ("pull access denied for app, repository does not exist", ImageError),
        ("Get https://r/v2/: unauthorized: authentication required", ImageError),
        ("no matching manifest for linux/amd64 in the manifest list entries", ImageError),
        ("dial tcp: lookup r: no such host", TransientError),
        ("net/http: TLS handshake timeout", TransientError),
        ("timed out: nothing came for 120 s", TransientError),
        ("something else", TransientError),
    ],
)
def test_what_an_engine_says_of_a_pull_has_a_meaning(
    said: str, kind: type[CommitdError] | None
) -> None:
    assert type(_meaning(IMAGE.format(CLEAN), said)) is (kind or RegistryBusyError)


REF = f"registry.example:5000/team/app:1@sha256:{CLEAN}"
HEAD = f"https://registry.example:5000/v2/team/app/manifests/sha256:{CLEAN}"
SHORT = HEAD.replace(CLEAN, f"{CLEAN[:12]}…")
RESOLVE = f'failed to resolve reference "{REF}": '
DENIED = "pull access denied, repository does not exist or may require authorization"
NO_BASIC = f"{DENIED}: authorization failed: no basic auth credentials"
REFUSED = "dial tcp 192.0.2.1:5000: connect: connection refused"
STATUS = "unexpected status from HEAD request to"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (f"manifest for {REF} not found: manifest unknown: manifest unknown", "manifest unknown"),
        (f"{RESOLVE}{REF}: not found", "not found"),
        (f"{RESOLVE}{NO_BASIC}", NO_BASIC),
        (
            f'{RESOLVE}failed to do request: Head "{HEAD}": {REFUSED}',
            f'failed to do request: Head "{SHORT}": {REFUSED}',
        ),
        (
            f"unknown: {RESOLVE}{STATUS} {HEAD}: 503 Unavailable",
            f"{STATUS} {SHORT}: 503 Unavailable",
        ),
        ("received unexpected HTTP status: 500", "received unexpected HTTP status: 500"),
        (f"{'because ' * 99}it is full", f"… {'because ' * 36}it is full"),
    ],
)
def test_the_reference_is_named_once_and_the_reason_is_kept(said: str, reason: str) -> None:
    assert _meaning(REF, said).message == f"{REF} cannot be pulled: {reason}"


@pytest.mark.parametrize(
    "image",
    [
        IMAGE.format("429" + "a" * 61),
        IMAGE.format("503" + "a" * 61),
        f"registry.example:5000/app:1@sha256:{CLEAN}",
        f"registry.example/app:429@sha256:{CLEAN}",
    ],
)
def test_numbers_in_the_name_of_an_image_mean_nothing(image: str) -> None:
    said = f"manifest for {image} not found: manifest unknown: manifest unknown"
    assert type(_meaning(image, said)) is ImageError


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable"])
def test_a_registry_that_is_broken_is_left_alone_for_a_while(status: str) -> None:
    said = f"received unexpected HTTP status: {status}"
    assert type(_meaning(IMAGE.format(CLEAN), said)) is RegistryBusyError


def test_where_a_login_is_missing_nobody_asks_again_at_once() -> None:
    said = 'Head "https://r/v2/app/manifests/sha256:aa": no basic auth credentials'
    assert type(_meaning(IMAGE.format(CLEAN), said)) is ImageError
