# SPDX-License-Identifier: Apache-2.0
"""docs/log-events.md has every event that the code logs, and no other; a field has one name, and a name one type."""
import collections
import glob
import os
import re

import config_keys

ROOT = config_keys.ROOT
NAME = re.compile(r'"([a-z]+\.[a-z_]+)"')
FIELD = re.compile(r'\bLOG_(TEXT|INT|COUNT|REAL|BOOL)\(([^,()]*"[a-z_]+"[^,()]*),')  # "one", or condition ? "one" : "other"
TYPES = {"TEXT": "string", "INT": "number", "COUNT": "number", "REAL": "number", "BOOL": "boolean"}
OF_EVERY_LINE = {"time", "level", "event", "message", "repeated", "left_out"}  # log.c writes them itself


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


def types_of_fields():
    types = collections.defaultdict(set)
    for text in sources():
        for kind, names in FIELD.findall(text):
            for name in re.findall(r'"([a-z_]+)"', names):
                types[name].add(TYPES[kind])
    return types


def test_a_field_has_one_type_in_all_events():
    """Elasticsearch maps a member by the first line that has it, and refuses each later line with another type."""
    types = types_of_fields()
    assert len(types) > 60 and {"outbox", "aggregate_id"} <= set(types)
    assert not {name: kinds for name, kinds in types.items() if len(kinds) > 1}


def test_no_field_has_the_name_of_a_member_of_every_line():
    """A member that is there twice is no JSON for Elasticsearch; others take the last one."""
    assert not set(types_of_fields()) & OF_EVERY_LINE


def test_no_event_has_a_field_twice():
    for text in sources():
        for call in calls(text):
            names = re.findall(r'\bLOG_[A-Z]+\(\s*"([a-z_]+)"', call) + ["error", "error_code", "error_class"] * call.count("LOG_ERROR(")
            assert len(names) == len(set(names)), call


def test_the_members_of_every_line_are_documented():
    with open(os.path.join(ROOT, "docs/log-events.md"), encoding="utf-8") as file:
        listed = re.findall(r"^- `(\w+)`", file.read(), re.M)
    assert set(listed) == OF_EVERY_LINE and len(listed) == len(OF_EVERY_LINE)
