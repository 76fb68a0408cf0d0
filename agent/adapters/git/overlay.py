"""Commits and files put together in an index of their own, beside the checkout and its index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.adapters.git.git import Git

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
    aside = {"GIT_INDEX_FILE": str(git.root / ".git" / "overlay.index")}
    await git.check("read-tree", sha, env=aside)
    for stack, older in sorted(overlays.items()):
        place = f"stacks/{stack}"
        await git.check(
            "rm", "-r", "-f", "--cached", "--quiet", "--ignore-unmatch", "--", place, env=aside
        )
        await git.check("read-tree", f"--prefix={place}/", f"{older}:{place}", env=aside)
    tree = (await git.check("write-tree", env=aside)).decode().strip()
    words = ["commit-tree", tree, "-p", sha, "-m", "commitd: some stacks as they were"]
    return (await git.check(*words, env=_NOBODY)).decode().strip()


async def export(git: Git, sha: str, paths: Iterable[str], into: Path) -> None:
    """Write ``paths`` of the commit ``sha`` below ``into``, as a checkout would have them.

    Neither the clone's index nor its work tree is touched. Raises :class:`TransientError`.
    """
    index = into.with_name(f"{into.name}.index")
    env = {"GIT_INDEX_FILE": str(index)}
    try:
        await git.check("read-tree", sha, env=env)
        names = "".join(f"{path}\0" for path in paths).encode()
        await git.check(
            "checkout-index", "--force", "--quiet", f"--prefix={into}/", "-z", "--stdin",
            env=env, stdin=names,
        )  # fmt: skip
    finally:
        index.unlink(missing_ok=True)
