"""What the configuration says that is known, valid, and a risk that somebody has to want."""

from __future__ import annotations

from collections.abc import Iterator

from agent.domain.config import Config
from agent.domain.doctor.finding import Code, Finding, ok, warning

_LONG_S = 15 * 60


def judge(config: Config) -> Iterator[Finding]:
    """Each risk that is taken, with what it is and how to end it."""
    found = list(_risks(config))
    yield from found
    if not found:
        yield ok(Code.CONFIG_CHOICE, "nothing in it takes a risk that the defaults do not")


def _risks(config: Config) -> Iterator[Finding]:
    if config.history == "follow":
        yield _risk(
            "history: follow: whoever can push may take this host back to any commit, unasked",
            "history: forward-only; commitd approve accepts a rewritten history once",
        )
    for remote in config.remotes:
        if remote.scheme == "http":
            yield _risk(
                f"remote {remote.name} is asked over plain http: whoever is on the way decides"
                " what runs here",
                "https:// with ca_file:, or ssh://",
            )
        if remote.poll > _LONG_S and config.hooks is None:
            yield _risk(
                f"remote {remote.name} is asked every {remote.poll / 60:.0f} min, so a commit"
                " waits for as long",
                "a shorter poll:, or hooks:",
            )
    if config.commit_status and config.commit_status.plain_http:
        yield _risk(
            "commit_status: the token goes over plain http, where others can read it",
            "https:// as its url:",
        )
    if config.undeclared.mode != "remove":
        yield _risk(
            f"undeclared.mode: {config.undeclared.mode}: what nobody declared is not removed",
            "mode: remove, once commitd plan shows nothing that has to stay",
        )
    if config.undeclared.keep < 60:  # noqa: PLR2004  seconds
        yield _risk(
            "undeclared.keep is so short that commitd undo comes too late",
            "keep: 24h",
        )
    if config.teardown_limit >= 1:
        yield _risk(
            f"teardown_limit: {config.teardown_limit:.0%}: one commit may take down all stacks"
            " but the last, unasked",
            "teardown_limit: 50%",
        )
    for peer in config.peers:
        if peer.url.startswith("http://") and peer.token_file:
            yield _risk(
                f"peer {peer.name} is asked over plain http, and its token with it",
                "https:// in front of it",
            )


def _risk(what: str, remedy: str) -> Finding:
    return warning(Code.CONFIG_CHOICE, what, remedy)
