"""An agent that is killed anywhere in a deploy that fails, or in its rollback, costs nothing."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox import EngineError
from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.system.killing import at, nth, once_until
from tests.system.releases import NEVER_WELL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.engine_proxy import Request
    from tests.system.conftest import Fleet
    from tests.system.killing import Fatal

_BACK = "web: its new release was not healthy"
_RUNNING = {"web-app-1", "web-side-1", "other-app-1"}
_STACK = "stacks/web/compose.yaml"
_NETWORK = "    network_mode: host\n"


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[EngineProxy]:
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "killed-proxy.sock") as proxy:
        yield proxy


class _Story:
    """Rounds of the same: each commits another release that ends at once.

    Of one service settings, image, value and secret change, of another a mounted file alone. The
    bad release has one more, each time another: one that is kept would be taken up again.
    """

    def __init__(self, fleet: Fleet, proxy: EngineProxy) -> None:
        self._fleet = fleet
        self._proxy = proxy
        self._host = fleet.host()
        self._round = 0
        fleet.commit(
            "good",
            {
                "host/media/stacks.yaml": "- web\n- other\n",
                _STACK: self._compose(fleet.web),
                "stacks/other/compose.yaml": fleet.compose(),
                **self._values("good"),
            },
        )
        assert self._host.once().returncode == 0
        fleet.box.engine.run("exec", "web-app-1", "touch", "/data/precious")
        self._host.config["docker"] = {"socket": proxy.host}
        self._host.write_config()
        self._other = fleet.running()["other-app-1"]

    def tell(self, fatal: Fatal | None = None, *, after: bool = False) -> list[Request]:
        """Play one round. The agent is killed at the first `fatal` effect, and the next goes on.

        Returns the effects up to there. In the end all of what was well must run, and stay.
        """
        self._round += 1
        self._commit_bad()
        effects = once_until(self._host, self._proxy, fatal, after=after)
        where = f"{'after' if after else 'before'} the last of {[*map(str, effects)]}"
        # What was put right by the next agent a few rounds in a row waits a little in between.
        wait_until(self._settles, what=f"the older release, {where}", seconds=120)
        self._until_healthy("good", where)
        before = self._fleet.running(), self._done()
        assert self._host.once().returncode == 1
        assert (self._fleet.running(), self._done()) == before, where
        return effects

    def _settles(self) -> bool:
        return _BACK in self._host.once().stdout and self._fleet.running().keys() == _RUNNING

    def mend(self) -> None:
        """What is good again replaces what is back."""
        self._fleet.commit("mended", {_STACK: self._compose(self._fleet.web)})
        assert self._host.once().returncode == 0
        self._until_healthy(f"bad {self._round}", "mended")

    def _until_healthy(self, word: str, where: str) -> None:
        fleet, engine = self._fleet, self._fleet.box.engine
        running = fleet.running()
        assert running.keys() == _RUNNING, where
        assert running["other-app-1"] == self._other, where
        values = fleet.environment("web-app-1")
        assert (values["V"], values["S"]) == (word, word), where
        assert engine.inspect("web-app-1")["Config"]["Image"] == fleet.web, where
        assert engine.run("exec", "web-side-1", "cat", "/x") == word, where
        assert "precious" in engine.run("exec", "web-app-1", "ls", "/data"), where

    def _commit_bad(self) -> None:
        fleet = self._fleet
        bad = self._compose(fleet.web2, f"    command: [sh, -c, exit 3]\n    {NEVER_WELL}\n")
        fleet.commit(
            f"bad {self._round}",
            {
                _STACK: f"{bad}  extra{self._round}:\n{_NETWORK}    image: {fleet.idle}\n",
                **self._values(f"bad {self._round}"),
            },
        )
        with contextlib.suppress(EngineError):  # so that it has to be pulled
            fleet.box.engine.api("DELETE", f"/images/{fleet.web2}")

    def _compose(self, image: str, more: str = "") -> str:
        return (
            "volumes: {data: {}}\n"
            "services:\n"
            f"  side:\n{_NETWORK}    image: {self._fleet.idle}\n    volumes: [./a.conf:/x:ro]\n"
            f"  app:\n{_NETWORK}    image: {image}\n    volumes: [data:/data]\n"
            "    environment: {V: '${V}', S: '${S}'}\n" + more
        )

    def _values(self, word: str) -> dict[str, str | bytes | None]:
        return {
            "stacks/web/v.env": f"V={word}\n",
            "stacks/web/a.conf": word,
            "stacks/web/s.secret.env": self._fleet.box.encrypt(f"S={word}\n"),
        }

    def _done(self) -> list[dict[str, Any]]:
        return [entry for entry in self._host.json("history") if entry["action"] != "hold"]


@pytest.mark.timeout(1800)  # rounds of some seconds each
def test_an_agent_killed_between_any_two_effects_of_a_rollback_is_continued_by_the_next(
    fleet: Fleet, proxy: EngineProxy, pytestconfig: pytest.Config
) -> None:
    """What was healthy runs in the end, with all its files, and the bad input is remembered."""
    story = _Story(fleet, proxy)
    if pytestconfig.getoption("--every-effect"):
        for number, _ in enumerate(story.tell(), 1):
            story.tell(at(number))
            story.tell(at(number), after=True)
    else:
        story.tell(nth("POST /containers/create"))
        story.tell(nth("DELETE /containers/*", 2), after=True)  # the older one is not there yet
        story.tell(nth("POST /containers/*/restart", 2), after=True)  # its file is, but not its end
    story.mend()
