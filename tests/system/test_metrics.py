"""Metrics of a running agent, and the dashboard and alert rules that are made of them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_REFERENCE = Path(__file__).parents[2] / "docs/reference"
_ALERTS = yaml.safe_load((_REFERENCE / "alerts.yaml").read_text())
_DASHBOARD = json.loads((_REFERENCE / "grafana-dashboard.json").read_text())
_PROMETHEUS = "127.0.0.1:9090"
_ONLY_IN_TROUBLE = {"commitd_outside_failing"}
_BROKEN = "services:\n  app:\n    image: nowhere\n    build: .\n"


def _rules() -> list[dict[str, Any]]:
    return [rule for group in _ALERTS["groups"] for rule in group["rules"]]


def _expressions() -> Iterator[str]:
    """Of the alerts and of the dashboard, whose variables are put in as Grafana does."""
    yield from (rule["expr"] for rule in _rules())
    for panel in _DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")


def _promtool(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *words], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )


def _told(host: Host) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    code, text = host.ask("GET /metrics")
    assert code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _value(host: Host, name: str, **labels: str) -> float | None:
    return _told(host).get((name, frozenset(labels.items())))


def test_promtool_parses_every_expression_of_the_alerts_and_the_dashboard(tmp_path: Path) -> None:
    done = _promtool("check", "rules", _REFERENCE / "alerts.yaml")
    assert done.returncode == 0, done.stderr
    records = [
        {"record": f"commitd:check:{number}", "expr": expression}
        for number, expression in enumerate(_expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": records}]}))
    done = _promtool("check", "rules", file)
    assert done.returncode == 0, done.stderr
    assert f"{len(records)} rules found" in done.stdout


def _asked(path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://{_PROMETHEUS}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]
    except OSError:  # it has not begun yet
        return {"result": [], "alerts": []}


def test_a_real_prometheus_reads_it_with_the_token_and_its_alerts_come(
    fleet: Fleet, tmp_path: Path
) -> None:
    files = {"host/media/stacks.yaml": "- two\n", "stacks/two/compose.yaml": _BROKEN}
    fleet.commit("first", files)
    host = fleet.host()
    token = host.root / "api.token"
    token.write_text("0123456789abcdef0123")
    token.chmod(0o600)
    host.config |= {"listen": "127.0.0.1:8787", "api": {"token_file": str(token)}}
    host.write_config()
    job = {
        "job_name": "commitd",
        "authorization": {"credentials_file": str(token)},
        "static_configs": [{"targets": ["127.0.0.1:8787"]}],
    }
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(_REFERENCE / "alerts.yaml")],
        "scrape_configs": [job],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    assert _promtool("check", "config", file).returncode == 0
    command = [
        "prometheus", f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={_PROMETHEUS}",
    ]  # fmt: skip
    with (
        host.running() as agent,
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as prometheus,
    ):
        try:
            agent.says("held: two")
            held = quote('commitd_holds{job="commitd",reason="invalid-files"} == 1')
            wait_until(lambda: _asked(f"query?query={held}")["result"], what="the hold")
            wait_until(
                lambda: (
                    {
                        (alert["labels"]["alertname"], alert["labels"].get("stack"))
                        for alert in _asked("alerts")["alerts"]
                    }
                    >= {("CommitdStackNotSynced", "two"), ("CommitdStackUnhealthy", "two")}
                ),
                what="the alerts to be pending",
            )
            agent.end()
            wait_until(
                lambda: any(
                    alert["labels"]["alertname"] == "CommitdDown"
                    for alert in _asked("alerts")["alerts"]
                ),
                what="the alert of an agent that is gone",
            )
        finally:
            prometheus.terminate()


def test_each_alert_says_what_to_do() -> None:
    for rule in _rules():
        assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}


def test_every_series_is_found_on_a_running_agent_and_the_answer_is_well_formed(
    fleet: Fleet,
) -> None:
    files = {
        "host/media/stacks.yaml": "- one\n- two\n",
        "stacks/one/compose.yaml": fleet.compose(),
        "stacks/two/compose.yaml": _BROKEN,
    }
    fleet.commit("first", files)
    host = fleet.host()
    with host.running() as agent:
        agent.says("held: two")
        wait_until(lambda: _value(host, "commitd_ready") == 1, what="a cycle to have ended")
        wait_until(lambda: _value(host, "commitd_event_stream_up") == 1, what="the events")
        code, text = host.ask("GET /metrics")
        assert code == 200
    done = _promtool("check", "metrics", stdin=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    there = {sample.name for f in text_string_to_metric_families(text) for sample in f.samples}
    used = {name for each in _expressions() for name in re.findall(r"\bcommitd_\w+", each)}
    page = (_REFERENCE / "metrics.md").read_text()
    documented = {
        name
        for cell in re.findall(r"^\| (`commitd_[^|]*)\|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert used <= documented
    assert documented - there <= _ONLY_IN_TROUBLE
    assert there <= documented


def test_a_failed_deploy_a_repair_and_a_rogue_show_within_moments(fleet: Fleet) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    with host.running() as agent:
        agent.says("in sync with")
        phases = {
            dict(labels)["phase"]
            for name, labels in _told(host)
            if name == "commitd_stack_phase_duration_seconds"
        }
        assert phases == {"read", "pull", "wait", "create", "gate"}
        before = _value(host, "commitd_stack_last_success_timestamp_seconds", stack="one")
        fleet.commit("bad", {"stacks/one/compose.yaml": fleet.compose(more="    command: [no]\n")})
        wait_until(
            lambda: _value(host, "commitd_actions_total", action="deploy", status="failed") == 1,
            what="the failed deploy to be counted",
        )
        wait_until(
            lambda: _value(host, "commitd_stack_sync", stack="one", state="failed") == 1,
            what="the stack to be failed",
        )
        assert (_value(host, "commitd_stack_failures", stack="one") or 0) >= 1
        wait_until(
            lambda: (
                _value(host, "commitd_actions_total", action="rollback", status="succeeded") == 1
            ),
            what="the rollback to be counted",
        )
        fleet.box.engine.run("run", "-d", "--name", "rogue", "--network", "none", fleet.idle)
        wait_until(
            lambda: _value(host, "commitd_undeclared_removed_total") == 1,
            what="the rogue to be counted",
        )
        after = _value(host, "commitd_stack_last_success_timestamp_seconds", stack="one")
        assert before is not None
        assert after is not None
        assert after > before
    with host.running() as agent:  # another process, the same counters
        agent.says("failed: one")
        assert _value(host, "commitd_undeclared_removed_total") == 1
        assert _value(host, "commitd_actions_total", action="deploy", status="failed") == 1
