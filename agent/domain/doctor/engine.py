"""The Docker engine: who may talk to it, and whether it is one that the agent can manage."""

from __future__ import annotations

import stat

from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning


def socket(path: str, mode: int | None, owner: int, *, group: str) -> Finding:
    """The engine's socket by its mode; None: there is none. Whoever may write to it is root."""
    code = Code.DOCKER_SOCKET
    if mode is None:
        hint = "systemctl start docker; or name the right one as docker.socket"
        return problem(code, f"there is no {path}", hint)
    if not stat.S_ISSOCK(mode):
        return problem(code, f"{path} is no socket", "name the right one as docker.socket")
    if mode & 0o002:
        remedy = f"chmod o-rw {path}, and see SocketMode= of docker.socket"
        said = f"anybody on this machine may use {path}, and is root by that"
        return problem(code, f"{said} (mode {stat.S_IMODE(mode):04o})", remedy)
    if owner != 0:
        said = f"{path} belongs to user {owner}, who is root by that, as is the group {group}"
        return warning(code, said, "a rootless engine is not what the agent was tried with")
    return ok(code, f"{path} is open to root and the group {group}")


def swarm(state: str, *, control: bool) -> Finding:
    """``state`` is what the engine says of its Swarm: ``inactive``, ``active`` …"""
    if state in {"", "inactive"}:
        return ok(Code.SWARM, "a plain host, in no Swarm")
    kind = "a manager" if control else "a worker"
    return warning(
        Code.SWARM,
        f"the engine is {kind} of a Swarm ({state}): the agent leaves its tasks alone,"
        " and deploys none",
        "docker.mode: swarm on each manager, if the agent is to deploy to it; docker swarm leave,"
        " if it is not wanted",
    )


def unreachable(code: Code, why: str, *, denied: bool) -> Finding:
    """It does not answer, and what hangs on that is not known."""
    if denied:
        return unknown(code, "this user may not ask Docker", "sudo commitd doctor")
    return problem(code, f"Docker does not answer: {why}", "systemctl status docker")
