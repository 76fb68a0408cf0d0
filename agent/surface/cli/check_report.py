"""Findings for people, for programs, and for what shows them beside a pull request."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from agent.control.review.check import Report
from agent.domain.finding import Finding
from agent.domain.review.checks import RULES
from agent.domain.review.checks.merge import place
from agent.surface.cli.terminal import json_text, one_line

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"


def as_text(report: Report) -> str:
    """One line a finding, as compilers have it, and a last line that sums up."""
    found = [f"{f.where}: {f.level}: {_said(f)} [{f.rule}]" for f in report.findings]
    lines = map(one_line, found)
    return "\n".join([*lines, summary(report)])


def summary(report: Report) -> str:
    """What was looked at and how it stands, in one line."""
    seen = f"{count(report.hosts, 'host')}, {count(report.stacks, 'stack')}"
    if not report.findings:
        return f"Nothing to complain about: {seen}."
    errors, warnings = count(report.errors, "error"), count(report.warnings, "warning")
    return f"{errors}, {warnings} ({seen})."


def as_json(report: Report) -> str:
    """A stable contract, see the reference."""
    findings = []
    for finding in report.findings:
        file, line = place(finding.where)
        findings.append(
            {
                "level": finding.level.value,
                "rule": finding.rule,
                "file": file,
                "line": line or None,
                "message": finding.message,
                "hint": finding.hint,
            }
        )
    data = {"errors": report.errors, "warnings": report.warnings, "findings": findings}
    return json_text(data)


def as_github(report: Report) -> str:
    """Workflow commands, which GitHub and Gitea show at the line."""
    lines = []
    for finding in report.findings:
        file, line = place(finding.where)
        at = f"file={_property(file)}" + (f",line={line}" if line else "")
        title = _property(f"commitd {finding.rule}")
        lines.append(f"::{finding.level} {at},title={title}::{_data(_said(finding))}")
    return "\n".join([*lines, summary(report)])


def as_sarif(report: Report) -> str:
    """SARIF 2.1.0, for code scanning."""
    rules = [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()]
    driver = {"name": "commitd", "rules": rules}
    results = [_result(finding) for finding in report.findings]
    run = {"tool": {"driver": driver}, "results": results}
    return json_text({"$schema": _SARIF, "version": "2.1.0", "runs": [run]})


FORMATS: Mapping[str, Callable[[Report], str]] = {
    "text": as_text,
    "json": as_json,
    "github": as_github,
    "sarif": as_sarif,
}


def _result(finding: Finding) -> dict[str, Any]:
    file, line = place(finding.where)
    location: dict[str, Any] = {"artifactLocation": {"uri": urllib.parse.quote(file)}}
    if line:
        location["region"] = {"startLine": line}
    return {
        "ruleId": finding.rule,
        "level": finding.level.value,
        "message": {"text": _said(finding)},
        "locations": [{"physicalLocation": location}],
    }


def _said(finding: Finding) -> str:
    return f"{finding.message} ({finding.hint})" if finding.hint else finding.message


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def count(number: int, word: str) -> str:
    """``1 host``, ``2 hosts``."""
    return f"{number} {word}" + ("" if number == 1 else "s")
