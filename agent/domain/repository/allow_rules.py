"""What is left alone although nobody declared it: rules from Git, and what the host says.

Presets recognise what well-known tools start through the engine's socket. The engine records no
parent, so that names, labels and networks are all there is to go by:

- Gitea's and Forgejo's runners name jobs, services and networks after the task; act adds a hash
  (code of gitea/act, ``createContainerName``);
- GitHub's runner joins all containers of a job to a network of its own (actions/runner);
- GitLab's runner labels all it starts (docs.gitlab.com, Docker executor);
- Buildx names its builders (docs.docker.com, docker-container driver);
- dev containers carry labels, their Compose projects a suffix (devcontainers/cli);
- Testcontainers labels all it starts; its reaper is an image of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from msgspec import Struct

from agent.domain.container import PROJECT, Container


class Pattern(Struct, frozen=True):
    """Globs that must all match; None matches anything. ``label`` is a key and its value."""

    name: str | None = None
    image: str | None = None
    label: tuple[str, str] | None = None
    network: str | None = None

    def matches(self, container: Container) -> bool:
        """Whether the container is one of these."""
        if self.label is not None:
            key, value = self.label
            if not any(
                fnmatchcase(k, key) and fnmatchcase(v, value) for k, v in container.labels.items()
            ):
                return False
        return (
            _fits(container.name, self.name)
            and _fits(container.image, self.image)
            and _fits(container.network or "", self.network)
        )


def _fits(text: str, glob: str | None) -> bool:
    return glob is None or fnmatchcase(text, glob)


PRESETS: Mapping[str, tuple[Pattern, ...]] = {
    "ci-runners": (
        Pattern(name="GITEA-ACTIONS-TASK-*"),
        Pattern(network="GITEA-ACTIONS-TASK-*"),
        Pattern(name="FORGEJO-ACTIONS-TASK-*"),
        Pattern(network="FORGEJO-ACTIONS-TASK-*"),
        Pattern(name="act-*-" + "[0-9a-f]" * 64),
        Pattern(network="github_network_*"),
        Pattern(label=("com.gitlab.gitlab-runner.*", "*")),
    ),
    "buildx": (Pattern(name="buildx_buildkit_*"),),
    "devcontainers": (
        Pattern(label=("devcontainer.local_folder", "*")),
        Pattern(label=("vsch.*", "*")),
        Pattern(label=(PROJECT, "*_devcontainer")),
    ),
    "testcontainers": (
        Pattern(label=("org.testcontainers*", "*")),
        Pattern(image="testcontainers/*"),
    ),
}


class AllowRule(Struct, frozen=True):
    """One entry of ``allow:``; any of its patterns is enough. ``where`` is its ``file:line``."""

    where: str
    patterns: tuple[Pattern, ...]

    def matches(self, container: Container) -> bool:
        """Whether the rule lets the container be."""
        return any(pattern.matches(container) for pattern in self.patterns)
