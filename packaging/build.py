"""Builds the packages of a commit: wheel, sdist, and the Debian package of each architecture.

    python packaging/build.py                      # wheel and sdist of HEAD, into dist/
    python packaging/build.py --deb amd64 --deb arm64

The same commit gives the same bytes: the files are those that Git has (nothing that was not
committed, no mode of this checkout), and every time in them is that of the commit.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import deb

REPO = Path(__file__).resolve().parents[1]


def main() -> None:
    """Build what the arguments ask for, and print the path of each package."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=REPO / "dist", help="where to put them [dist]")
    parser.add_argument("--source", type=Path, help="build this directory, not the commit")
    parser.add_argument(
        "--deb",
        action="append",
        choices=deb.MACHINES,
        default=[],
        help="build the package of Debian for this architecture, and no wheel",
    )
    options = parser.parse_args()
    os.umask(0o022)
    os.environ.setdefault("SOURCE_DATE_EPOCH", _git("log", "-1", "--format=%ct", "HEAD").decode())
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="commitd-build-") as name:
        scratch = Path(name)
        source = options.source or _commit(scratch / "source")
        made = _python_packages(source, scratch / "python", epoch)
        (wheel,) = (path for path in made if path.suffix == ".whl")
        if options.deb:
            made = [deb.build(source, wheel, arch, epoch, scratch / arch) for arch in options.deb]
        for path in made:
            print(shutil.copy(path, options.out))


def _commit(into: Path) -> Path:
    into.mkdir()
    archive = _git("-c", "tar.umask=0022", "archive", "--format=tar", "HEAD")
    subprocess.run(["tar", "-x", "-C", into], input=archive, check=True)
    return into


def _git(*words: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=REPO, stdout=subprocess.PIPE, check=True)
    return done.stdout.strip() if words[0] == "log" else done.stdout


def _python_packages(source: Path, out: Path, epoch: int) -> list[Path]:
    """The sdist, and the wheel that is built from it, so that the sdist is known to be whole."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout.decode())
    for path in out.glob("*.tar.gz"):
        _normalise(path, epoch)
    return sorted(out.iterdir())


def _normalise(sdist: Path, epoch: int) -> None:
    """Write it anew with nothing in it of the machine and of the moment: setuptools does not."""
    packed = io.BytesIO()
    with (
        tarfile.open(sdist) as old,
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=epoch) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            member.mtime, member.uid, member.gid = epoch, 0, 0
            member.uname = member.gname = ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    sdist.write_bytes(packed.getvalue())


if __name__ == "__main__":
    main()
