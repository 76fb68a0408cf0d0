"""Whether secrets decrypt here, images can be pulled, and the forge can be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning
from agent.domain.finding import Fault

_SHOWN = 10


def unread(faults: Sequence[Fault], broken: Mapping[str, Fault]) -> Iterator[Finding]:
    """What is declared and cannot be read, so that nothing is known of what it needs."""
    for fault in (*faults, *broken.values()):
        yield problem(
            Code.REPOSITORY,
            f"{fault.where}: {fault.message}; what it needs was not looked at",
            fault.hint or "in a clone: commitd check",
        )


class Unusable(Struct, frozen=True):
    """Why a secret is of no use here, and what to do about it."""

    why: str
    remedy: str | None = None


def secrets(failures: Mapping[str, Unusable], total: int, by: str) -> Iterator[Finding]:
    """``failures`` are by path; ``by`` is how that was found out."""
    for path, each in [*failures.items()][:_SHOWN]:
        yield problem(
            Code.SECRETS,
            f"a secret of this host cannot be used: {path}: {each.why}",
            each.remedy or "in a clone: commitd secrets recipients shows who can read what",
        )
    if len(failures) > _SHOWN:
        more = f"{len(failures) - _SHOWN} more secrets of this host cannot be used"
        yield problem(Code.SECRETS, more, "mend the first ones, then look again")
    if not failures:
        said = f"each secret of this host decrypts: {total}, {by}"
        yield ok(Code.SECRETS, said if total else "this host needs no secret")


_WRITES = frozenset({"repo", "repo:status", "public_repo"})


def forge_token(
    forge: str, repository: str, *, scopes: Sequence[str] | None, may_push: bool | None
) -> Finding:
    """What the forge says of the token that it has accepted for ``repository``.

    ``scopes`` are those of a classic token of GitHub, None: it names none. ``may_push`` is the
    right of its account.
    """
    code = Code.FORGE_TOKEN
    if scopes is not None and not _WRITES & set(scopes):
        shown = ", ".join(scopes) or "none"
        return problem(
            code,
            f"the token may not write commit statuses of {repository}: its scopes are {shown}",
            "make one with the scope repo:status",
        )
    if scopes is not None:
        broad = "repo" in scopes
        if broad:
            return warning(
                code,
                f"the token has the scope repo, which may also push to {repository}",
                "make one with the scope repo:status alone",
            )
        return ok(code, f"the token has the scope {', '.join(scopes)}")
    if may_push is False and forge == "gitea":
        return problem(
            code,
            f"the token's account may not write to {repository}, so it can tell no status",
            "give the account the right to write to it: docs/how-to/commit-status.md",
        )
    return unknown(
        code,
        f"the forge accepts the token and shows {repository}; whether the token itself may write"
        " commit statuses it does not tell",
        "commitd status shows under outside whether statuses are accepted",
    )


def registry(name: str, why: str | None, *, login: str | None, images: int) -> Finding:
    """Whether ``images`` images of a registry are shown to this host; ``why`` they are not.

    ``login`` is the file that has the login, None: there is none.
    """
    code = Code.REGISTRY
    who = f"with the login in {login}" if login else "without a login"
    if why is None:
        some = f"{images} images" if images > 1 else "image"
        return ok(code, f"{name} shows the {some} of this host, {who}")
    return problem(code, f"{name}, {who}: {why}", f"docker login {name}, as root")
