"""Is a stack healthy on a Swarm? Decided from looks at its services, their tasks and the nodes.

A healthy service has as many tasks of its present spec as it wants, which have all run for a while,
or have ended well where that is their nature. What was seen until now is a
:mod:`agent.domain.swarm.course`; :mod:`agent.domain.swarm.patience` says when trouble that may pass
has gone on for too long.

What engines 20.10 and 28 show, measured on a real Swarm of one node, and of two where it matters:

What was deployed
    Each update of a service, also one that changes nothing as ``docker stack deploy`` does to all
    of them, takes its UpdateStatus away; a new one, ``updating``, comes a moment later if there are
    tasks to replace. So an old ``paused`` or ``rollback_completed`` does not outlive a deploy, and
    no status says nothing: tasks may be about to be replaced, or to crash again.
    A task has the spec that it was made from, equal to the service's TaskTemplate but for
    ``Runtime``, which the engine fills in. If only the placement changes, tasks on nodes that still
    fit go on, with their older ``Placement``. Ports are not in it, ``ForceUpdate`` is.
    A task with a health check is ``starting`` until that succeeds: ``running`` is healthy.
    A job starts again with each update of its service, also one that changes nothing; its tasks
    have the number of that start (JobIteration). They end as ``complete``.

What goes wrong
    A failed task (``failed``, ``rejected``) gets ``shutdown`` as its desired state, and in the same
    moment a new one has its place, to be started after the delay of its restart policy. None
    follows with the condition ``none``, or once ``max_attempts`` are used up. The Swarm keeps
    five for a place, or as many as its task history limit says: so they are counted as seen.
    - crash: ``failed``, "task: non-zero exit (3)"; exit 0 with the condition ``any``: ``complete``
    - health check: ``failed``, "task: non-zero exit (137): dockerexec: unhealthy container"
    - image: ``rejected``, "No such image: …", whatever the registry said or did not say
    - mount, command: ``rejected`` "invalid mount config …", ``failed`` "starting container failed"
    - no node: ``pending``, "no suitable node (scheduling constraints not satisfied on 1 node)", or
      "insufficient resources", "host-mode port already in use", "1 node not available for new
      tasks", "max replicas per node limit exceed". A task that takes the place of one that has the
      port says it, too, until that has ended.
    - a global service that fits no node has no task, and no error
    - node down, drained: its tasks are to be ``shutdown``, and stay ``running`` or ``assigned`` for
      as long as the node is silent; those of replicated services come up elsewhere

What the Swarm makes of it, when a task fails within ``monitor`` after it was updated
    ``pause``: ``paused``, "update paused due to failure or early termination of task ID", and the
    tasks go on failing. ``continue``: ``completed``, though no task runs. ``rollback``: the spec is
    the previous one again, in the same moment ``rollback_started``, then ``rollback_completed``
    ("rollback completed" alone) or ``rollback_paused``; PreviousSpec is gone. A person's ``docker
    service rollback`` keeps a PreviousSpec. After ``monitor``: ``completed``, then it crashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from agent.domain.outcome import Reason
from agent.domain.release.health import CRASHES, same_image
from agent.domain.swarm import course as courses
from agent.domain.swarm import finding as findings
from agent.domain.swarm import patience, places
from agent.domain.swarm.course import Course, Look
from agent.domain.swarm.finding import Finding
from agent.domain.swarm.model import SwarmService
from agent.domain.swarm.places import GONE, At, Place
from agent.domain.swarm.spec import without_restarts

_HEARD_S = 1.0
"""Even an update that changes no task needs so long until its status can be trusted."""


def judge(
    course: Course, images: Mapping[str, str], look: Look, steady_s: float
) -> tuple[Course, list[Finding]]:
    """The course after this look, and all that is not healthy: what somebody did, and what is
    final, first.

    ``images`` are what its services are to run, by their short names.
    """
    by_name = {service.short_name: service for service in look.services}
    course = courses.follow(course, look)
    found: dict[str, Finding | None] = {}
    for name, image in sorted(images.items()):
        service = by_name.get(name)
        if service is None:
            found[name] = Finding(service=name, said="somebody has removed it", outside=True)
        else:
            found[name] = (
                _update(course, service, look)
                or _by_hand(course, service, image)
                or _tasks(course, service, look, steady_s)
            )
    course = patience.noted(course, found, look.now)
    judged = patience.tried(course, found, look.now, steady_s)
    return course, sorted(judged, key=lambda it: (not it.outside, not it.final, not it.reason))


def _update(course: Course, service: SwarmService, look: Look) -> Finding | None:
    """What the Swarm says of its update, if that is of this deploy."""
    state, name = service.update or "", service.short_name
    if service.update_began < course.began or state in {"", "updating", "completed"}:
        return None
    finding = Finding(service=name, said="", error=service.update_message)
    if last := course.last(name):
        finding = findings.of_task(last.task, look.nodes, name)
    if state == "paused":
        reason, said = Reason.PAUSED, "the Swarm has paused its update"
    elif service.reversible:  # the Swarm forgets the older spec when it goes back by itself
        return Finding(service=name, said="somebody rolled it back by hand", outside=True)
    else:
        reason, said = Reason.SWARM_BACK, "the Swarm rolled its update back"
        if state == "rollback_paused":
            said += ", and has paused the rollback"
    # Whatever it was, the Swarm has given this update up.
    return replace(finding, said=said, reason=reason, final=True, passing=False)


def _by_hand(course: Course, service: SwarmService, image: str) -> Finding | None:
    name = service.short_name
    first = (course.specs or {}).get(name, service.spec)
    same = without_restarts(service.spec) == without_restarts(first)
    if same and same_image(service.image, image):
        return None
    return Finding(service=name, said="somebody has changed it by hand", outside=True)


def _tasks(course: Course, service: SwarmService, look: Look, steady_s: float) -> Finding | None:
    """What its tasks say."""
    name, found = service.short_name, places.of(service, look.tasks)
    last, steady = course.last(name), course.steady(service, found, look.now, steady_s)
    if last and last.count >= CRASHES and not steady:
        return findings.of_task(last.task, look.nodes, name, last.count)
    if dead := next((place.task for place in found if place.at is At.DEAD), None):
        finding = findings.of_task(dead, look.nodes, name)
        said = "a task has failed, and none follows"
        return replace(finding, said=said, reason=Reason.TASK_ENDED)
    if missing := _missing(service, found, look):
        if last and not missing.error:
            error = findings.of_task(last.task, look.nodes, name)
            return replace(error, said=missing.said, reason=missing.reason)
        return missing
    if not steady:
        return Finding(service=name, said="its tasks have not run for long enough yet")
    if service.update is None and abs(look.wall - service.updated) < max(_HEARD_S, steady_s):
        return Finding(service=name, said="the Swarm has only just got the update")
    return None


def _missing(service: SwarmService, found: Sequence[Place], look: Look) -> Finding | None:
    """That fewer tasks than wanted run, or have ended where that is their nature."""
    name, wanted = service.short_name, places.wanted(service, found)
    ready = {At.DONE} if service.is_job else {At.RUNS, At.DONE}
    good = sum(place.at in ready for place in found)
    counts = f"{good} of {wanted} tasks " + ("have ended well" if service.is_job else "run")
    if service.wanted is None and not found:
        return Finding(
            service=name,
            said=f"none of {len(look.nodes)} nodes is active and fits it",
            reason=Reason.NO_NODE,
            passing=True,
        )
    for place in found:
        if place.at is At.COMING and place.task.state == "pending" and place.task.error:
            # One that still ends may be what is in its way.
            ends = any(
                task.service_id == service.id and task.desired in GONE and task.state == "running"
                for task in look.tasks
            )
            return Finding(
                service=name,
                said=counts,
                error=place.task.error,
                reason=None if ends else Reason.NO_NODE,
                passing=True,
            )
    if good < wanted or any(place.at in {At.COMING, At.OLDER} for place in found):
        return Finding(service=name, said=counts)
    if service.update == "updating":
        return Finding(service=name, said=f"{counts}, and its update is not finished")
    return None
