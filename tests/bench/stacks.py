"""Twenty stacks of one small service each, and the host that runs them, for benches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.adapters.database import utcnow
from agent.adapters.journal import Journal
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
        self._compose = f"services:\n  app:\n    image: {image}\n    network_mode: none\n"
        self.names = [f"stack-{number:02}" for number in range(STACKS)]
        listed = "".join(f"- {name}\n" for name in [*self.names, STEADY])
        steady = f"stacks/{STEADY}/compose.yaml"
        self._work.write({"host/media/stacks.yaml": listed, steady: self._compose})

    def change(self) -> str:
        """Declare them anew; the commit's short name."""
        self._turn += 1
        compose = f"{self._compose}    environment: {{TURN: '{self._turn}'}}\n"
        self._work.write({f"stacks/{name}/compose.yaml": compose for name in self.names})
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
