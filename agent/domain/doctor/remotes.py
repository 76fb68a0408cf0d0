"""The remotes: whether they are who they were, answer, and have this host."""

from __future__ import annotations

from collections.abc import Sequence

from agent.domain.doctor.finding import Code, Finding, ok, problem, warning


def host_key(server: str, known_hosts: str, pinned: Sequence[str], shown: Sequence[str]) -> Finding:
    """``pinned`` and ``shown`` are fingerprints (``SHA256:…``) with their kinds.

    A server may show more keys than are pinned; one that is both is enough.
    """
    code = Code.HOST_KEY
    if not pinned:
        return problem(
            code,
            f"no host key of {server} is pinned in {known_hosts}; it shows {_listed(shown)}",
            "compare it with what the server's owner says, then commitd setup pins it",
        )
    if common := [each for each in shown if each in pinned]:
        return ok(code, f"{server} shows the host key that is pinned: {common[0]}")
    return problem(
        code,
        f"the host key of {server} has changed: pinned {_listed(pinned)}, shown {_listed(shown)}",
        "somebody else may be answering: ask the server's owner; if it is right, take its lines"
        f" out of {known_hosts} and run commitd setup",
    )


def shared_key(host: str, other: str, remote: str) -> Finding:
    """The age key that is here is that of the host ``other``, by its ``age.pub``."""
    return problem(
        Code.IDENTITY,
        f"the age key of {host} is that of {other} as well, by host/{other}/age.pub at {remote}",
        "commitd setup makes a new one here, if this machine is a clone of that",
    )


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) or "none"


def repository(
    host: str, remote: str, *, listed: bool, age: Sequence[str] | None, own: Sequence[str] | None
) -> Finding:
    """What the head of the branch at ``remote`` says of this host.

    ``listed``: there is a ``stacks.yaml``. ``age`` are the recipients in its ``age.pub``, None
    without one; ``own`` those of the key that is here, None where that is not known.
    """
    code = Code.REPOSITORY
    if not listed:
        return problem(
            code,
            f"{remote} has no host/{host}/stacks.yaml: nothing is declared for this host",
            f"commit one, or mend host: in the configuration if it is not {host}",
        )
    if age is None and own:
        return warning(
            code,
            f"{remote} has no host/{host}/age.pub, so that check cannot tell who reads what",
            f"commit host/{host}/age.pub with {own[0]}",
        )
    if age is not None and own and not set(age) & set(own):
        return problem(
            code,
            f"host/{host}/age.pub at {remote} is of another key than the one that is here",
            f"commit it with {own[0]} and encrypt for that: commitd secrets recipients --update",
        )
    return ok(code, f"{remote} has host/{host}, and is read")
