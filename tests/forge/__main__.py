"""`python -m tests.forge`: build Gitea, if that was not done before."""

from __future__ import annotations

import sys

from tests.forge import gitea
from tests.sandbox.process import SandboxError


def main() -> int:
    try:
        gitea.build()
    except SandboxError as error:
        print(f"forge: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
