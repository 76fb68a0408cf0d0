"""What a look at the host found: what it is about, how bad it is, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from msgspec import Struct


class Level(StrEnum):
    """How bad it is, worst first. ``unknown``: it could not be looked at, so nothing is claimed."""

    PROBLEM = "problem"
    WARNING = "warning"
    UNKNOWN = "unknown"
    OK = "ok"


class Code(StrEnum):
    """What was looked at: a stable contract. What each means is in the reference."""

    CONFIG = "config"
    CONFIG_CHOICE = "config-choice"
    GIT = "git"
    DOCKER = "docker"
    DOCKER_SOCKET = "docker-socket"
    DOCKER_SERVICE = "docker-service"
    SWARM = "swarm"
    COMPOSE = "compose"
    SOPS = "sops"
    CLOCK = "clock"
    SPACE = "space"
    INODES = "inodes"
    DIRECTORY = "directory"
    JOURNAL = "journal"
    SECRET_FILE = "secret-file"  # noqa: S105  a code
    TRUST_FILE = "trust-file"
    AGE_KEY = "age-key"
    IDENTITY = "identity"
    HOST_KEY = "host-key"
    REMOTE = "remote"
    REPOSITORY = "repository"
    SECRETS = "secrets"
    FORGE_TOKEN = "forge-token"  # noqa: S105  a code
    REGISTRY = "registry"
    UNIT = "unit"
    UNIT_DROP_IN = "unit-drop-in"
    AGENT = "agent"
    AGENT_VERSION = "agent-version"
    TRIAL = "trial"
    PLAN = "plan"


class Finding(Struct, frozen=True):
    """One thing that was looked at. ``what`` and ``remedy`` never hold a secret.

    ``remedy`` says what to do, empty where nothing is.
    """

    code: Code
    level: Level
    what: str
    remedy: str = ""


def ok(code: Code, what: str) -> Finding:
    """It was looked at, and is as it should be."""
    return Finding(code, Level.OK, what)


def warning(code: Code, what: str, remedy: str) -> Finding:
    """It works, and may not for long, or is not as safe as it could be."""
    return Finding(code, Level.WARNING, what, remedy)


def problem(code: Code, what: str, remedy: str) -> Finding:
    """It does not work, or will not."""
    return Finding(code, Level.PROBLEM, what, remedy)


def unknown(code: Code, what: str, remedy: str = "") -> Finding:
    """It was not looked at: ``what`` says why."""
    return Finding(code, Level.UNKNOWN, what, remedy)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of all; where nothing was looked at, nothing is wrong."""
    found = {each.level for each in findings}
    return next((level for level in Level if level in found), Level.OK)


def by_level(findings: Iterable[Finding]) -> list[Finding]:
    """The worst first, and else in the order in which they were looked at."""
    order = list(Level)
    return sorted(findings, key=lambda each: order.index(each.level))


def document(
    findings: Iterable[Finding], *, host: str | None, version: str, at: str
) -> dict[str, Any]:
    """The document of ``doctor --json``: a stable contract. ``at`` is ISO 8601 in UTC."""
    found = by_level(findings)
    return {
        "host": host,
        "version": version,
        "looked_at": at,
        "level": worst(found),
        "findings": [
            {"code": f.code, "level": f.level, "what": f.what, "remedy": f.remedy} for f in found
        ],
    }
