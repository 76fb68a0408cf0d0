"""`python -m tests.install`: build and fetch what a world, which has no network, needs of it."""

from __future__ import annotations

import sys

from tests.install import debians, packages
from tests.sandbox import tools
from tests.sandbox.process import SandboxError


def main() -> int:
    try:
        packages.first()
        packages.upgrade()
        packages.broken()
        overlay = tools.provide()
        for debian in debians.ALL:
            debian.provide(overlay)
    except SandboxError as error:
        print(f"install-test: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
