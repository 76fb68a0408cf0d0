"""What a pull request calls its things, on its way to a terminal, a log and a comment."""

from __future__ import annotations

import json

import pytest

from agent.control.review.check import Report
from agent.control.review.diff import Comparison
from agent.domain.errors import PermanentError
from agent.domain.finding import Finding, Level
from agent.domain.outcome import Reason
from agent.domain.reconcile.effects import Delta, ServiceEffect, StackEffects
from agent.domain.review.host_diff import HostChange, StackChange
from agent.surface.cli import check_report, common, diff_report, main, terminal

NAME = "stacks/a b\n::error::x\x1b[2J\u2028%,:ö#1"


def report(where: str) -> Report:
    return Report(
        [
            Finding(
                level=Level.ERROR,
                rule="paths",
                where=where,
                message=f"{NAME!s} is not there",
                hint=NAME,
            )
        ],
        1,
        1,
    )


def comparison(path: str) -> Comparison:
    service = ServiceEffect(name="web", action="recreate", volumes=Delta((path,)))
    effects = StackEffects(services=(service,))
    stack = StackChange(
        name="web",
        action="deploy",
        reason=Reason.CHANGED,
        message="its files changed",
        inputs=(path,),
        effects=effects,
    )
    return Comparison(
        base="a" * 40, head="b" * 40, hosts=(HostChange("nas", (stack,)),), unchanged=()
    )


def test_a_finding_is_one_line_whatever_it_is_about() -> None:
    for form in ("text", "github"):
        lines = check_report.FORMATS[form](report(f"{NAME}:3")).split("\n")
        assert len(lines) == 2
        assert lines[1] == "1 error, 0 warnings (1 host, 1 stack)."
    assert "\x1b" not in check_report.as_text(report(NAME))
    assert check_report.as_github(report(f"{NAME}:3")).startswith(
        "::error file=stacks/a b%0A%3A%3Aerror"
    )


def test_code_scanning_gets_an_address() -> None:
    for name, uri in (("a b/ö%.env", "a%20b/%C3%B6%25.env"), ("a:b#c?", "a%3Ab%23c%3F")):
        (result,) = json.loads(check_report.as_sarif(report(f"{name}:3")))["runs"][0]["results"]
        place = result["locations"][0]["physicalLocation"]
        assert place == {"artifactLocation": {"uri": uri}, "region": {"startLine": 3}}


def test_a_comparison_is_as_many_lines_as_it_has_items() -> None:
    plain = diff_report.as_text(comparison("stacks/web/a"))
    assert diff_report.as_text(comparison(NAME)).count("\n") == plain.count("\n")
    assert "\x1b" not in diff_report.as_text(comparison(NAME))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("@ada", r"\@&#8203;ada"),
        ("&commat;ada", "&amp;commat;ada"),
        ("x/@org/team", r"x/\@&#8203;org/team"),
        ("app:1@sha256:0", r"app:1\@sha256:0"),
        ("o/r#12", r"o/r\#&#8203;12"),
        ("<img src=x>|`a`\\", r"\<img src=x\>\|\`a\`\\"),
    ],
)
def test_a_comment_calls_nobody_and_holds_no_markup(path: str, shown: str) -> None:
    assert f"- files: {shown}\n" in diff_report.as_markdown(comparison(path))


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main._say(PermanentError("it cannot be read", where=NAME))
    said = capsys.readouterr().err
    assert said.startswith("commitd: stacks/a b ::error::x\\x1b[2J ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("name", ["::add-mask::x", "  ::stop-commands::x", "a ##[add-mask]x"])
def test_no_name_is_a_command_to_the_ci_that_prints_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """GitHub and Gitea take these for commands: where a line begins, or anywhere in one."""
    found, changes = report(name), comparison(name)
    texts = [check_report.FORMATS[form](found) for form in ("text", "json", "sarif")]
    texts += [write(changes) for write in diff_report.FORMATS.values()]
    terminal.say(f"{name}: deploy")
    terminal.print_table(["stack", "why"], [[name, name]])
    main._say(PermanentError("it cannot be read", where=name))
    common.print_json({"path": name})
    caught = capsys.readouterr()
    for line in "\n".join([*texts, caught.out, caught.err]).split("\n"):
        assert not line.lstrip().startswith("::")
        assert "##[" not in line
    (_, summary) = check_report.as_github(found).split("\n")
    assert not summary.startswith("::")
    assert json.loads(check_report.as_json(found))["findings"][0]["file"] == name
