"""What the Swarms of these tests run: ten services in three stacks, with a config and a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.system.conftest import Fleet

STACKS = ("data", "edge", "web")
RUNNING = {
    "data_cache": 2, "data_db": 1, "data_queue": 1,
    "edge_agent": 2, "edge_proxy": 1, "edge_watch": 1,
    "web_api": 2, "web_app": 2, "web_mail": 1, "web_worker": 3,
}  # fmt: skip
"""The services, and how many tasks each has where there are two nodes."""
WITH_CONFIG = "edge_proxy"
WITH_SECRET = "data_db"


def files(
    fleet: Fleet,
    *,
    setting: str = "one",
    word: str = "",
    stacks: tuple[str, ...] = STACKS,
    image: str = "",
    worker: Mapping[str, Any] | None = None,
) -> dict[str, str | bytes | None]:
    """The repository; without a `word` the secret stays as it is.

    `image` is that of all services of the stack web, `worker` more keys of its service worker.
    """
    idle = {"image": fleet.idle}
    image = image or fleet.idle
    two = {"deploy": {"replicas": 2}}
    config, secret = "edge/setting.conf", "data/word.secret.key"
    data = stack_file(
        {"db": {**idle, "secrets": ["word"]}, "cache": {**idle, **two}, "queue": idle},
        secrets={"word": {"file": "./.decrypted.word.secret.key"}},
    )
    edge = stack_file(
        {
            "proxy": {**idle, "configs": [{"source": "setting", "target": "/setting"}]},
            "agent": {**idle, "deploy": {"mode": "global"}},
            "watch": idle,
        },
        configs={"setting": {"file": "./setting.conf"}},
    )
    web = stack_file(
        {
            "app": {"image": image, **two},
            "api": {"image": image, **two},
            "mail": {"image": image},
            "worker": {"image": image, "deploy": {"replicas": 3}, **(worker or {})},
        }
    )
    given: dict[str, str | bytes | None] = {
        "host/prod/stacks.yaml": "".join(f"- {name}\n" for name in stacks),
        "stacks/data/compose.yaml": data,
        "stacks/edge/compose.yaml": edge,
        "stacks/web/compose.yaml": web,
        f"stacks/{config}": f"{setting}\n",
    }
    if word:  # encrypted anew it would be another file
        given[f"stacks/{secret}"] = fleet.box.encrypt(f"{word}\n".encode(), kind="binary")
    return given
