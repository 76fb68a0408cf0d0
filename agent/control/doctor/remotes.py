"""Looks at the remotes, each as the agent asks it: its host key, its answer, and what it has."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import anyio.to_thread

from agent.adapters.git import peek
from agent.adapters.host import directories, key_file
from agent.adapters.probes.connect import probe
from agent.adapters.secrets import age_key
from agent.domain.config import Config, Remote
from agent.domain.doctor import remotes
from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown
from agent.domain.errors import CommitdError, PermanentError, UnreachableError
from agent.domain.recipients.access import Access
from agent.domain.repository import fleet_policy, swarm_mode
from agent.domain.source.decide import Answer

FETCH_S = 150.0
_OF_HOSTS = re.compile(r"host/[^/]+/(?:age\.pub|stacks\.yaml|commitd\.yaml)|global/commitd\.yaml")
_AUTHORITY = b"@cert-authority"


async def host_key(remote: Remote) -> list[Finding]:
    """Of a remote over SSH: what its server shows, and what is pinned."""
    from agent.adapters.probes import host_keys, ssh  # noqa: PLC0415  a large library

    if remote.known_hosts is None:
        return []
    address = ssh.address(remote.url)
    server = f"{address.host}, port {address.port} ({remote.name})"
    pinned = await anyio.to_thread.run_sync(host_keys.pinned, remote.known_hosts, address)
    if not pinned and await anyio.to_thread.run_sync(_has_authority, remote.known_hosts):
        said = f"{server}: {remote.known_hosts} names an authority; only connecting tells"
        return [unknown(Code.HOST_KEY, said)]
    try:
        shown = await host_keys.shown(address)
    except UnreachableError as err:
        return [unknown(Code.HOST_KEY, f"{server} shows none: {err.message}")]
    named = [[f"{k.fingerprint} ({k.kind})" for k in keys] for keys in (pinned, shown)]
    return [remotes.host_key(server, str(remote.known_hosts), *named)]


def _has_authority(path: Path) -> bool:
    try:
        return _AUTHORITY in path.read_bytes()
    except OSError:
        return False


async def remote(config: Config, asked: Remote) -> list[Finding]:
    """Whether it answers, has the branch and hands it over, and what it says of this host."""
    try:
        head = await _head(config, asked)
        files = await _files(config, asked)
    except CommitdError as err:
        remedy = err.hint or _remedy(asked, git=await anyio.to_thread.run_sync(_git))
        return [problem(Code.REMOTE, f"remote {asked.name}: {err.message}", remedy)]
    said = f"remote {asked.name} answers and is read: {config.branch} is at {head[:7]}"
    own = await anyio.to_thread.run_sync(own_recipients, config)
    all_keys = Access(files).host_keys
    keys = all_keys.get(config.host)
    judged = remotes.repository(
        config.host,
        asked.name,
        listed=f"host/{config.host}/stacks.yaml" in files,
        age=None if keys is None else [*keys],
        own=own,
    )
    shared = [
        remotes.shared_key(config.host, name, asked.name)
        for name, found in all_keys.items()
        if name != config.host and own and set(own) & found.keys()
    ]
    found = [ok(Code.REMOTE, said), judged, *shared]
    if fault := await anyio.to_thread.run_sync(_other_mode, config, files):
        what = f"{fault.where} at {asked.name} {fault.message}: nothing is deployed or removed"
        found.append(problem(Code.REPOSITORY, what, fault.hint or ""))
    return found


def _other_mode(config: Config, files: Mapping[str, bytes]) -> PermanentError | None:
    """What is wrong if only one side says that this host is a Swarm: then nothing is deployed."""
    paths = fleet_policy.FLEET_PATH, fleet_policy.path_for(config.host)
    try:
        fleet, host = (fleet_policy.read(files.get(path, b""), path) for path in paths)
    except CommitdError:
        return None  # which check says
    declared = fleet.under(host).swarm
    return swarm_mode.differs(config.host, declared=declared, swarm=config.docker.mode == "swarm")


async def _head(config: Config, asked: Remote) -> str:
    probed = probe(asked, config.branch)
    try:
        answer = await probed.ask()
    finally:
        await probed.aclose()
    if answer.answer is Answer.EMPTY:
        raise UnreachableError("the repository is empty", hint=f"push {config.branch} to it")
    if answer.answer is not Answer.HEAD or answer.sha is None:
        hint = f"push it, or mend branch: in the configuration if it is not {config.branch}"
        raise UnreachableError(f"it has no branch {config.branch}", hint=hint)
    return answer.sha


async def _files(config: Config, asked: Remote) -> Mapping[str, bytes]:
    return await fetched(config, asked, _OF_HOSTS)


async def fetched(config: Config, asked: Remote, wanted: re.Pattern[str]) -> Mapping[str, bytes]:
    """The files of the branch whose paths match, out of a fetch that leaves nothing here."""
    with tempfile.TemporaryDirectory(prefix="commitd-doctor-") as place:
        askpass = await anyio.to_thread.run_sync(directories.install_askpass, Path(place))
        return await peek.files(asked, config.branch, askpass, wanted)


def own_recipients(config: Config) -> list[str] | None:
    """The public halves of the age key that is here; None where it cannot be read. Blocks."""
    if config.secrets is None or key_file.is_credential(config.secrets):
        return None
    try:
        return age_key.recipients(key_file.read_key(config.secrets))
    except CommitdError:
        return None


def _git() -> bool:
    return shutil.which("git") is not None


def _remedy(asked: Remote, *, git: bool) -> str:
    if not git:
        return "install git"
    match asked.scheme:
        case "ssh":
            return (
                f"see that the forge has {asked.ssh_key}.pub as a deploy key that may read, as"
                " commitd setup prints it, that it runs, and that its url: is right"
            )
        case "file":
            return "see that the directory is there and is a repository"
        case _:
            return "see that the forge runs, its url: is right, and its token may read"
