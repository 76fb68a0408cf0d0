"""`make shell`: a shell beside a private engine, with a small fleet repository and a host.

`python -m tests.shell COMMAND…`, in a world of `tests.sandbox`, runs a command there instead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.example import GOOD, IMAGE
from tests.sandbox import Sandbox, Workspace
from tests.sandbox.host import Host

_ABOUT = """
A private engine, a registry and two Git servers run here; all of it is gone when this shell ends.

  commitd once       one cycle of the host `media` ($COMMITD_CONFIG)
  commitd run &      its agent, for as long as the shell is open
  git push --all gitea ; git push --all github
                     this directory is a clone: two hosts, two stacks, first commit pushed
  docker ps          the private engine ($DOCKER_HOST); docker-compose and sops are there too
  sops FILE          with the key of the host; commitd secrets recipients --write first

Images to deploy:
"""
_PROMPT = """
PS1='sandbox:\\W\\$ '
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
"""
"""What still runs in the background ends before the engine does."""


def main(command: list[str]) -> int:
    """Start everything, run the command or a shell, put everything away; the command's code."""
    # Ctrl-C is for what runs in the shell.
    signal.signal(signal.SIGINT, lambda *_: None)
    with Sandbox() as box:
        images = [
            box.images.build("app", tag, files={"version": tag}) for tag in ("1.0", "2.0", "3.0")
        ]
        workspace = Workspace(box)
        workspace.write({name: text.replace(IMAGE, images[0]) for name, text in GOOD.items()})
        workspace.write({"host/media/age.pub": f"{box.age.recipient}\n"})
        workspace.git("config", "user.name", "Ada Example")
        workspace.git("config", "user.email", "ada@example.org")
        for server in (box.gitea, box.github):
            workspace.git("remote", "add", server.name, server.path)
        workspace.commit("two hosts, two stacks")
        workspace.push()
        host = Host(box)
        if not command:
            profile = host.root / "shell.rc"
            profile.write_text(_PROMPT)
            command = ["bash", "--rcfile", str(profile), "-i"]
            print(_ABOUT + "".join(f"  {image}\n" for image in images), flush=True)
        return subprocess.run(
            command, cwd=workspace.path, env=_environment(box, host), check=False
        ).returncode


def _environment(box: Sandbox, host: Host) -> Mapping[str, str]:
    own = [str(Path(sys.executable).parent), str(box.root)]  # commitd, sops
    return {
        **os.environ,
        **host.environment,
        "PATH": os.pathsep.join([*own, *host.path]),
        "DOCKER_HOST": box.engine.host,
        "SOPS_AGE_KEY_FILE": str(box.age.private),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
