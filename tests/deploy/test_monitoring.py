# SPDX-License-Identifier: Apache-2.0
"""deploy/monitoring: promtool accepts the rules, their tests pass, and every metric they name exists."""
import glob
import json
import os
import re
import subprocess

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
