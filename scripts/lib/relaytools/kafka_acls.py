# SPDX-License-Identifier: Apache-2.0
"""Access rules in Kafka, by its own protocol: the Python client of Debian 12 has no function for them, and the librdkafka of
Debian 12 knows no rule for a transactional id."""
import argparse
import shlex
import struct

from . import kafka_groups

KINDS = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
PATTERNS = {"literal": 3, "prefixed": 4}
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10, "IdempotentWrite": 12}
ALLOW = 3
CREATE_ACLS, VERSION = 30, 1


def _text(text):
    return struct.pack(">h", len(text)) + text.encode()


def allow(servers, kind, name, *operations, pattern="literal"):
    """The user of the ruled listener may do these things with it."""
    principal = f"User:{servers.env['KAFKA_RULED_USER']}"
    rules = [struct.pack(">b", KINDS[kind]) + _text(name) + struct.pack(">b", PATTERNS[pattern]) + _text(principal) + _text("*")
             + struct.pack(">bb", OPERATIONS[operation], ALLOW) for operation in operations]
    answer = kafka_groups.ask(servers.bootstrap.split(",")[0], CREATE_ACLS, VERSION, struct.pack(">i", len(rules)) + b"".join(rules))
    # correlation id, throttle time, number of rules
    count, at = struct.unpack_from(">i", answer, 8)[0], 12
    for _ in range(count):
        error, length = struct.unpack_from(">hh", answer, at)
        at += 4 + max(length, 0)
        if error:
            raise RuntimeError(f"a rule for {kind} {name}: Kafka's error {error}")
    if count != len(rules):
        raise RuntimeError(f"{count} of {len(rules)} rules for {kind} {name} were made")


def allow_as_told(servers, options):
    """What `kafka-acls.sh --add` does with these options, which name resources and operations."""
    parser = argparse.ArgumentParser(prog="kafka-acls.sh", allow_abbrev=False)
    named = [kind for kind in KINDS if kind != "cluster"]
    for kind in named:
        parser.add_argument("--" + kind, dest=kind, action="append", default=[])
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--operation", action="append", required=True, choices=OPERATIONS)
    parser.add_argument("--resource-pattern-type", dest="pattern", default="literal", choices=PATTERNS)
    told = parser.parse_args(shlex.split(options, comments=True))
    for kind in named:
        for name in getattr(told, kind):
            allow(servers, kind, name, *told.operation, pattern=told.pattern)
    if told.cluster:
        allow(servers, "cluster", "kafka-cluster", *told.operation)
