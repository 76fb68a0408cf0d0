"""Stacks of one small service each, and the host that runs them, for benches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import Journal
from tests.sandbox import Workspace
from tests.sandbox.host import Host

if TYPE_CHECKING:
    from tests.sandbox import Sandbox

STACKS = 20
STEADY = "steady"
"""One more, which no commit changes."""


class Stacks:
    """Their declaration; every commit changes all of them."""

    def __init__(self, box: Sandbox, image: str) -> None:
        self._work = Workspace(box)
        self._turn = 0
        self._image = image
        self.names = [f"stack-{number:02}" for number in range(STACKS)]
        listed = "".join(f"- {name}\n" for name in [*self.names, STEADY])
        steady = f"stacks/{STEADY}/compose.yaml"
        self._work.write({"host/media/stacks.yaml": listed, steady: compose(image)})

    def change(self) -> str:
        """Declare them anew; the commit's short name."""
        self._turn += 1
        changed = compose(self._image, self._turn)
        self._work.write({f"stacks/{name}/compose.yaml": changed for name in self.names})
        sha = self._work.commit(f"turn {self._turn}")
        self._work.push()
        return sha[:7]


def host(box: Sandbox) -> Host:
    """An enrolled host that ends as many containers as there are; one remote, by path."""
    made = Host(box, undeclared={"stop_timeout": "1s", "per_minute": 100_000})
    made.config["remotes"] = [{"name": "gitea", "url": f"file://{box.gitea.path}", "poll": "1s"}]
    made.write_config()
    made.state.mkdir(mode=0o700)
    journal = Journal(made.state / "journal.db")
    journal.put("enrolled", utcnow())
    journal.close()
    return made


def declare(work: Workspace, image: str, count: int) -> list[str]:
    """Write and commit as many equal stacks as that, and push them; their names."""
    names = [f"stack-{number:03}" for number in range(count)]
    work.write({"host/media/stacks.yaml": "".join(f"- {name}\n" for name in names)})
    work.write({f"stacks/{name}/compose.yaml": compose(image) for name in names})
    work.commit(f"{count} stacks")
    work.push()
    return names


def compose(image: str, turn: int = 0) -> str:
    """The file of one stack; another `turn` is another container."""
    text = f"services:\n  app:\n    image: {image}\n    network_mode: none\n"
    return f"{text}    environment: {{TURN: '{turn}'}}\n" if turn else text
