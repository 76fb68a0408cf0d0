"""References of images: what they mean to a registry, and whether they are pinned."""

from __future__ import annotations

import re

from msgspec import Struct

from agent.domain.errors import PermanentError

HUB = "docker.io"
"""Where an image lives whose name says nothing else."""
DEFAULT_TAG = "latest"

_MAX_LENGTH = 512
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_STEP = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_STEP}(?:/{_STEP})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PINNED_END = re.compile(rf".+:{_TAG.pattern}@{_DIGEST.pattern}", re.DOTALL)
_ONE_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})", re.ASCII)


class Reference(Struct, frozen=True, kw_only=True):
    """An image as Docker understands it.

    ``name`` is as it was written, without tag and digest; ``registry`` and ``repository`` say what
    it stands for: ``nginx`` is ``library/nginx`` of ``docker.io``.
    """

    name: str
    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @property
    def asked_tag(self) -> str:
        """The tag that a registry is asked for."""
        return self.tag or DEFAULT_TAG

    def at(self, digest: str) -> str:
        """The same image pinned to ``digest``, its name as it was written."""
        return f"{self.name}:{self.asked_tag}@{digest}"


def parse(text: str) -> Reference:
    """Read ``[registry/]name[:tag][@sha256:digest]``. Raises :class:`PermanentError`."""
    if len(text) > _MAX_LENGTH:
        raise _invalid(text, f"it is longer than {_MAX_LENGTH} characters")
    before, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise _invalid(text, "after @ comes sha256: and 64 hexadecimal digits")
    name, tag = before, None
    if (colon := before.rfind(":")) > before.rfind("/"):
        name, tag = before[:colon], before[colon + 1 :]
        if not _TAG.fullmatch(tag):
            raise _invalid(text, f"{tag!r} cannot be a tag")
    registry, repository = _place(name)
    if not _REGISTRY.fullmatch(registry):
        raise _invalid(text, f"{registry!r} cannot be a registry")
    if not _REPOSITORY.fullmatch(repository):
        raise _invalid(text, "a name has lower-case letters, digits and single . _ - between them")
    return Reference(
        name=name, registry=registry, repository=repository, tag=tag, digest=digest or None
    )


def is_digest(text: str) -> bool:
    """Whether ``text`` is ``sha256:`` and 64 hexadecimal digits."""
    return bool(_DIGEST.fullmatch(text))


def pinned(text: str) -> bool:
    """Whether ``text`` is ``name:tag@sha256:digest``."""
    try:
        reference = parse(text)
    except PermanentError:
        return False
    return reference.tag is not None and reference.digest is not None


def question(text: str) -> Reference | None:
    """What to ask a registry to pin ``text``, as a Compose file has it; None: it is pinned.

    Raises :class:`PermanentError`, without a place, when only a person can change it.
    """
    if "$" in text:
        # Whatever the variables in the name become, the digest at the end decides what runs.
        if _PINNED_END.fullmatch(text):
            return None
        where_else = " (env files are not searched)" if _ONE_VARIABLE.fullmatch(text) else ""
        raise PermanentError(
            f"{text} takes its value from a variable, which cannot be pinned{where_else}",
            hint="write the reference itself here, name:tag, where Renovate sees it too; "
            "then commitd pin",
        )
    reference = parse(text)
    if reference.digest is None:
        return reference
    if reference.tag is None:
        raise PermanentError(
            f"{text} has a digest but no tag",
            hint=f"write the tag that it belongs to: {reference.name}:TAG@{reference.digest}",
        )
    return None


def _place(name: str) -> tuple[str, str]:
    """Registry and repository, by Docker's rule of which first step is a registry's name."""
    first, slash, rest = name.partition("/")
    is_registry = "." in first or ":" in first or first == "localhost" or first != first.lower()
    registry, repository = (first, rest) if slash and is_registry else (HUB, name)
    if registry in {HUB, "index.docker.io"}:
        registry = HUB
        repository = repository if "/" in repository else f"library/{repository}"
    return registry, repository


def _invalid(text: str, why: str) -> PermanentError:
    shown = text if len(text) <= _MAX_LENGTH else f"{text[:80]}…"
    return PermanentError(f"{shown!r} is not the name of an image: {why}", hint="name:tag")
