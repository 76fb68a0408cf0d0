"""Bringing ``.sops.yaml`` and the recipients of secrets in a clone in line with who runs what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from agent.adapters.clone.clone import Clone
from agent.adapters.clone.sops_edit import SopsEditor
from agent.domain.errors import CommitdError, HeldError, PermanentError
from agent.domain.recipients import rules as sops_rules
from agent.domain.recipients.access import PERSONS_PATH, Access, host_key_path
from agent.domain.repository import encryption_faults
from agent.domain.repository.secret_files import is_secret
from agent.domain.repository.tree import YAML_SUFFIXES

_READ = (*YAML_SUFFIXES, "age.pub")


class Custody(Struct, frozen=True):
    """One secret file: the keys that should be able to read it and cannot, and the reverse.

    ``problem`` is why that is not known, or why it cannot be mended.
    """

    path: str
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    problem: CommitdError | None = None

    @property
    def right(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.missing or self.extra or self.problem)


def files_that_decide(clone: Clone) -> dict[str, bytes]:
    """The files of the clone, by path. Those that say nothing about who reads what are empty.

    Blocks; raises :class:`PermanentError`.
    """
    return {
        path: clone.read(path) if is_secret(path) or path.endswith(_READ) else b""
        for path in clone.files()
    }


class Recipients:
    """What the files of a clone say now. All here block, and raise :class:`CommitdError`."""

    def __init__(self, start: Path) -> None:
        """For the clone around ``start``."""
        self._clone = Clone.around(start, "commitd secrets recipients PATH")
        self.access = Access(files_that_decide(self._clone))
        self._before = self.access.files.get(sops_rules.PATH)

    def rules(self) -> list[tuple[str, tuple[str, ...]]]:
        """The patterns and recipients that follow."""
        return sops_rules.rules(self.access)

    def text(self) -> str:
        """``.sops.yaml`` as it should be."""
        return sops_rules.write(self._before, self.access).decode(errors="replace")

    def current(self) -> bool:
        """Whether it is so already."""
        return self._before == sops_rules.write(self._before, self.access)

    def write(self) -> bool:
        """Write it; whether anything changed."""
        after = sops_rules.write(self._before, self.access)
        if after == self._before:
            return False
        self._clone.replace(sops_rules.PATH, after)
        self._before = after
        return True

    def keyless(self) -> list[str]:
        """Hosts that need secrets and have no public key."""
        needing = {host for hosts in self.access.readers.values() for host in hosts}
        return sorted(needing - self.access.host_keys.keys())

    def files(self) -> list[Custody]:
        """Every secret file against what it should be."""
        return [self._custody(path, self.access.files[path]) for path in self.access.secrets]

    def _custody(self, path: str, content: bytes) -> Custody:
        try:
            file, fault = encryption_faults.examine(content, path)
        except CommitdError as err:
            return Custody(path, problem=err)
        if fault or file is None:
            return Custody(path, problem=fault)
        wanted = self.access.wanted(path)
        missing = tuple(key for key in wanted if key not in file.recipients)
        extra = tuple(key for key in file.recipients if key not in wanted)
        risk = self._risk(path, wanted, extra)
        if risk is None and file.others and (missing or extra):
            risk = HeldError(
                f"it is for keys of {', '.join(file.others)} as well, which would be taken away",
                where=path,
                hint=f"put age keys of their owners into {PERSONS_PATH}, then take the others away "
                f"yourself: sops rotate -i --rm-pgp … {path}",
            )
        return Custody(path, missing, extra, risk)

    def _risk(self, path: str, wanted: Iterable[str], extra: Iterable[str]) -> CommitdError | None:
        """Why its recipients must not be changed: somebody might be locked out."""
        if not wanted:
            hint = f"put your own key into {PERSONS_PATH}"
            return HeldError("it would be encrypted for nobody", where=path, hint=hint)
        known = {key for own in self.access.host_keys.values() for key in own}
        if not (strangers := [key for key in extra if key not in known]):
            return None
        if without := sorted(self.access.readers[path] - self.access.host_keys.keys()):
            message = f"{without[0]} needs it and has no public key: {strangers[0]} may be its key"
            return HeldError(message, where=path, hint=f"add {host_key_path(without[0])}")
        if not self.access.persons:
            hint = f"put the keys of people into {PERSONS_PATH}"
            return HeldError(f"{strangers[0]} is no host's: it may be yours", where=path, hint=hint)
        return None

    def update(self, files: Iterable[Custody]) -> Iterator[Custody]:
        """Give each of ``files`` its recipients; what is left to do of it afterwards."""
        if not self.current():
            message = "the rules are not those that follow from who runs what"
            raise HeldError(message, where=sops_rules.PATH, hint="add --write")
        sops = SopsEditor(self._clone.root)
        for file in files:
            yield file if file.problem else self._update(file, sops)

    def _update(self, file: Custody, sops: SopsEditor) -> Custody:
        try:
            # In this order: cut short between the two, the file still shows that it is not done.
            if file.extra:
                sops.new_data_key(file.path)
            sops.update_keys(file.path)
            after = self._custody(file.path, self._clone.read(file.path))
        except CommitdError as err:
            return Custody(file.path, file.missing, file.extra, err)
        if after.right:
            return after
        return Custody(
            file.path,
            after.missing,
            after.extra,
            after.problem
            or PermanentError(
                "another rule of .sops.yaml stands before the one for it",
                where=file.path,
                hint="move or narrow that rule",
            ),
        )
