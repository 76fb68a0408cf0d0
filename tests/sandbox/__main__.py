"""`python -m tests.sandbox exec [-v] -- COMMAND…`: run a command in a private, throw-away world."""

from __future__ import annotations

import argparse
import os
import sys

from tests.sandbox import editions, rootfs, tools, world
from tests.sandbox.process import SandboxError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sandbox", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    execute = verbs.add_parser("exec", help="run a command inside")
    execute.add_argument("-v", "--verbose", action="store_true", help="report start times")
    execute.add_argument(
        "--no-machine",
        action="store_true",
        help="do without the Debian to boot, which takes 45 s to fetch once",
    )
    execute.add_argument(
        "--in-memory",
        action="store_true",
        help="keep what is written in memory, where six gigabytes of it are free: for tests",
    )
    execute.add_argument(
        "--engine",
        choices=editions.ENGINES,
        default=editions.OWN,
        help="instead of the engine of this Debian; fetches 70 MB once",
    )
    execute.add_argument(
        "--beside",
        choices=editions.ENGINES,
        default=editions.OWN,
        help="another engine for some of the nodes of a Swarm; fetches 70 MB once",
    )
    execute.add_argument(
        "--store",
        choices=editions.STORES,
        default=editions.STORES[0],
        help="where that engine keeps its images",
    )
    execute.add_argument(
        "--compose",
        choices=editions.COMPOSES,
        default=editions.OWN,
        help="instead of that of the development tools; Go builds it once, for two minutes",
    )
    execute.add_argument(
        "--with",
        dest="more",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="have this Debian package too, which only some tests need",
    )
    execute.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("the sandbox needs root for its namespaces; run: sudo make test", file=sys.stderr)
        return 2
    try:
        overlay = tools.provide()
        if not options.no_machine:
            rootfs.provide(overlay)
        more = [tools.unpacked(package) for package in options.more]
        layers = [path for path in (editions.engine(options.engine), overlay, *more) if path]
        settings = {world.STORE: options.store}
        if beside := editions.engine(options.beside):
            settings[world.BESIDE] = str(beside)
        if compose := editions.compose(options.compose):
            settings[world.COMPOSE] = str(compose)
        return world.run(
            options.command,
            layers,
            verbose=options.verbose,
            settings=settings,
            in_memory=options.in_memory,
        )
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
