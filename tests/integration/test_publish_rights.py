# SPDX-License-Identifier: Apache-2.0
"""A relay that may do in Kafka what docs/installation.md asks for, and nothing else; and what it does without a part of that. Kafka
fails a whole transaction for a topic that may not be written to, with reports that tell neither the topic nor the reason."""
import os
import re

import pytest

from conftest import place_name
from inserting import FAST
from publishing import ids, publishing, wait_ids
from relaytools.kafka_acls import allow, allow_as_told
from relaytools.place import Place
from relaytools.relay import command
from relaytools.servers import ROOT, temporary_servers


@pytest.fixture(scope="module")
def ruled_servers():
    with temporary_servers(kafka_acls=True) as servers:
        yield servers


@pytest.fixture
def place(request, ruled_servers):
    place = Place(ruled_servers, "t" + place_name(request))
    yield place
    place.close()


def ruled(place):
    """The [kafka] section of a relay that has only the rights given to it."""
    env = place.servers.env
    return dict(FAST, **{"bootstrap.servers": env["KAFKA_RULED_BOOTSTRAP"], "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
            "sasl.username": env["KAFKA_RULED_USER"], "sasl.password": env["KAFKA_RULED_PASSWORD"]})


def documented(place):
    """The options of each command that the document gives, with the names of this place."""
    names = {"shop.": f"{place.prefix}.", "outbox-relay.receipts": f"{place.name}-receipts", "outbox-relay-": f"{place.name}-",
             "outbox-relay": place.sections()["insert"]["group_id"]}
    with open(os.path.join(ROOT, "docs/installation.md"), encoding="utf-8") as file:
        told = [line.strip()[len("acl "):] for line in file if re.match(r"\s*acl --", line)]
    assert set(names) <= {word for line in told for word in line.split()}, "a name of the document is another one now"
    return [" ".join(names.get(word, word) for word in line.split()) for line in told]


def allow_documented(place, without=()):
    for options in documented(place):
        if not set(without) & set(options.split()):
            allow_as_told(place.servers, options)


def test_the_documented_rights_are_enough(place):
    place.servers.create_topics([f"{place.name}-receipts"], 1, {"cleanup.policy": "compact"})
    allow_documented(place)
    for _ in range(20):
        place.insert_event()
    relay = place.relay(kafka=ruled(place))
    place.wait_inserted(20)
    relay.kill()
    for _ in range(20):
        place.insert_event()
    relay.start()
    place.wait_inserted(40)
    place.wait_published()
    assert place.clickhouse_rows() == 40
    result = command("check", config=relay.config, binary=place.binary)
    assert result.returncode == 0 and "DESCRIBE_CONFIGS" not in result.stdout, result.stdout
    assert relay.stop() == 0  # commits what it has inserted: replay reads up to there
    place.clickhouse("TRUNCATE TABLE {db}.outbox_events")
    result = command("replay", "--into", "outbox_events", "--since", "1h", config=relay.config, binary=place.binary)
    assert result.returncode == 0 and place.clickhouse_rows() == 40, result.stdout + result.stderr


@pytest.mark.parametrize("guarantee", ("exactly_once", "at_least_once"))
def test_a_topic_that_may_not_be_written_to_is_parked_and_no_other(place, guarantee):
    topic = f"{place.prefix}.ruled.events"
    place.servers.create_topics([topic], 1)
    allow_documented(place, without=(f"{place.prefix}.",))
    allow(place.servers, "topic", topic, "Read", "Describe")
    for other in place.topics:
        allow(place.servers, "topic", other, "Write")
    allow(place.servers, "topic", f"{place.name}-receipts", "Create")
    refused, flowing = [], []
    for _ in range(20):
        refused.append(place.insert_event("ruled.created"))
        flowing.append(place.insert_event())
    relay = publishing(place, publish={"guarantee": guarantee}, kafka=ruled(place))
    wait_ids(place, flowing)
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    relay.wait(lambda: topic in str(relay.health()) and "authorization failed" in str(relay.health()), "health names topic and reason")
    flowing.append(place.insert_event())
    wait_ids(place, flowing)
    assert not set(refused) & set(ids(place))
    refused.append(place.insert_event("ruled.created"))
    allow(place.servers, "topic", topic, "Write")
    wait_ids(place, refused)
    place.wait_published()
    found = [record[0] for record in place.records() if record[1] == topic]
    assert found == refused, "once, and in their order"
    others = [record[0] for record in place.records() if record[1] != topic]
    assert sorted(others if guarantee == "exactly_once" else set(others)) == sorted(flowing)


def test_a_receipt_topic_that_may_not_be_written_to_is_named(place):
    topic = f"{place.prefix}-receipts"
    place.servers.create_topics([topic], 1, {"cleanup.policy": "compact"})
    allow_documented(place, without=(topic,))
    allow(place.servers, "topic", topic, "Read", "Describe")
    event = place.insert_event()
    relay = publishing(place, start=False, kafka=ruled(place))
    relay.start(ready=False)
    relay.wait(lambda: any(topic in one["error"] and "authorization failed" in one["error"]
                           for one in relay.events("publish.term_failed")), "the term names the topic", 60)
    allow(place.servers, "topic", topic, "Write")
    assert wait_ids(place, [event]) == [event]


def test_a_topic_that_may_not_be_read_is_told_until_it_may(place):
    topics = [f"{place.prefix}.{kind}.events" for kind in ("ruled", "quiet")]
    place.servers.create_topics(topics, 1)
    allow_documented(place, without=(f"{place.prefix}.",))
    for topic in topics:
        allow(place.servers, "topic", topic, "Write")  # and so Describe: the topic shows
    for other in place.topics:
        allow(place.servers, "topic", other, "Write", "Read")
    allow(place.servers, "topic", f"{place.name}-receipts", "Create")
    for _ in range(20):
        place.insert_event("ruled.created")
        place.insert_event()
    relay = place.relay(kafka=ruled(place))

    def reason():
        return relay.health()["checks"]["kafka"].get("instances", {}).get("insert", {}).get("reason", "")
    place.wait_inserted(20)
    relay.wait(lambda: "cannot be read" in reason(), "a topic is told", 60)
    place.insert_event()  # its partition's end is told after the refusal
    place.wait_inserted(21)
    relay.wait(lambda: relay.metric("consumer_lag", topic=topics[0]) >= 20, "the lag shows what is not read", 60)
    relay.wait(lambda: "cannot be read" in reason() and "authorization failed" in reason(), "the reason stands", 60)
    allow(place.servers, "topic", topics[0], "Read")
    place.wait_inserted(41)
    relay.wait(lambda: f"{topics[1]} [0] cannot be read" in reason(), "the one without a message is told, too", 60)
    allow(place.servers, "topic", topics[1], "Read")
    relay.wait(lambda: reason() == "", "all is read", 60)
