"""The repository's layout: a commit's tree and a few of its files to what one host shall run."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping

from msgspec import Struct

from agent.domain import documents
from agent.domain.errors import PermanentError, did_you_mean
from agent.domain.finding import Fault
from agent.domain.repository import (
    env_files,
    fleet_policy,
    ignored,
    references,
    secret_files,
    stack_settings,
)
from agent.domain.repository import tree as snapshot
from agent.domain.repository.desired import DesiredState, EnvFile, Stack
from agent.domain.repository.tree import Inputs, Snapshot, Tree
from agent.domain.revision import Revision

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
SECRET_SUFFIX = env_files.SECRET_SUFFIX
PLAINTEXT_PREFIX = snapshot.PLAINTEXT_PREFIX

MAX_YAML_BYTES = 32 * 1024 * 1024
"""Of all YAML files that a Compose file might name; of more, the largest are not read."""
_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Survey(Struct, frozen=True):
    """What one host shall run, every fault in what it reads, and the stacks that have any.

    ``faulty`` holds those of them that can be read nevertheless: to be looked at, never deployed.
    """

    desired: DesiredState
    faults: tuple[Fault, ...]
    faulty: tuple[Stack, ...]


def plaintext_path(path: str) -> str:
    """Where the plaintext of the secret file ``path`` goes: beside it, hidden from Git."""
    directory, _, name = path.rpartition("/")
    return posixpath.join(directory, f"{PLAINTEXT_PREFIX}{name}")


def wanted(tree: Tree, host: str) -> dict[str, str]:
    """Paths and Git objects that :func:`read` looks at, except those too large to be read.

    Which YAML files a Compose file includes or extends is not known before it is read.
    """
    decisive = {list_path(host), fleet_policy.FLEET_PATH, fleet_policy.path_for(host)}
    needed: dict[str, str] = {}
    maybe: list[tuple[int, str]] = []
    for path, entry in tree.items():
        if entry.mode == snapshot.SYMLINK:
            if entry.size <= snapshot.MAX_LINK:
                needed[path] = entry.oid
        elif entry.size > documents.MAX_BYTES or _of_another(path, host):
            continue
        elif (
            path in decisive
            or (env_files.is_env(path) and _reaches(path, host))
            or _is_compose(path)
        ):
            needed[path] = entry.oid
        elif path.endswith(snapshot.YAML_SUFFIXES):
            maybe.append((entry.size, path))
    total = 0
    for size, path in sorted(maybe):
        total += size
        if total > MAX_YAML_BYTES:
            break
        needed[path] = tree[path].oid
    return needed


def read(tree: Tree, contents: Mapping[str, bytes], revision: Revision, host: str) -> DesiredState:
    """What ``host`` shall run at ``revision``.

    ``contents`` maps the paths of :func:`wanted` to bytes. Raises :class:`PermanentError` when
    the host or its list cannot be read at all; what is wrong with single stacks is in the result.
    """
    return survey(Snapshot(tree, contents), revision, host).desired


def survey(files: Snapshot, revision: Revision, host: str) -> Survey:
    """The same, and every fault in what the host reads, where the agent needs only the first.

    Raises as :func:`read` does.
    """
    tree = files.tree
    entries, list_faults = _read_list(files, host)
    policy, policy_faults = _policy(files, host)
    fleets, hosts = env_files.of(files, "global"), env_files.of(files, f"host/{host}")
    shared = [*fleets, *hosts]
    shared_faults = [fault for path in (*hosts, *fleets) for fault in env_files.faults(files, path)]
    stacks: list[Stack] = []
    faulty: list[Stack] = []
    broken: dict[str, Fault] = {}
    faults = [*list_faults, *policy_faults, *shared_faults]
    for name, where in entries.items():
        stack, own_faults = _stack(files, name, where, shared, policy, host=host)
        faults += own_faults
        if in_the_way := [*shared_faults, *own_faults]:
            broken[name] = in_the_way[0]
            faulty += [stack] if stack else []
        elif stack:
            stacks.append(stack)
    missing = [
        _no_directory(name, where, tree)
        for name, where in entries.items()
        if not files.holds(f"stacks/{name}")
    ]
    desired = DesiredState(
        revision=revision,
        host=host,
        stacks=tuple(sorted(stacks, key=lambda stack: stack.name)),
        broken=broken,
        list_faults=(*list_faults, *missing, *policy_faults),
        allow=policy.allow,
        agent=policy.agent,
        swarm=policy.swarm,
        listed=entries,
        present=frozenset(_directories(tree, "stacks")),
    )
    return Survey(desired, tuple(dict.fromkeys(faults)), tuple(faulty))


def alone(files: Snapshot, name: str) -> tuple[Stack | None, tuple[Fault, ...]]:
    """The stack ``name`` as it is on no host: with the fleet's values and policy, and its faults.

    None when it cannot be read; with faults it is to be looked at, never deployed.
    """
    policy, _ = _policy(files, "")
    shared = env_files.of(files, "global")
    stack, own_faults = _stack(files, name, f"stacks/{name}", shared, policy, host="")
    faults = [*(fault for path in shared for fault in env_files.faults(files, path)), *own_faults]
    return stack, tuple(dict.fromkeys(faults))


def hosts(tree: Tree) -> list[str]:
    """Names of all hosts, sorted."""
    return _directories(tree, "host")


def stacks(tree: Tree) -> list[str]:
    """Names of all directories of stacks, sorted."""
    return _directories(tree, "stacks")


def _policy(files: Snapshot, host: str) -> tuple[fleet_policy.Policy, list[Fault]]:
    """The fleet's policy under this host's. With faults only ``allow`` is believed."""
    policy = fleet_policy.Policy()
    faults: list[Fault] = []
    for path in (fleet_policy.FLEET_PATH, fleet_policy.path_for(host)):
        if path not in files.tree:
            continue
        if not files.regular(path):
            faults.append(Fault("the policy is not a regular file", path, "commit the file itself"))
            continue
        try:
            own, errors = fleet_policy.survey(files.content(path), path)
        except PermanentError as err:
            own, errors = fleet_policy.Policy(), [err]
        policy = policy if errors else policy.under(own)
        faults += [Fault(e.message, e.where or path, e.hint, "settings") for e in errors]
    return (fleet_policy.Policy(policy.allow) if faults else policy), faults


def list_path(host: str) -> str:
    """The list of what ``host`` runs."""
    return f"host/{host}/stacks.yaml"


def _read_list(files: Snapshot, host: str) -> tuple[dict[str, str], list[Fault]]:
    """Names to ``file:line``, and the entries that are no names."""
    path = list_path(host)
    tree = files.tree
    if path not in tree:
        if host not in (known := hosts(tree)):
            message = f"the repository has no host {host!r}"
            hint = did_you_mean(host, known, f"add {path}")
            raise PermanentError(message, where=f"host/{host}", hint=hint)
        raise PermanentError(
            "the list of stacks is missing", where=path, hint="an empty list is []"
        )
    document = files.document(path)
    listed: documents.Path = ()
    data = document.data
    if isinstance(data, dict):
        if set(data) != {"stacks"}:
            raise document.error((), "expected a list of stack names", "write '- name' lines")
        data, listed = data["stacks"], ("stacks",)
    if data is None:
        raise document.error(listed, "the list of stacks is empty", "to run nothing, write []")
    if not isinstance(data, list):
        raise document.error(listed, "expected a list of stack names", "write '- name' lines")
    entries: dict[str, str] = {}
    faults: list[Fault] = []
    for i, name in enumerate(data):
        at = (*listed, i)
        where = f"{path}:{document.line(at)}"
        if not isinstance(name, str) or not _STACK_NAME.fullmatch(name):
            written = document.written(at)
            good = _STACK_NAME.fullmatch(written[1:-1])
            hint = (good and document.as_text(at)) or "lower-case letters, digits, - and _"
            faults.append(Fault(f"{written} cannot be the name of a stack", where, hint))
        elif name in entries:
            faults.append(Fault(f"the stack {name!r} is listed twice", where, "keep one of them"))
        else:
            entries[name] = where
    return entries, faults


def _stack(
    files: Snapshot,
    name: str,
    where: str,
    shared: list[str],
    policy: fleet_policy.Policy,
    *,
    host: str,
) -> tuple[Stack | None, list[Fault]]:
    """One declared stack, None if it cannot be read, and all that is wrong with it.

    With faults it is what could be read of it.
    """
    directory, tree, policy = f"stacks/{name}", files.tree, policy.of(name)
    if not files.holds(directory):
        return None, [_no_directory(name, where, tree)]
    own = env_files.of(files, directory)
    faults = [fault for path in own for fault in env_files.faults(files, path)]
    document, wrong = _compose_document(files, directory)
    faults = [*wrong, *faults]
    if document is None:
        return None, faults
    data, compose = document.data, document.name
    read = references.follow(files, compose, build=policy.builds)
    faults += read.faults
    services = frozenset(str(service) for service in data.get("services") or {})
    more = bool(data.get("include"))
    chosen, errors = stack_settings.survey(document, () if more else services)
    faults += [Fault(err.message, err.where or compose, err.hint, "settings") for err in errors]
    environment = tuple(
        EnvFile(path, tree[path].oid, path.endswith(SECRET_SUFFIX)) for path in (*shared, *own)
    )
    # The paths say how values are combined: the directory, the name and the kind of an env file
    # decide on its place in the order.
    paths = {*files.below(directory), *read.paths, *shared}
    inputs = tuple((path, tree[path].oid) for path in sorted(paths))
    stack = Stack(
        name=name,
        compose=compose,
        environment=environment,
        inputs=inputs,
        digest=_digest(inputs, tree, policy),
        services=services,
        more=more,
        policy=policy,
        settings=chosen,
        images=read.images,
        variables=read.variables,
        env_files=read.secret_env_files,
        modes={path: tree[path].mode for path in paths if tree[path].mode != snapshot.PLAIN},
        called=ignored.other_name(name, document),
        notes=tuple(ignored.notes(files, name, document, read.compose)),
        mounts=read.mounts,
        own_volumes=read.own_volumes,
        named_volumes=read.named_volumes,
        tracked=files.paths,
    )
    stack, wrong = secret_files.with_secrets(stack, files, read.secrets, host)
    return stack, [*faults, *wrong]


def _digest(inputs: Inputs, tree: Tree, policy: fleet_policy.Policy) -> str:
    """What names the whole of a stack: another one has it deployed again, on every host."""
    digest = hashlib.sha256()
    for path, oid in inputs:
        digest.update(f"{path}\0{tree[path].mode}\0{oid}\n".encode())
    for said in policy.in_digest:  # what was refused under one may go under another
        digest.update(f"{said}\n".encode())
    return digest.hexdigest()


def _compose_document(
    files: Snapshot, directory: str
) -> tuple[documents.Document | None, list[Fault]]:
    """The one Compose file of a stack, which declares something; of several the first."""
    found = [f"{directory}/{n}" for n in COMPOSE_NAMES if f"{directory}/{n}" in files.tree]
    if not found:
        return None, [Fault("no Compose file", directory, f"add {directory}/compose.yaml")]
    many = f"{len(found)} Compose files: {', '.join(found)}"
    faults = [Fault(many, directory, "keep one")] if len(found) > 1 else []
    if not files.regular(found[0]):
        message, hint = "the Compose file is not a regular file", "commit the file itself"
        return None, [*faults, Fault(message, found[0], hint)]
    try:
        document = files.document(found[0])
    except PermanentError as err:
        return None, [*faults, Fault(err.message, err.where or found[0], err.hint, "syntax")]
    data = document.data
    # A file that was cut short is no order to end everything; one that says so is.
    nothing = isinstance(data, dict) and data.get("services") == {}
    if not isinstance(data, dict) or not (nothing or data.get("services") or data.get("include")):
        where = f"{found[0]}:{document.line(())}"
        hint = "add services:, or services: {} to run nothing"
        return None, [*faults, Fault("declares no services", where, hint)]
    if not isinstance(data.get("services", {}), dict):
        where = f"{found[0]}:{document.line(('services',))}"
        return None, [*faults, Fault("services: must be a mapping", where)]
    return document, faults


def _reaches(path: str, host: str) -> bool:
    directory, _, _ = path.rpartition("/")
    return directory in {"global", f"host/{host}"} or (
        directory.startswith("stacks/") and directory.count("/") == 1
    )


def _is_compose(path: str) -> bool:
    place, _, rest = path.partition("/")
    return place == "stacks" and rest.partition("/")[2] in COMPOSE_NAMES


def _of_another(path: str, host: str) -> bool:
    """Whether the file is another host's business."""
    return path.startswith("host/") and not path.startswith(f"host/{host}/")


def _directories(tree: Tree, place: str) -> list[str]:
    """Names of the directories directly below ``place``."""
    return sorted({p.split("/")[1] for p in tree if p.startswith(f"{place}/") and p.count("/") > 1})


def _no_directory(name: str, where: str, tree: Tree) -> Fault:
    hint = did_you_mean(name, stacks(tree), "add it, or take the name off the list")
    return Fault(f"the stack {name!r} has no directory stacks/{name}", where, hint)
