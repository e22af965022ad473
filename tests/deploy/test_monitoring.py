# SPDX-License-Identifier: Apache-2.0
"""deploy/monitoring: promtool accepts the rules, their tests pass, and every metric they name exists."""
import glob
import json
import os
import re
import subprocess

import yaml

import config_keys

ROOT = config_keys.ROOT
FOLDER = os.path.join(ROOT, "deploy/monitoring")
SUFFIXES = ("_bucket", "_sum", "_count")


def rules():
    return [path for path in glob.glob(FOLDER + "/*.y*ml") if "test" not in os.path.basename(path)]


def run(*arguments):
    return subprocess.run(arguments, capture_output=True, text=True, cwd=FOLDER, check=False)


def known_metrics():
    with open(os.path.join(ROOT, "include/relay/base/metrics.h"), encoding="utf-8") as file:
        own = {"outbox_relay_" + name for name in re.findall(r'X\(\w+,\s*(?:COUNTER|GAUGE|HISTOGRAM\w*),\s*"(\w+)"', file.read())}
    with open(os.path.join(ROOT, "relay/base/process_metrics.c"), encoding="utf-8") as file:
        return own | set(re.findall(r"\b(?:outbox_relay_)?process_\w+", file.read()))


def test_rules():
    assert rules()
    for path in rules():
        done = run("promtool", "check", "rules", path)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_fire_when_they_should():
    tests = [path for path in glob.glob(FOLDER + "/**/*test*.y*ml", recursive=True)]
    tests += glob.glob(os.path.join(ROOT, "tests/deploy/*rules*.y*ml"))
    assert tests
    for path in tests:
        done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False,
                              cwd=os.path.dirname(path))
        assert done.returncode == 0, done.stdout + done.stderr


def rule_names():
    names = []
    for path in rules():
        with open(path, encoding="utf-8") as file:
            names += [rule["alert"] for group in yaml.safe_load(file)["groups"] for rule in group["rules"]]
    assert names
    return names


def test_each_rule_has_a_case_in_which_it_fires():
    fires = set()
    for path in glob.glob(FOLDER + "/*test*.y*ml"):
        with open(path, encoding="utf-8") as file:
            cases = [case for test in yaml.safe_load(file)["tests"] for case in test["alert_rule_test"]]
        fires |= {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert set(rule_names()) == fires


def runbook():
    """The text under each heading of the document, up to the next one."""
    with open(os.path.join(ROOT, "docs/runbooks.md"), encoding="utf-8") as file:
        parts = re.split(r"^#+ (.*)$", re.sub(r"^ *```.*?^ *```$", "", file.read(), flags=re.M | re.S), flags=re.M)
    headings = parts[1::2]
    assert len(headings) == len(set(headings)), "two sections have one heading"
    return dict(zip(headings, parts[2::2]))


def test_each_rule_is_in_the_runbook():
    index = [line for line in runbook()["Index"].splitlines() if line.startswith("|")]
    missing = [name for name in rule_names() if not any(f"`{name}`" in line for line in index)]
    assert not missing, missing


def test_each_rule_says_where_the_runbook_is():
    """By the heading of its section in the document: whoever is paged may have neither."""
    sections = runbook()
    for path in rules():
        with open(path, encoding="utf-8") as file:
            told = {rule["alert"]: rule["annotations"].get("runbook", "") for group in yaml.safe_load(file)["groups"] for rule in group["rules"]}
        wrong = {name: text for name, text in told.items()
                 if not text.startswith("docs/runbooks.md, ") or f"`{name}`" not in sections.get(text.partition(", ")[2], "")}
        assert not wrong, wrong


def test_rules_keep_deployments_apart():
    """By job and namespace alerts are routed, silenced and grouped; instances of two clusters may share an address."""
    groupings = []
    for path in rules():
        with open(path, encoding="utf-8") as file:
            expressions = [rule["expr"] for group in yaml.safe_load(file)["groups"] for rule in group["rules"]]
        groupings += [labels for one in expressions for labels in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", one)]
    assert groupings and not [labels for labels in groupings if not (labels + ",").startswith("job, namespace,")], groupings


def test_the_documented_command_makes_the_rules_a_prometheus_rule(tmp_path):
    """The Prometheus Operator reads no rules files. kubectl is the command's last part; here it is a program that only keeps its input."""
    with open(os.path.join(ROOT, "docs/metrics.md"), encoding="utf-8") as file:
        commands = [block.removeprefix("\n") for block in file.read().split("```")[1::2] if "kubectl apply" in block]
    assert len(commands) == 1
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(f"#!/bin/sh\ncat > {tmp_path}/applied\n", encoding="utf-8")
    kubectl.chmod(0o755)
    subprocess.run(["bash", "-euo", "pipefail", "-c", commands[0]], check=True, cwd=ROOT,
                   env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    made = yaml.safe_load((tmp_path / "applied").read_text(encoding="utf-8"))
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert made["metadata"]["name"] and made["metadata"]["labels"]
    (path,) = rules()
    with open(path, encoding="utf-8") as file:
        assert made["spec"] == yaml.safe_load(file)


def test_rules_miss_no_metric_that_every_process_exports():
    """A metric without labels is there from each process's start: that it is gone says only that all processes are."""
    with open(os.path.join(ROOT, "include/relay/base/metrics.h"), encoding="utf-8") as file:
        bare = {"outbox_relay_" + name for name in re.findall(r'X\(\w+,\s*\w+,\s*"(\w+)",\s*""', file.read())}
    assert "outbox_relay_insert_buffer_bytes" in bare
    seen = 0
    for path in rules():
        with open(path, encoding="utf-8") as file:
            expressions = re.findall(r"expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*)\n)", file.read())
        for expression in ("".join(one) for one in expressions):
            if re.search(r"\babsent|\bunless\b|_over_time\(", expression):
                named = set(re.findall(r"\boutbox_relay_\w+", expression))
                assert not named & bare, expression
                seen += 1
    assert seen


def dashboards():
    return glob.glob(FOLDER + "/*.json")


def test_dashboards_are_json_that_grafana_takes():
    assert dashboards()
    for path in dashboards():
        with open(path, encoding="utf-8") as file:
            board = json.load(file)
        assert board["title"] and board["uid"] and board["schemaVersion"], path
        panels = [panel for outer in board["panels"] for panel in [outer, *outer.get("panels", [])]]
        identities = [panel["id"] for panel in panels]
        assert panels and len(set(identities)) == len(identities), f"{path}: panels share an id"
        declared = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval", "__interval", "__range"}
        for expression in _expressions(board):
            used = set(re.findall(r"\$\{?(\w+)", expression))
            assert used <= declared, f"{os.path.basename(path)}: {expression} uses {used - declared}"


def test_dashboards_keep_deployments_apart():
    """Every deployment may have an outbox "default": a maximum over two of them would hide the smaller one."""
    for path in dashboards():
        with open(path, encoding="utf-8") as file:
            expressions = [one for one in _expressions(json.load(file)) if not one.startswith("label_values(")]
        maxima = [labels for one in expressions for labels in re.findall(r"max by \(([^)]*)\)", one)]
        assert maxima and all((labels + ", ").startswith("job, namespace, ") for labels in maxima), maxima
        measured = [one for one in expressions if re.search(r"\b(?:outbox_relay|process)_\w+", one)]
        for expression in measured:
            assert expression.count('{job=~"$job", namespace=~"$namespace"}') >= 1, expression


def test_dashboards_hold_promql(tmp_path):
    """promtool judges each expression as a rule's, Grafana's variables filled in."""
    for path in dashboards():
        with open(path, encoding="utf-8") as file:
            board = json.load(file)
        targets = [target["expr"] for outer in board["panels"] for panel in [outer, *outer.get("panels", [])]
                   for target in panel.get("targets", [])]
        assert targets
        records = [{"record": f"panel:{number}", "expr": re.sub(r"\$\{?\w+\}?", ".*", re.sub(r"\$\{?__\w+\}?", "5m", expression))}
                   for number, expression in enumerate(targets)]
        rules_path = tmp_path / "dashboard.json"  # YAML has all of JSON
        rules_path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": records}]}), encoding="utf-8")
        done = run("promtool", "check", "rules", str(rules_path))
        assert done.returncode == 0, done.stdout + done.stderr


def test_who_reads_the_number_of_rows_is_told_what_it_leaves_out():
    """check_outbox_health() counts above settled_seq: rows of parked topics and held aggregates lie below it."""
    with open(os.path.join(ROOT, "include/relay/base/metrics.h"), encoding="utf-8") as file:
        texts = re.findall(r'"outbox_unpublished_rows", "outbox",[\s\\]*"([^"]*)"', file.read())
    for path in dashboards():
        with open(path, encoding="utf-8") as file:
            board = json.load(file)
        texts += [panel["title"] for panel in board["panels"] if "outbox_unpublished_rows" in json.dumps(panel)]
    assert len(texts) > 2 and not [text for text in texts if "parked" not in text], texts


def test_rules_and_dashboards_name_metrics_that_exist():
    known = known_metrics()
    known |= {name + suffix for name in known for suffix in SUFFIXES}
    seen = 0
    for path in glob.glob(FOLDER + "/*"):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        if path.endswith(".json"):
            text = "\n".join(_expressions(json.loads(text)))
        for name in re.findall(r"\boutbox_relay_\w+", text):
            assert name in known, f"{os.path.basename(path)}: {name}"
            seen += 1
    assert seen


def _expressions(value):
    """The PromQL of a Grafana dashboard."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("expr", "query", "definition") and isinstance(inner, str):
                yield inner
            else:
                yield from _expressions(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _expressions(inner)
