"""What is wrong with the plaintext of a secret that holds variables. No message holds a value."""

from __future__ import annotations

from agent.domain.errors import PermanentError
from agent.domain.repository import dotenv, interpolation
from agent.domain.repository.layout import plaintext_path


def unusable(path: str, plaintext: bytes) -> str | None:
    """Why the variables of the secret at ``path`` must not be interpolated, or None."""
    try:
        names = dotenv.decrypted_values(plaintext)
    except ValueError as err:
        return f"{path}: {err}"
    problems = (interpolation.refused(name) for name in names)
    return next((f"{path}: {problem}" for problem in problems if problem), None)


def odd(path: str, plaintext: bytes) -> str | None:
    """What is worth a warning once they are decrypted, or None."""
    if names := dotenv.ends_with_cr(plaintext):
        return (
            f"{path}: the value ends with a carriage return, which its services get: "
            f"{', '.join(names)} (take it out with sops edit {path})"
        )
    return None


def refuse_in_env_file(path: str, plaintext: bytes, *, raw: bool) -> None:
    """Raise :class:`PermanentError` for a line that ``env_file:`` cannot read in that format."""
    for line, message, hint in dotenv.raw_faults(plaintext) if raw else ():
        raise PermanentError(message, where=f"{path}:{line}", hint=f"{hint}: sops edit {path}")


def changed(path: str, plaintext: bytes, *, raw: bool) -> str | None:
    """Whose values ``env_file:`` does not take verbatim, or None."""
    try:
        names = dotenv.changed_by_compose(plaintext, raw=raw)
    except ValueError:
        return None  # no such file at all, which Compose says
    if not names:
        return None
    remedy = "take carriage returns and white space in keys out" if raw else "add format: raw"
    return (
        f"env_file: {plaintext_path(path)}: Compose changes the values of {', '.join(names)}, or "
        f"refuses them; {remedy}"
    )
