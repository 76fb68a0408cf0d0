from __future__ import annotations

import pytest

from agent.domain.sops.heuristics import looks_secret


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PASSWORD", "hunter2"),
        ("POSTGRES_PASSWORD", "x"),
        ("MYSQL_ROOT_PASSWORD", "12345"),
        ("db_pass", "/abc"),
        ("PGPW", "abc"),
        ("API_TOKEN", "abc"),
        ("GITHUB_TOKEN", "abc"),
        ("SECRET_KEY_BASE", "abc"),
        ("AWS_SECRET_ACCESS_KEY", "abc"),
        ("APIKEY", "abc"),
        ("Auth__ClientSecret", "abc"),
        ("APPSECRET", "abc"),
        ("USER_PASSWORDS", "a:b"),
        ("SENTRY_DSN", "abc"),
        ("DATABASE_URL", "postgres://me:pw@db/x"),
        ("ANYTHING", "https://:pw@example.com"),
    ],
)
def test_what_looks_secret(name: str, value: str) -> None:
    assert looks_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TZ", "Europe/Berlin"),
        ("POSTGRES_USER", "me"),
        ("POSTGRES_PASSWORD_FILE", "/run/secrets/pw"),
        ("PASSWORD", "/run/secrets/pw"),
        ("PASSWORD_MIN_LENGTH", "8"),
        ("TOKEN_TTL", "3600000"),
        ("AUTH_TOKEN", "0"),
        ("SSO_SECRET", "false"),
        ("API_KEY", ""),
        ("SSH_PUBLIC_KEY", "ssh-ed25519 AAAA"),
        ("BASE_URL", "https://example.com:8443/a@b"),
        ("KEYBOARD", "de"),
        ("MAX_TOKENS", "4096"),
        ("SECRETARY", "Ada"),
    ],
)
def test_what_does_not(name: str, value: str) -> None:
    assert not looks_secret(name, value)
