"""Who can read which secret against who has to: proved from the repository alone, without any key.

Which keys can read a file stands in the file. A key that is no host's is a person's; where people's
keys are listed, one that is not may be that of a host or a person who left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent.domain.errors import PermanentError
from agent.domain.finding import Finding, Level
from agent.domain.recipients import rules
from agent.domain.recipients.access import PERSONS_PATH, Access, host_key_path
from agent.domain.repository import encryption_faults, fleet_policy
from agent.domain.sops import metadata

RULE, PLAIN_RULE, KEY_RULE = "recipients", "plain-secret", "host-key"

_SHOWN = 16
_MEND = "commitd secrets recipients --write --update"
_CHANGE = f"{_MEND}, then change the values"


def judge(files: Mapping[str, bytes]) -> list[Finding]:
    """What is wrong with the secrets of a repository, given its files by path.

    Needed are all files of ``global/``, ``host/`` and ``stacks/``; links may be left out.
    """
    access = Access(files)
    _ = access.host_keys, access.persons  # what is wrong with them is known from here on
    found = [
        *_host_keys(access),
        *(finding for path in access.secrets for finding in _secret(access, path)),
        *_rules(access),
    ]
    problems = (
        Finding(
            level=Level.ERROR,
            rule=KEY_RULE,
            where=problem.where or "",
            message=problem.message,
            hint=problem.hint,
        )
        for problem in access.problems
    )
    return [*dict.fromkeys(problems), *found]


def _host_keys(access: Access) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    broken = {(p.where or "").rpartition(":")[0] for p in access.problems}
    for host in access.hosts:
        path = host_key_path(host)
        own = access.host_keys.get(host)
        to_read = [p for p, hosts in access.readers.items() if host in hosts]
        if not own and to_read and path not in broken:
            message = f"{host} has secrets to read ({to_read[0]}{_more(to_read)}) but no public key"
            hint = f"commit what commitd enroll prints on {host} as {path}"
            yield Finding(
                level=_strictness(access, host),
                rule=KEY_RULE,
                where=path,
                message=message,
                hint=hint,
            )
        for key, line in (own or {}).items():
            if (other := owners.setdefault(key, host)) != host:
                message = (
                    f"{host} has the same key as {other}, so each can read what is the other's"
                )
                hint = "give each host a key of its own: commitd enroll makes one"
                yield Finding(
                    level=Level.ERROR,
                    rule=KEY_RULE,
                    where=f"{path}:{line}",
                    message=message,
                    hint=hint,
                )


def _secret(access: Access, path: str) -> Iterator[Finding]:
    content = access.files[path]
    try:
        file, fault = encryption_faults.examine(content, path)
    except PermanentError as err:
        file, fault = None, err
    if fault:
        yield Finding(
            level=Level.ERROR,
            rule=PLAIN_RULE,
            where=fault.where or path,
            message=fault.message,
            hint=fault.hint,
        )
    if file is None or (fault and not file.unprotected):
        return
    for name, line in () if fault else file.exposed:
        message = f"{name} looks secret, and the file's own rule leaves it in the clear"
        hint = "widen the rule in .sops.yaml, or give it another name if it is none"
        yield Finding(
            level=Level.WARNING, rule=PLAIN_RULE, where=f"{path}:{line}", message=message, hint=hint
        )
    for each in encryption_faults.in_the_clear(file, path):
        yield Finding(
            level=Level.ERROR,
            rule=PLAIN_RULE,
            where=each.where or path,
            message=each.message,
            hint=each.hint,
        )
    if file.groups > 1:
        message = f"keys of {file.groups} groups must come together; a host has only its own"
        hint = "set shamir_threshold: 1 in .sops.yaml, then sops updatekeys"
        yield Finding(level=Level.ERROR, rule=RULE, where=path, message=message, hint=hint)
    yield from _match(access, path, file.recipients)


def _match(access: Access, path: str, recipients: tuple[str, ...]) -> Iterator[Finding]:
    """Each host against each file: needs it and cannot, can and needs it not."""
    content = access.files[path]
    for host, own in access.host_keys.items():
        can = [key for key in own if key in recipients]
        if host in access.readers[path]:
            if not can:
                message = f"{host} needs this file and cannot read it: {_some(own)} is no recipient"
                yield Finding(level=Level.ERROR, rule=RULE, where=path, message=message, hint=_MEND)
            elif blind := [key for key in own if key not in recipients]:
                message = f"one key of {host}, {_some(blind)}{_more(blind)}, cannot read this file"
                yield Finding(
                    level=Level.WARNING,
                    rule=RULE,
                    where=path,
                    message=message,
                    hint=f"{_MEND}; or take it out of {host_key_path(host)}, if nothing has it",
                )
        elif can and access.stacks[host] is not None:
            where = f"{path}:{metadata.line_of(content, can[0])}"
            message = f"{host} can read this file and does not need it"
            yield Finding(
                level=_strictness(access, host),
                rule=RULE,
                where=where,
                message=message,
                hint=_CHANGE,
            )
    known = {*access.persons, *(key for own in access.host_keys.values() for key in own)}
    # A host whose key is not known here may be the one that it belongs to.
    sure = not access.problems and access.readers[path] <= access.host_keys.keys()
    left = [key for key in recipients if key not in known]
    if left and sure and access.persons:
        where = f"{path}:{metadata.line_of(content, left[0])}"
        message = f"{_some(left)}{_more(left)} can read this file, and is neither a host's nor in "
        yield Finding(
            level=Level.WARNING,
            rule=RULE,
            where=where,
            message=message + PERSONS_PATH,
            hint=_CHANGE,
        )
    if absent := [key for key in access.persons if key not in recipients]:
        message = f"{_some(absent)}{_more(absent)} of {PERSONS_PATH} cannot read this file"
        yield Finding(level=Level.WARNING, rule=RULE, where=path, message=message, hint=_MEND)


def _rules(access: Access) -> Iterator[Finding]:
    """Whether new secrets would be encrypted for the right keys."""
    before = access.files.get(rules.PATH)
    if access.problems or before is None or rules.BEGIN.encode() not in before:
        return
    hint = "commitd secrets recipients --write"
    try:
        if rules.write(before, access) != before:
            message = "the rules are not those that follow from who runs what"
            yield Finding(
                level=Level.WARNING, rule=RULE, where=rules.PATH, message=message, hint=hint
            )
    except PermanentError as err:
        where = err.where or rules.PATH
        yield Finding(
            level=Level.WARNING, rule=RULE, where=where, message=err.message, hint=err.hint
        )


def _strictness(access: Access, host: str) -> Level:
    """What policy makes of a host that can read too much; one that is unreadable says nothing."""
    policy = fleet_policy.Policy()
    for path in (fleet_policy.FLEET_PATH, fleet_policy.path_for(host)):
        try:
            policy = policy.under(fleet_policy.read(access.files.get(path, b""), path))
        except PermanentError:
            continue
    return Level.ERROR if policy.recipients == "require" else Level.WARNING


def _more(paths: list[str]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""


def _some(own: Iterable[str]) -> str:
    return f"{next(iter(own))[:_SHOWN]}…"
