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
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox.host import Host
    from tests.sandbox.swarm import Swarm
    from tests.system.conftest import Fleet

_REFERENCE = Path(__file__).parents[2] / "docs/reference"
_ALERTS = yaml.safe_load((_REFERENCE / "alerts.yaml").read_text())
_DASHBOARD = json.loads((_REFERENCE / "grafana-dashboard.json").read_text())
_PROMETHEUS = "127.0.0.1:9090"
_OF_A_SWARM = {"commitd_swarm_nodes", "commitd_stack_tasks"}
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


def _value(host: Host, name: str, /, **labels: str) -> float | None:
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


_FIRES = {
    "CommitdDown": ['up{job="commitd",instance="a"} 0'],
    "CommitdNotReady": ["commitd_ready 0"],
    "CommitdNotEnrolled": ["commitd_enrolled 0"],
    "CommitdDoesNotLook": ["commitd_cycle_age_seconds 2000"],
    "CommitdCyclesFail": ["commitd_cycle_failing 1"],
    "CommitdEngineDown": ["commitd_engine_up 0"],
    "CommitdHearsNoEvents": ["commitd_event_stream_up 0"],
    "CommitdJournalUnreadable": ["commitd_journal_up 0"],
    "CommitdStackFailed": ['commitd_stack_sync{stack="web",state="failed"} 1'],
    "CommitdStackNotSynced": ['commitd_stack_sync{stack="web",state="held"} 1'],
    "CommitdStackUnhealthy": ['commitd_stack_health{stack="web",state="degraded"} 1'],
    "CommitdStackFailsAgain": ['commitd_stack_failures{stack="web"} 3'],
    "CommitdSuspendedForLong": ['commitd_stack_sync{stack="web",state="suspended"} 1'],
    "CommitdRolledBack": ['commitd_actions_total{action="rollback",status="succeeded"} +1'],
    "CommitdWaitsForPerson": ["commitd_holds_waiting 1"],
    "CommitdNoRemote": ['commitd_remote_reachable{remote="a"} 0'],
    "CommitdRemoteDown": [
        'commitd_remote_reachable{remote="a"} 0', 'commitd_remote_reachable{remote="b"} 1',
    ],
    "CommitdRemoteBehind": ['commitd_remote_lag_commits{remote="a"} 2'],
    "CommitdUndeclaredRemoved": ["commitd_undeclared_removed_total +1"],
    "CommitdCannotTell": ['commitd_outside_failing{name="notify:phone"} 1'],
    "CommitdHostsDiffer": [
        'commitd_revision_info{instance="a",revision="1"} 1',
        'commitd_revision_info{instance="b",revision="2"} 1',
    ],
    "CommitdMemory": ["commitd_process_resident_memory_bytes 3e8"],
}  # fmt: skip
_WELL = [
    'up{job="commitd",instance="a"} 1', "commitd_ready 1", "commitd_enrolled 1",
    "commitd_cycle_age_seconds 300", "commitd_cycle_failing 0", "commitd_engine_up 1",
    "commitd_event_stream_up 1", "commitd_journal_up 1",
    'commitd_stack_sync{stack="web",state="synced"} 1',
    'commitd_stack_sync{stack="web",state="failed"} 0',
    'commitd_stack_sync{stack="web",state="held"} 0',
    'commitd_stack_sync{stack="web",state="suspended"} 0',
    'commitd_stack_health{stack="web",state="degraded"} 0',
    'commitd_stack_failures{stack="web"} 0', "commitd_holds_waiting 0",
    'commitd_actions_total{action="rollback",status="succeeded"} 4',
    'commitd_actions_total{action="rollback",status="failed"} +1',  # nothing was rolled back
    'commitd_remote_reachable{remote="a"} 1', 'commitd_remote_lag_commits{remote="a"} 0',
    "commitd_undeclared_removed_total 7", 'commitd_revision_info{instance="a",revision="1"} 1',
    "commitd_process_resident_memory_bytes 6e7",
]  # fmt: skip


def _series(written: str) -> dict[str, str]:
    """For five days: a value that stays, or grows."""
    name, _, value = written.rpartition(" ")
    return {"series": name, "values": f"0{value}x1500" if value[0] == "+" else f"{value}+0x1500"}


def test_each_alert_fires_when_it_should_and_none_where_all_is_well(tmp_path: Path) -> None:
    assert sorted(_FIRES) == sorted(rule["alert"] for rule in _rules())

    def case(series: list[str], expression: str, expected: int | None) -> dict[str, Any]:
        samples = [] if expected is None else [{"value": expected}]
        query = {"expr": expression, "eval_time": "5d", "exp_samples": samples}
        return {
            "interval": "5m",
            "input_series": [_series(each) for each in series],
            "promql_expr_test": [query],
        }

    firing = 'count(ALERTS{alertstate="firing"%s})'
    cases = [case(series, firing % f',alertname="{name}"', 1) for name, series in _FIRES.items()]
    cases.append(case(_WELL, firing % "", None))
    file = tmp_path / "test.yaml"
    rules = [str(_REFERENCE / "alerts.yaml")]
    told = {"rule_files": rules, "evaluation_interval": "1h", "tests": cases}
    file.write_text(yaml.safe_dump(told))
    done = _promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


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
    url = host.root / "heartbeat.url"
    url.write_text("http://127.0.0.1:9/nobody-listens")
    url.chmod(0o600)
    host.config["heartbeat"] = {"url_file": str(url)}
    host.write_config()
    with host.running() as agent:
        agent.says("held: two")
        wait_until(
            lambda: _value(host, "commitd_outside_failing", name="heartbeat") == 1,
            what="the heartbeat to fail",
        )
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
    assert there == documented - _OF_A_SWARM


def test_the_series_of_a_swarm_are_found_on_its_manager(fleet: Fleet, swarm: Swarm) -> None:
    assert swarm.active
    host = fleet.managed({"web": stack_file({"app": {"image": fleet.idle}})})
    with host.running() as agent:
        agent.says("in sync")
        wait_until(
            lambda: _value(host, "commitd_stack_tasks", stack="web", state="running") == 1,
            what="its task to be counted",
        )
        assert _value(host, "commitd_stack_tasks", stack="web", state="other") == 0
        assert _value(host, "commitd_swarm_nodes", state="ready") == 1
        _, text = host.ask("GET /metrics")
    there = {sample.name for f in text_string_to_metric_families(text) for sample in f.samples}
    assert there >= _OF_A_SWARM


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
        agent.says("one rolled back to")
        assert _value(host, "commitd_undeclared_removed_total") == 1
        assert _value(host, "commitd_actions_total", action="deploy", status="failed") == 1
