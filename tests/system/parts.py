"""Which of the system tests `make test` runs, and which `make others`: each is of one of the two.

`make test` has what happens to containers: what is deployed, repaired, kept, rolled back, ended or
left alone, and what keeps the agent from doing that wrongly. A new file is part of it unless it is
named here. `make others` has what is around that: it changes less often, and would make everybody
wait for it who changes something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

DEPLOYS, OTHERS = PARTS = ("deploys", "others")

_ON_A_MACHINE = {"doctor", "leave", "service", "service_setup", "setup", "upgrade"}
"""It becomes a host, is looked at, gets another version; some of them boot a Debian."""
_IN_A_CLONE = {
    "check", "check_hosts", "diff", "init", "pin", "recipients", "references", "sops_rules",
}  # fmt: skip
"""Verbs that people and CI run in the repository, most of them without an engine."""
_BESIDE_THE_WORK = {
    "api", "api_load", "cli", "metrics", "notify", "openapi", "outside", "page", "peers", "status",
    "why",
}  # fmt: skip
"""What tells people and programs how the host stands, and takes their orders."""
_BELOW = {"git_processes", "probe_liars", "probes", "sandbox", "warm_fetch"}
"""How remotes are asked and how quickly, and what all of these tests rely on."""
_OF_A_SWARM = {
    "swarm_adopt", "swarm_check", "swarm_gate", "swarm_killed", "swarm_leaders", "swarm_objects",
    "swarm_secrets", "swarm_words",
}  # fmt: skip
"""All but its life on one node, what is deployed there and what is ended."""
FILES = frozenset(
    f"test_{name}.py"
    for name in _ON_A_MACHINE | _IN_A_CLONE | _BESIDE_THE_WORK | _BELOW | _OF_A_SWARM
)

SAFETY = frozenset(
    {
        "test_cli.py::test_a_second_agent_is_refused_with_the_process_of_the_first",
        "test_cli.py::test_before_enrolment_everything_that_was_there_is_reported_and_left",
        "test_cli.py::test_only_a_commit_that_is_known_can_be_approved",
        "test_cli.py::test_plan_says_what_would_be_done_and_does_nothing",
        "test_leave.py::test_no_plaintext_stays_and_no_container_is_touched",
        "test_setup.py::test_a_clone_removes_nothing_by_the_consent_of_the_other_machine",
        "test_setup.py::test_an_agent_with_the_keys_of_another_machine_deploys_and_says_so",
    }
)
"""Tests of those files that are about containers, too."""


def of(item: pytest.Item) -> str:
    """The part that a test is of."""
    file, name = item.path.name, item.name.partition("[")[0]
    return OTHERS if file in FILES and f"{file}::{name}" not in SAFETY else DEPLOYS
