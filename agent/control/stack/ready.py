"""One stack as it may be brought up, and as it stands once it is."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Self

import anyio.to_thread
from msgspec import Struct, field
from msgspec.structs import replace

from agent.adapters import shared_tree
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.control.health.sightings import Quoting
from agent.control.stack.kept_models import KeptModels
from agent.domain import documents
from agent.domain.compose import at_start, given, policy, redact
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.compose.policy import Effect
from agent.domain.container import CONFIG_HASH, Container
from agent.domain.documents import Path
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.reconcile.effects import Side, relative
from agent.domain.release import expected, reload
from agent.domain.release.health import Expected
from agent.domain.release.release import Release, Service
from agent.domain.release.reload import Mounted
from agent.domain.repository import artefacts
from agent.domain.repository.desired import Stack
from agent.domain.repository.image_reference import pinned
from agent.domain.repository.layout import PLAINTEXT_PREFIX
from agent.domain.repository.tree import Inputs
from agent.domain.resources import provision
from agent.domain.resources.provision import DeclaredResources

log = logging.getLogger("commitd.stacks")


class Ready(Struct, frozen=True, kw_only=True):
    """A stack that was read and may be brought up; ``model`` is what was judged and will be.

    ``mounted`` is what each service sees of the repository.
    """

    invocation: Invocation
    services: Mapping[str, Expected]
    mounted: Mapping[str, Mounted]
    resources: tuple[DeclaredResources, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Ready({self.stack!r})"

    @classmethod
    def of(cls, call: Invocation, model: Mapping[str, Any]) -> Self:
        """The stack with this ``model``, mounts in the checkout; nothing is judged. Blocks."""
        services = expected.services(model, call.value, call.salt)
        return cls(
            invocation=call,
            services=services,
            mounted=mounts(call, services),
            resources=provision.declared(model),
            model=model,
        )

    @property
    def stack(self) -> Stack:
        """What of Git it is."""
        return self.invocation.stack

    @property
    def images(self) -> frozenset[str]:
        """What must be on the engine before; images that Compose builds are not."""
        running = {name for name, each in self.services.items() if each.scale}
        named = artefacts.of_model(self.model)
        found = {each.reference for each in named if each.service in running}
        return (
            frozenset(found) if not self.stack.policy.builds else frozenset(filter(pinned, found))
        )

    @property
    def waits(self) -> bool:
        """Whether services of it are started only once others are healthy or have ended with 0."""
        return any(service.waits for service in self.services.values())

    @property
    def started_by_engine(self) -> bool:
        """Whether nothing is left of its start, once Compose has made it, but its containers'."""
        written = any(service.inline for service in self.services.values())
        return not (self.waits or written) and at_start.plain(self.model)

    def files(self, service: str) -> Inputs:
        """The repository's files that are mounted into the service."""
        return self.mounted[service].files

    def reload(self, service: str, older: Collection[tuple[str, str]]) -> str:
        """What a service needs whose mounted files alone have changed, by what the stack wants."""
        return self.mounted[service].reload(self.stack.settings.reload(service), older)

    def place(self, path: Path) -> str:
        """Where the stack's own file says what is at ``path``, as far as it does. Blocks."""
        name = self.stack.compose
        try:
            document = documents.load(self.invocation.file.read_bytes(), name)
        except (OSError, CommitdError):
            return name
        return f"{name}:{document.lines[path]}" if path in document.lines else name

    def refuse_foreign_links(self, ours: Callable[[str], str | None]) -> None:
        """Refuse to mount what a link leads to that Git did not put there. Blocks.

        ``ours`` is where a link of the agent's own at a path of the checkout leads. Raises
        :class:`PermanentError`.
        """
        call = self.invocation
        for name, source in given.sources(self.model):
            if link := shared_tree.foreign_link_to(call.checkout, call.root, source, ours):
                raise PermanentError(
                    f"{name}: {link} is a symlink that is not in Git; its target would be mounted",
                    where=self.stack.compose,
                    hint="remove the link; to mount a directory of the host, name its path",
                )

    def side(self, agent: AgentPlaces | None = None) -> Side:
        """The same, to be compared; ``agent`` as for :func:`policy.judge`."""
        call = self.invocation
        root, checkout = str(call.root), str(call.checkout)
        shown = relative(relative(self.model, checkout), root)
        found = policy.judge(self.stack, self.model, checkout, built=root, agent=agent)
        if self.stack.policy.swarm:
            from agent.domain.swarm import stack_file  # noqa: PLC0415  a plain host needs none

            found += stack_file.judge(self.stack.name, self.model, checkout)
        noted = (e.message for e in found if e.effect in {Effect.NOTED, Effect.ASKED})
        return Side(
            services=self.services,
            model=shown,
            mounted=self.mounted,
            stack=self.stack,
            asks=tuple(said.replace(f"{checkout}/", "./") for said in noted),
            hidden=call.hidden,
        )


def mounts(call: Invocation, services: Mapping[str, Expected]) -> dict[str, Mounted]:
    """What the services see of the repository, also by links inside it. Blocks.

    Where links lead is what the repository says, not what a container made of the checkout.
    """
    return {name: _mounted(call, name, service) for name, service in services.items()}


def _mounted(call: Invocation, name: str, service: Expected) -> Mounted:
    root, checkout = f"{call.root}/", f"{call.checkout}/"
    read = {
        root + f"{m}/".removeprefix(checkout)
        for m in service.mounts
        if f"{m}/".startswith(checkout)
    }
    paths = frozenset(
        f"{place}/".removeprefix(root).rstrip("/").replace(PLAINTEXT_PREFIX, "")
        for path in (each.rstrip("/") for each in read)
        for place in (path, os.path.realpath(path))
        if f"{place}/".startswith(root)
    )
    inline = service.inline[:12]
    written = ((f"{call.stack.name}/{name} configs", inline),) if inline else ()
    below = reload.files_below(call.stack.versions, paths)
    return Mounted(paths, (*below, *written), written)


async def accept(
    compose: Compose,
    call: Invocation,
    *,
    models: KeptModels | None = None,
    agent: AgentPlaces | None = None,
    ran: bool = False,
    noted_before: dict[str, str] | None = None,
) -> Ready:
    """The stack as the host lets it run. Touches nothing.

    ``models`` are asked before ``compose``. ``ran`` says that it is a release that ran here before.
    ``noted_before`` is what the log has of what stacks are allowed, by their names; it is noted
    again where that changes. Raises :class:`CommitdError`, also for what policy refuses.
    """
    resolved = await (models or compose).resolve(call)
    stack, root, checkout = call.stack, str(call.root), str(call.checkout)
    model = given.placed(resolved.model, root, checkout)
    found = policy.judge(stack, model, checkout, built=root, agent=agent)
    if ran:
        found = policy.of_release(found)
    said = {each: redact.text(policy.summary(found, each), call.hidden) for each in Effect}
    if refused := said[Effect.REFUSED]:
        raise PermanentError(refused)
    if warned := said[Effect.WARNED]:
        log.warning("%s: allowed: %s", stack.name, warned)
    noted, before = said[Effect.NOTED], {} if noted_before is None else noted_before
    if noted and noted != before.get(stack.name):
        log.info("%s: allowed: %s", stack.name, noted)
    before[stack.name] = noted
    passed = await compose.passed(call, model)
    call = replace(call, own=resolved.own, passed=passed, private=resolved.private)
    return await anyio.to_thread.run_sync(Ready.of, call, model)


def quoting(ready: Ready) -> Quoting:
    """What may be shown of the words of its containers."""
    stack = ready.stack
    return Quoting(stack.name, ready.invocation.hidden, confidential=bool(stack.secrets))


def running_services(containers: Iterable[Container]) -> frozenset[str]:
    """The services of which a container runs."""
    return frozenset(c.service for c in containers if c.service and c.alive and not c.one_off)


def observed(
    ready: Ready, containers: Iterable[Container], before: Release | None
) -> tuple[Service, ...]:
    """The release as it stands, once it is healthy; ``before`` is the one that stood last.

    A container that goes on has the settings that it had then: whatever else it has by now was
    changed by hand meanwhile, and is put right in the next cycle.
    """
    mine = [c for c in containers if not c.one_off]
    hashes = {c.service: c.labels.get(CONFIG_HASH, "") for c in mine}
    settings = {c.service: c.settings for c in mine if c.state == "running"}
    settings |= before.settings_that_stand(mine) if before else {}
    return tuple(
        Service(
            name=name,
            image=service.image,
            scale=service.scale,
            config_hash=hashes[name],
            one_shot=service.one_shot,
            container_name=service.container_name,
            files=ready.files(name),
            joins=bool(service.joins),
            hooks=service.hooks,
            plain=not service.inline and at_start.plain_service(ready.model["services"][name]),
            needs=tuple(sorted(service.needs.items())),
            settings=settings.get(name),
        )
        for name, service in sorted(ready.services.items())
        if service.scale and name in hashes
    )
