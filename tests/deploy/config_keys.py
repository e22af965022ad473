# SPDX-License-Identifier: Apache-2.0
"""The keys that the relay knows, read from deploy/outbox-relay.ini, which is written from the table in the code."""
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def known_keys():
    """{section: {key, ...}}, the x_file twins of secrets among them."""
    found, section = {}, None
    with open(os.path.join(ROOT, "deploy/outbox-relay.ini"), encoding="utf-8") as file:
        for line in file:
            header = re.match(r";?\[([a-z]+)", line)
            key = re.match(r";([a-z_][\w.]*) = ", line)
            twin = re.search(r"; or (\w+_file) = PATH", line)
            if header:
                section = header.group(1)
                found.setdefault(section, set())
            elif twin:
                found[section].add(twin.group(1))
            elif key:
                found[section].add(key.group(1))
    return found


def unknown_keys(text):
    """What of an INI text the relay would not know. [kafka] passes librdkafka's properties through."""
    keys, section, unknown = known_keys(), None, []
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in ";#":
            continue
        header = re.match(r"\[([a-z]+)", line)
        if header:
            section = header.group(1)
            if section not in keys:
                unknown.append(line)
            continue
        key = line.split("=", 1)[0].strip()
        if section not in ("kafka", "route") and key not in keys.get(section, ()) \
                and not (section == "outbox" and key in keys["publish"]):
            unknown.append(f"[{section}] {key}")
    return unknown


def unknown_variables(names):
    keys = known_keys()
    known = {"OUTBOX_RELAY_CONFIG", "OUTBOX_RELAY_SCHEMAS"}
    known |= {f"OUTBOX_RELAY_{section}_{key}".upper().replace(".", "_") for section, keys in keys.items() for key in keys}
    return [name for name in names if name.startswith("OUTBOX_RELAY_") and name not in known
            and not name.startswith("OUTBOX_RELAY_KAFKA_")]
