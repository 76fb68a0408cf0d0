"""Env files of one directory: which they are, in which order, and what may not be in them."""

from __future__ import annotations

from agent.domain import lfs
from agent.domain.errors import PermanentError
from agent.domain.finding import Fault
from agent.domain.repository import dotenv, encryption_faults, interpolation
from agent.domain.repository.tree import Snapshot
from agent.domain.sops import metadata

SECRET_SUFFIX = ".secret.env"  # noqa: S105  a file name
_TAKE_OUT = (
    "take it out of the file; what is for a container alone belongs under environment:, or into a "
    "file in a directory below, which env_file: names"
)


def faults(files: Snapshot, path: str) -> list[Fault]:
    """What is wrong with an env file, seen without decrypting anything."""
    if not files.regular(path):
        # Neither the check of its keys nor the digest would see what a link leads to.
        what, hint = "the env file is not a regular file", "commit the file itself"
        return [Fault(what, path, hint, "env-file")]
    secret = path.endswith(SECRET_SUFFIX)
    try:
        content = files.content(path)
        fault = encryption_faults.examine(content, path)[1] if secret else None
        found = metadata.pairs(content, path) if secret else dotenv.keys(content.decode())
    except UnicodeDecodeError:
        return [Fault("the file is not UTF-8", path, "save it as UTF-8", "env-file")]
    except PermanentError as err:
        return [Fault(err.message, err.where or path, err.hint, "env-file")]
    if not secret and lfs.is_pointer(content):
        return [Fault(lfs.MESSAGE, path, lfs.HINT, "env-file")]
    wrong = [
        Fault(problem, f"{path}:{line}", _TAKE_OUT, "env-file")
        for key, line in found
        if (problem := interpolation.refused(dotenv.name(key)))
    ]
    if fault:
        wrong.append(Fault(fault.message, fault.where or path, fault.hint, "plain-secret"))
    return wrong


def of(files: Snapshot, directory: str) -> list[str]:
    """Env files of one directory from weakest to strongest: plain by name, then secret by name."""
    level = directory.count("/") + 1
    here = [path for path in files.below(directory) if path.count("/") == level and is_env(path)]
    return sorted(here, key=lambda path: (path.endswith(SECRET_SUFFIX), path))


def is_env(path: str) -> bool:
    """Whether the name is that of an env file, plain or secret."""
    name = path.rpartition("/")[2]
    return name in {".env", SECRET_SUFFIX} or (name.endswith(".env") and not name.startswith("."))
