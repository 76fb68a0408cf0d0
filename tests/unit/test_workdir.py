"""What is laid out for Compose stays in its directory, whatever a commit says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from agent.adapters.compose import workdir
from agent.domain.repository.tree import GITLINK, PLAIN, SYMLINK, TreeEntry

if TYPE_CHECKING:
    from pathlib import Path

FORGED = ("../x.secret.env", "stacks/../../y.secret.env", ".git/z.secret.env", "sub.secret.env")


def test_compose_finds_no_configuration_of_docker_in_the_repository(tmp_path: Path) -> None:
    """A user without a home, and who sees the repository alone, has one where Compose runs."""
    web = "stacks/web"
    here = (f"{web}/docker/config.json", f"{web}/.docker/app.env", f"{web}/sub/.docker/a/b")
    gone = [f"{web}/.docker/{name}" for name in ("config.json", "cli-plugins/x", "contexts/meta/x")]
    paths = [*here, *gone, "stacks/linked/.docker"]
    modes = {paths[-1]: SYMLINK}
    tree = {path: TreeEntry(path, modes.get(path, PLAIN), "0" * 40, 1) for path in paths}
    contents = {path: b"docker" if path in modes else b"{}" for path in paths}

    def found(root: Path) -> list[str]:
        return [path for path in paths if os.path.lexists(root / path)]

    async def there() -> list[str]:
        async with workdir.laid_out(tree, contents, at=tmp_path / "x") as root:
            return await anyio.to_thread.run_sync(found, root)

    assert anyio.run(there) == list(here)


def test_nothing_of_a_forged_commit_is_written_out_of_the_directory(tmp_path: Path) -> None:
    """Neither its files nor the placeholders that stand beside secrets."""
    modes = {path: GITLINK if path.startswith("sub") else PLAIN for path in FORGED}
    modes["stacks/web/a.secret.env"] = PLAIN
    tree = {path: TreeEntry(path, mode, "0" * 40, 1) for path, mode in modes.items()}
    contents = dict.fromkeys(tree, b"A=1\n")

    def files() -> set[str]:
        return {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}

    async def names() -> set[str]:
        async with workdir.laid_out(tree, contents, at=tmp_path / "here"):
            return await anyio.to_thread.run_sync(files)

    place = "here/stacks/web"
    assert anyio.run(names) == {f"{place}/a.secret.env", f"{place}/.decrypted.a.secret.env"}
