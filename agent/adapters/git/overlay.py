"""A commit of our own: one of the remote's, but with some stacks as they were in older ones."""

from __future__ import annotations

from collections.abc import Mapping

from agent.adapters.git.git import Git
from agent.adapters.git.git_dir import OVERLAY_INDEX

_NOBODY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "commitd"), ("EMAIL", "commitd@localhost"), ("DATE", "@0 +0000"))
}
"""With these the same question has the same answer."""


async def commit(git: Git, sha: str, overlays: Mapping[str, str]) -> str:
    """``sha`` with each stack in ``overlays`` as it was at the commit that it maps to.

    Nothing but the checkout refers to it. Raises :class:`TransientError`.
    """
    aside = {"GIT_INDEX_FILE": str(git.dir / OVERLAY_INDEX)}
    await git.check("read-tree", sha, env=aside)
    for stack, older in sorted(overlays.items()):
        place = f"stacks/{stack}"
        await git.check(
            "rm", "-r", "-f", "--cached", "--quiet", "--ignore-unmatch", "--", place, env=aside
        )
        await git.check("read-tree", f"--prefix={place}/", f"{older}:{place}", env=aside)
    tree = (await git.check("write-tree", env=aside)).decode().strip()
    return await commit_tree(git, tree, "commitd: some stacks as they were", "-p", sha)


async def commit_tree(git: Git, tree: str, message: str, *more: str) -> str:
    """A commit of ours of the files in ``tree``. Raises :class:`TransientError`."""
    said = await git.check("commit-tree", tree, *more, "-m", message, env=_NOBODY)
    return said.decode().strip()
