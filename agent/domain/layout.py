"""The repository's layout: a commit's tree and a few of its files to what one host shall run."""

from __future__ import annotations

import difflib
import hashlib
import posixpath
import re
from collections.abc import Mapping

from agent.domain import documents, dotenv, fleet
from agent.domain.errors import PermanentError
from agent.domain.exempt import AllowRule
from agent.domain.model import DesiredState, EnvFile, Fault, Revision, Stack, Tree

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
SECRET_SUFFIX = ".secret.env"  # noqa: S105  a file name
PLAINTEXT_PREFIX = ".decrypted."

_REGULAR = frozenset({"100644", "100755"})
_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def plaintext_path(path: str) -> str:
    """Where the plaintext of the secret file ``path`` goes: beside it, hidden from Git."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/{PLAINTEXT_PREFIX}{name}"


def wanted(tree: Tree, host: str) -> dict[str, str]:
    """Paths and Git objects that :func:`read` looks at, except those too large to be read."""
    return {
        path: entry.oid
        for path, entry in tree.items()
        if entry.size <= documents.MAX_BYTES
        and (
            path in {_list_path(host), fleet.FLEET_PATH, fleet.path_for(host)}
            or (_is_env(path) and _reaches(path, host))
            or _is_compose(path)
        )
    }


def read(tree: Tree, contents: Mapping[str, bytes], revision: Revision, host: str) -> DesiredState:
    """What ``host`` shall run at ``revision``.

    ``contents`` maps the paths of :func:`wanted` to bytes. Raises :class:`PermanentError` when
    the host or its list cannot be read at all; what is wrong with single stacks is in the result.
    """
    entries, list_faults = _read_list(tree, contents, host)
    shared_faults = [
        fault
        for path in _env_paths(tree, f"host/{host}") + _env_paths(tree, "global")
        if (fault := _env_fault(tree, contents, path))
    ]
    stacks: list[Stack] = []
    broken: dict[str, Fault] = {}
    for name, where in entries.items():
        found = next(iter(shared_faults), None) or _stack(tree, contents, name, where, host)
        if isinstance(found, Fault):
            broken[name] = found
        else:
            stacks.append(found)
    missing = [
        _no_directory(name, where, tree)
        for name, where in entries.items()
        if not _has_directory(tree, f"stacks/{name}")
    ]
    allow, policy_faults = _allowed(tree, contents, host)
    return DesiredState(
        revision=revision,
        host=host,
        stacks=tuple(sorted(stacks, key=lambda stack: stack.name)),
        broken=broken,
        list_faults=(*list_faults, *missing, *policy_faults),
        allow=allow,
    )


def _allowed(
    tree: Tree, contents: Mapping[str, bytes], host: str
) -> tuple[tuple[AllowRule, ...], list[Fault]]:
    """What may run beside the stacks: the fleet's rules and this host's. One fault a file."""
    rules: list[AllowRule] = []
    faults: list[Fault] = []
    for path in (fleet.FLEET_PATH, fleet.path_for(host)):
        if path not in tree:
            continue
        if tree[path].mode not in _REGULAR:
            faults.append(Fault("the policy is not a regular file", path, "commit the file itself"))
            continue
        try:
            rules += fleet.read(_content(tree, contents, path), path)
        except PermanentError as err:
            faults.append(Fault(err.message, err.where or path, err.hint))
    return tuple(rules), faults


def _list_path(host: str) -> str:
    return f"host/{host}/stacks.yaml"


def _read_list(
    tree: Tree, contents: Mapping[str, bytes], host: str
) -> tuple[dict[str, str], list[Fault]]:
    """Names to ``file:line``, and the entries that are no names."""
    path = _list_path(host)
    if path not in tree:
        hosts = sorted(
            {p.split("/")[1] for p in tree if p.startswith("host/") and p.count("/") > 1}
        )
        if host not in hosts:
            near = difflib.get_close_matches(host, hosts, 1)
            raise PermanentError(
                f"the repository has no host {host!r}",
                where=f"host/{host}",
                hint=f"did you mean {near[0]!r}?" if near else f"add {path}",
            )
        raise PermanentError(
            "the list of stacks is missing", where=path, hint="an empty list is []"
        )
    document = documents.load(_content(tree, contents, path), path)
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
        where = f"{path}:{document.line((*listed, i))}"
        if not isinstance(name, str) or not _STACK_NAME.fullmatch(name):
            faults.append(
                Fault(
                    f"{name!r} cannot be the name of a stack",
                    where,
                    "lower-case letters, digits, - and _; quote it if it looks like a number",
                )
            )
        elif name in entries:
            faults.append(Fault(f"the stack {name!r} is listed twice", where, "keep one of them"))
        else:
            entries[name] = where
    return entries, faults


def _stack(
    tree: Tree, contents: Mapping[str, bytes], name: str, where: str, host: str
) -> Stack | Fault:
    """One declared stack, or the first thing that is wrong with it."""
    directory = f"stacks/{name}"
    if not _has_directory(tree, directory):
        return _no_directory(name, where, tree)
    found = [f"{directory}/{n}" for n in COMPOSE_NAMES if f"{directory}/{n}" in tree]
    if not found:
        return Fault("no Compose file", directory, f"add {directory}/compose.yaml")
    if len(found) > 1:
        return Fault(f"{len(found)} Compose files: {', '.join(found)}", directory, "keep one")
    if tree[found[0]].mode not in _REGULAR:
        return Fault("the Compose file is not a regular file", found[0], "commit the file itself")
    try:
        document = documents.load(_content(tree, contents, found[0]), found[0])
    except PermanentError as err:
        return Fault(err.message, err.where or found[0], err.hint)
    data = document.data
    if not isinstance(data, dict) or not (data.get("services") or data.get("include")):
        return Fault("declares no services", f"{found[0]}:{document.line(())}", "add services:")
    if not isinstance(data.get("services", {}), dict):
        return Fault("services: must be a mapping", f"{found[0]}:{document.line(('services',))}")
    for path in _env_paths(tree, directory):
        if fault := _env_fault(tree, contents, path):
            return fault
    environment = tuple(
        EnvFile(path, tree[path].oid, path.endswith(SECRET_SUFFIX))
        for place in ("global", f"host/{host}", directory)
        for path in _env_paths(tree, place)
    )
    own = [(path, entry.oid) for path, entry in tree.items() if path.startswith(f"{directory}/")]
    shared = [(path, tree[path].oid) for path in _named_elsewhere(tree, directory, data)]
    values = [(file.path, file.oid) for file in environment]
    inputs = tuple(sorted({*own, *shared, *values}))
    digest = hashlib.sha256()
    for path, oid in inputs:
        digest.update(f"{path}\0{tree[path].mode}\0{oid}\n".encode())
    services = frozenset(str(service) for service in data.get("services") or {})
    return Stack(name, found[0], environment, inputs, digest.hexdigest(), services)


def _named_elsewhere(tree: Tree, directory: str, data: object) -> set[str]:
    """Files outside the stack's directory that its Compose file names by a relative path.

    Whatever the key: include, extends, env_file, configs, secrets, mounts.
    """
    found: set[str] = set()
    pending = [data]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
        elif isinstance(value, str) and ".." in value:
            path = posixpath.normpath(posixpath.join(directory, value.partition(":")[0]))
            found |= {p for p in tree if p == path or p.startswith(f"{path}/")}
    return found


def _env_fault(tree: Tree, contents: Mapping[str, bytes], path: str) -> Fault | None:
    """What is wrong with an env file, seen without decrypting anything."""
    if tree[path].mode not in _REGULAR:
        # Neither the check of its keys nor the digest would see what a link leads to.
        return Fault("the env file is not a regular file", path, "commit the file itself")
    try:
        text = _content(tree, contents, path).decode()
    except UnicodeDecodeError:
        return Fault("the file is not UTF-8", path, "save it as UTF-8")
    except PermanentError as err:
        return Fault(err.message, path, err.hint)
    secret = path.endswith(SECRET_SUFFIX)
    found = dotenv.keys(text)
    for key, line in found:
        if problem := dotenv.refused(key, secret=secret):
            return Fault(problem, f"{path}:{line}", "take it out of the file")
    if secret and not any(key == "sops_mac" for key, _ in found):
        return Fault("the file is called secret but is not encrypted", path, "sops encrypt -i it")
    return None


def _env_paths(tree: Tree, directory: str) -> list[str]:
    """Env files of one directory from weakest to strongest: plain by name, then secret by name."""
    here = [
        path
        for path in tree
        if path.startswith(f"{directory}/")
        and path.count("/") == directory.count("/") + 1
        and _is_env(path)
    ]
    return sorted(here, key=lambda path: (path.endswith(SECRET_SUFFIX), path))


def _is_env(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name in {".env", SECRET_SUFFIX} or (name.endswith(".env") and not name.startswith("."))


def _reaches(path: str, host: str) -> bool:
    directory, _, _ = path.rpartition("/")
    return directory in {"global", f"host/{host}"} or (
        directory.startswith("stacks/") and directory.count("/") == 1
    )


def _is_compose(path: str) -> bool:
    place, _, rest = path.partition("/")
    return place == "stacks" and rest.partition("/")[2] in COMPOSE_NAMES


def _has_directory(tree: Tree, directory: str) -> bool:
    return any(path.startswith(f"{directory}/") for path in tree)


def _directories(tree: Tree, place: str) -> list[str]:
    """Names of the directories directly below ``place``."""
    return sorted({p.split("/")[1] for p in tree if p.startswith(f"{place}/") and p.count("/") > 1})


def _no_directory(name: str, where: str, tree: Tree) -> Fault:
    near = difflib.get_close_matches(name, _directories(tree, "stacks"), 1)
    hint = f"did you mean {near[0]!r}?" if near else "add it, or take the name off the list"
    return Fault(f"the stack {name!r} has no directory stacks/{name}", where, hint)


def _content(tree: Tree, contents: Mapping[str, bytes], path: str) -> bytes:
    if path not in contents:
        raise PermanentError(
            f"the file is {tree[path].size:,} bytes long, more than the limit of "
            f"{documents.MAX_BYTES:,}",
            where=path,
            hint="keep data out of the repository",
        )
    return contents[path]
