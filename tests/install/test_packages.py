"""The packages themselves: the same bytes each time, and nothing that Debian's checker rejects."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.install import packages
from tests.sandbox import tools

_PYTHONS = ("311", "313")
_LINTIAN = 'mount -t overlay tools /usr -o "lowerdir=$0/usr:/usr"; exec lintian "$@"'
_THERE = (
    "usr/bin/commitd", "usr/lib/commitd/lib/activate", "usr/lib/commitd/dist/VERSION",
    "usr/lib/commitd/dist/lib/python3.11/site-packages/apprise/__init__.py",
    "usr/lib/systemd/system/commitd.service", "usr/lib/sysusers.d/commitd.conf",
    "usr/lib/tmpfiles.d/commitd.conf", "usr/share/man/man1/commitd.1.gz",
    "usr/share/man/man1/commitd-secrets-recipients.1.gz",
    "usr/share/bash-completion/completions/commitd",
    "usr/share/zsh/vendor-completions/_commitd",
    "usr/share/fish/vendor_completions.d/commitd.fish",
    "usr/share/doc/commitd/examples/config.yaml", "usr/share/doc/commitd/CHANGELOG.md.gz",
    "usr/share/doc/commitd/changelog.gz", "usr/share/doc/commitd/copyright",
)  # fmt: skip


@pytest.fixture(params=packages.ARCHITECTURES)
def deb(request: pytest.FixtureRequest) -> Path:
    return next(packages.first().glob(f"*_{request.param}.deb"))


def test_the_same_commit_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("LC_ALL", "C")
    mask = os.umask(0o077)
    try:
        packages.build(tmp_path)
        packages.build(tmp_path, *(f"--deb={name}" for name in packages.ARCHITECTURES))
    finally:
        os.umask(mask)
    assert _sums(tmp_path) == _sums(packages.first())
    assert len(_sums(tmp_path)) == 2 + len(packages.ARCHITECTURES)


def _sums(directory: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir()}


def test_lintian_finds_no_error(deb: Path) -> None:
    lintian = tools.unpacked("lintian")
    said = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", _LINTIAN, lintian, "--allow-root", deb],
        env=os.environ | {"LC_ALL": "C.UTF-8"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.stdout, said.returncode) == ("", 0), said.stderr


def test_a_package_holds_all_that_belongs_to_the_agent(deb: Path) -> None:
    names = set(_listed(deb))
    assert [path for path in _THERE if path not in names] == []
    assert [name for name in names if "__pycache__" in name or name.endswith("RECORD")] == []


def test_machine_code_is_of_the_architecture_and_there_for_the_python_of_each_debian(
    deb: Path,
) -> None:
    code = [name for name in _listed(deb) if ".cpython-" in name]
    there = {version: {name.replace(version, "") for name in code if f"-{version}-" in name}
             for version in _PYTHONS}  # fmt: skip
    assert there["311"] == there["313"] != set()
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[deb.stem.rpartition("_")[2]]
    assert [name for name in code if f"-{machine}-linux-gnu.so" not in name] == []


def _listed(deb: Path) -> list[str]:
    said = subprocess.run(["dpkg-deb", "--contents", deb], capture_output=True, check=True)
    lines = said.stdout.decode().splitlines()
    assert [line for line in lines if " root/root " not in line] == []
    return [re.split(r" \./| -> ", line)[1] for line in lines]


def test_the_sdist_holds_what_an_installation_from_source_takes() -> None:
    (sdist,) = packages.first().glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", "requirements.txt", "requirements-notify.txt", "pyproject.toml",
              "systemd/commitd.service", "systemd/commitd.sysusers.conf", "LICENSE",
              "docs/reference/config.example.yaml"}  # fmt: skip
    assert wanted - names == set()
