"""What setup has to know, from flags, from a person, or from an earlier try.

--remote, --host, …  ─┐
an earlier try       ─┼─over─▶ Answers ─sections─▶ what config.yaml says of it
questions            ─┘
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from agent.domain.config import Remote, Sops
from agent.domain.errors import ConfigError

SOPS_IMAGE = "ghcr.io/getsops/sops:v3.11.0-alpine"
"""What is offered where no program is found; its registry says the digest."""
NO_SOPS = "none"

_CREDENTIAL = re.compile(r"https?://[^/]*@")
_SCP_HOST = re.compile(r"(?:[^@/]+@)?([^:/]+):")


class Wanted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One remote, and how it is read where that takes more than the host's deploy key."""

    name: str
    url: str
    username: str | None = None
    token_file: str | None = None
    ca_file: str | None = None

    @property
    def scheme(self) -> str:
        """See :class:`Remote`."""
        return Remote(name=self.name, url=self.url).scheme


class Answers(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``sops`` is an image, the path of a program, or ``none``. None: not answered."""

    host: str | None = None
    branch: str | None = None
    remotes: tuple[Wanted, ...] = ()
    sops: str | None = None

    def over(self, other: Answers) -> Answers:
        """These, and those of ``other`` for what is not answered here."""
        mine = {key: value for key, value in asdict(self).items() if value}
        return Answers(**{**asdict(other), **mine})


def remotes(urls: Sequence[str]) -> tuple[Wanted, ...]:
    """Those that ``[NAME=]URL`` name; one without a name is called as its server is."""
    found: dict[str, Wanted] = {}
    for text in urls:
        named = re.fullmatch(r"([a-z0-9][a-z0-9_-]*)=(.+)", text)
        name, url = named.groups() if named else (_name(text), text)
        if _CREDENTIAL.match(url):
            hint = "--token-file FILE, with the token in that file"
            raise ConfigError("the url holds a credential", where="--remote", hint=hint)
        if not named:
            taken = sum(each.rstrip("0123456789") == name for each in found)
            name = f"{name}{taken + 1}" if taken else name
        if name in found:
            raise ConfigError(f"two remotes are called {name!r}", where="--remote")
        found[name] = Wanted(name=name, url=url)
    return tuple(found.values())


def _name(url: str) -> str:
    match = _SCP_HOST.match(url)
    try:
        server = urlsplit(url).hostname if "://" in url else match and match[1]
    except ValueError:
        server = None
    if not server:
        return "local" if url.startswith("file:") else "git"
    try:
        ipaddress.ip_address(server)
    except ValueError:
        label = server.lower().rstrip(".").split(".")[-2:][0]
        return label if re.fullmatch(r"[a-z0-9][a-z0-9_-]*", label) else "git"
    return "git"


def told(wanted: Sequence[Wanted], key: str, values: Iterable[str]) -> tuple[Wanted, ...]:
    """The remotes with what ``[NAME=]VALUE`` say of their ``key``; NAME only where it is needed.

    Raises :class:`ConfigError`.
    """
    flag = f"--{key.replace('_', '-')}"
    found = {each.name: each for each in wanted}
    over_https = [each.name for each in wanted if each.scheme == "https"]
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or name not in found:
            if len(over_https) != 1:
                message = f"which remote {text!r} belongs to is not known"
                raise ConfigError(message, where=flag, hint=f"write NAME={text}")
            name, value = over_https[0], text
        found[name] = msgspec.structs.replace(found[name], **{key: value})
    return tuple(found.values())


def sections(
    answers: Answers, sops: Sops | None, directory: Path, before: dict[str, Any]
) -> dict[str, Any]:
    """What the answers mean for the configuration ``before``, by its top-level keys.

    Keys are in ``directory``. What ``before`` says beyond the answers stays.
    """
    found: dict[str, Any] = {}
    if answers.host:
        found["host"] = answers.host
    if answers.branch:
        found["branch"] = answers.branch
    if answers.remotes:
        known = {each.get("name"): each for each in before.get("remotes") or ()}
        found["remotes"] = [
            {**_usual(each, directory), **known.get(each.name, {}), **_answered(each)}
            for each in answers.remotes
        ]
    if sops:
        secrets = {"age_key": str(directory / "age.key"), **(before.get("secrets") or {})}
        pinned = {key: str(value) for key, value in asdict(sops).items() if value}
        found["secrets"] = {**secrets, "sops": pinned}
    return found


def _usual(wanted: Wanted, directory: Path) -> dict[str, str]:
    """What holds for a remote of which nobody says it."""
    entry = {"name": wanted.name, "url": wanted.url}
    if wanted.scheme == "ssh":
        entry |= {
            "ssh_key": str(directory / "deploy_key"),
            "known_hosts": str(directory / "known_hosts"),
        }
    if wanted.token_file:
        entry["username"] = "git"
    return entry


def _answered(wanted: Wanted) -> dict[str, str]:
    return {key: value for key, value in asdict(wanted).items() if value}
