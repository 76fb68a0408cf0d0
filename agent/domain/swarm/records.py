"""What managers of a Swarm share, as JSON: one record a stack, and one of the whole cluster.

A manager's journal is its own. What the next leader's decisions depend on is in these records too:
the last healthy release of a stack and how the newest try of it ended, and what people ordered.
Times are in seconds since the epoch, as no two machines count what they have run alike. Nothing in
a record is secret. What a newer version has added to one is left out; a record of a newer
``format`` is not understood at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from agent.domain.errors import ConfigError, PermanentError
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.release.release import Attempt, Release
from agent.domain.revision import Revision

LABEL = "io.commitd.record"
"""The label of the config that holds the JSON."""
OF_STACK = "io.commitd.record.stack"
"""The label with the stack that a record is about; the cluster's has none."""
CLUSTER = "commitd-cluster"
"""The name of the cluster's record."""
FORMAT = 1
MOST = 512 * 1024
"""Bytes of one record: engines take about a megabyte."""

_NAME_MOST = 64
_FITS = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9_.-]*[a-zA-Z0-9])?")


class RolledBack(Struct, frozen=True):
    """The stack is back at the release of ``revision``: the one of ``digest`` was not healthy."""

    digest: str
    revision: str
    reason: str


class StackRecord(Struct, frozen=True, kw_only=True):
    """Of one stack. ``started`` is the input that all its tasks were made for, healthy or not."""

    format: int = FORMAT
    stack: str
    release: Release | None = None
    attempt: Attempt | None = None
    rollback: RolledBack | None = None
    started: str | None = None


class Approval(Struct, frozen=True):
    """A commit that a person accepted, ``without_data`` also with what starts without its data."""

    sha: str
    without_data: bool = False


class ClusterRecord(Struct, frozen=True, kw_only=True):
    """Of the whole cluster. ``salt`` is made by its first leader, and stays.

    ``host`` is what the cluster is called ("" in records that do not say it), ``leader`` the ID of
    the manager that wrote it, ``applied`` the commit that is enforced,
    ``cliff`` the stacks that are held because too many would go at once, ``granted`` until when
    services that were brought back are exempt, by their IDs, ``agent`` the version of commitd
    that a person agreed to, though it is not newer.
    """

    format: int = FORMAT
    salt: str
    host: str = ""
    leader: str
    enrolled: str | None = None
    applied: Revision | None = None
    cliff: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    suspensions: tuple[Suspension, ...] = ()
    granted: Mapping[str, float] = {}
    agent: Mapping[str, Any] | None = None


Record = StackRecord | ClusterRecord
_Kind = TypeVar("_Kind", StackRecord, ClusterRecord)


def name(stack: str) -> str:
    """Of the config that holds the record of a stack."""
    plain = f"commitd-{stack}"
    if plain != CLUSTER and len(plain) <= _NAME_MOST and _FITS.fullmatch(plain):
        return plain
    return f"commitd-{stack[:32]}.{hashlib.sha256(stack.encode()).hexdigest()[:12]}"


def orders(record: ClusterRecord) -> frozenset[str]:
    """What people ordered, in words; each is the same however long it lasts.

    Without services that were brought back: each manager goes on leaving those alone that it knows.
    """
    found = {f"the approval of {each.sha[:7]}" for each in record.approvals}
    found |= {f"the suspension of {each.stack or 'the cluster'}" for each in record.suspensions}
    if record.enrolled:
        found.add("the enrolment")
    if record.agent:
        found.add("the approval of another version of commitd")
    return frozenset(found)


def is_name(found: str, stack: str | None) -> bool:
    """Whether a config of that name can be the record of ``stack`` (None: of the cluster).

    Any other with such labels is somebody else's, and says nothing.
    """
    return found == (CLUSTER if stack is None else name(stack))


def text(record: Record) -> str:
    """As it is kept. Raises :class:`PermanentError` for one that is too large."""
    found = msgspec.json.encode(record)
    if len(found) > MOST:
        raise PermanentError(
            f"the record of it for other managers has {len(found)} bytes, more than {MOST}",
            hint="split the stack: one with fewer files and services has a smaller record",
        )
    return found.decode()


def read(kept: str, kind: type[_Kind], where: str) -> _Kind:
    """What a manager has written; ``where`` names the config.

    Raises :class:`PermanentError` for what is none, or is of a newer version.
    """
    remove = f"docker config rm {where}: then what this manager remembers of it counts"
    try:
        written = msgspec.json.decode(kept, type=_Format).format
        if written > FORMAT:
            raise PermanentError(
                "a newer version of commitd has written this record",
                where=f"config {where}",
                hint=f"upgrade commitd on this manager; or {remove}",
            )
        return msgspec.json.decode(kept, type=kind)
    except (msgspec.MsgspecError, UnicodeError) as err:
        raise PermanentError(
            f"this record of commitd is damaged: {err}",
            where=f"config {where}",
            hint=remove,
        ) from None


def refuse_other(record: ClusterRecord, host: str) -> None:
    """Raise :class:`ConfigError` where the cluster is called otherwise than ``host``.

    Its managers would go by another list of stacks, and so remove what this one declares.
    """
    if record.host in {"", host}:
        return
    raise ConfigError(
        f"this Swarm is called {record.host}, and this manager's configuration says host: {host}",
        where=f"config {CLUSTER}",
        hint=f"write host: {record.host}; or, to call it {host}, stop the agents of all its"
        f" managers and docker config rm {CLUSTER}",
    )


def refuse_of_another(record: StackRecord, stack: str | None, where: str) -> None:
    """Raise :class:`PermanentError` where the config ``where`` of ``stack`` tells of another."""
    if record.stack != stack:
        raise PermanentError(
            f"this record is labelled as of {stack}, and tells of {record.stack}",
            where=f"config {where}",
            hint=f"docker config rm {where}: then what this manager remembers of it counts",
        )


class _Format(Struct):
    format: int = FORMAT
