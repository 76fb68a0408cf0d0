"""Files of any commit, written beside the checkout: for a look that must change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from agent.adapters.git.git import Git


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
