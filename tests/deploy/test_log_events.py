# SPDX-License-Identifier: Apache-2.0
"""docs/log-events.md has every event that the code logs, and no other."""
import glob
import os
import re

import config_keys

ROOT = config_keys.ROOT
NAME = re.compile(r'"([a-z]+\.[a-z_]+)"')


def calls(text):
    """The arguments of each log_event()."""
    for found in re.finditer(r"\blog_event\(", text):
        yield re.match(r'(?:"(?:\\.|[^"\\])*"|[^;"])*', text[found.end():]).group()


def sources():
    for path in glob.glob(os.path.join(ROOT, "relay/**/*.c"), recursive=True):
        with open(path, encoding="utf-8") as file:
            yield file.read()


def documented():
    with open(os.path.join(ROOT, "docs/log-events.md"), encoding="utf-8") as file:
        rows = [line.split("|")[1] for line in file if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_every_event_is_documented_once():
    logged = {name for text in sources() for call in calls(text) for name in NAME.findall(call)}
    names = documented()
    assert len(logged) > 60 and logged <= set(names), sorted(logged - set(names))
    assert len(names) == len(set(names))


def test_no_event_is_documented_that_the_code_does_not_have():
    literals = {name for text in sources() for name in NAME.findall(text)}  # names in tables of texts too
    assert set(documented()) <= literals, sorted(set(documented()) - literals)
