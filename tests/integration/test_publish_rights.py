# SPDX-License-Identifier: Apache-2.0
"""Topics that the relay may look at and not write to. Kafka fails a whole transaction for them, with reports that tell
neither the topic nor the reason."""
import pytest

from conftest import place_name
from publishing import ids, publishing, wait_ids
from relaytools.kafka_acls import DESCRIBE, READ, WRITE, allow
from relaytools.place import Place
from relaytools.servers import temporary_servers


@pytest.fixture(scope="module")
def ruled_servers():
    with temporary_servers(kafka_acls=True) as servers:
        yield servers


@pytest.fixture
def place(request, ruled_servers):
    place = Place(ruled_servers, "t" + place_name(request))
    yield place
    place.close()


@pytest.mark.parametrize("guarantee", ("exactly_once", "at_least_once"))
def test_a_topic_that_may_not_be_written_to_parks_its_type_and_no_other(place, guarantee):
    topic = f"{place.prefix}.ruled.events"
    place.servers.create_topics([topic], 1)
    allow(place.servers.bootstrap, topic, READ, DESCRIBE)
    ruled, flowing = [], []
    for _ in range(20):
        ruled.append(place.insert_event("ruled.created"))
        flowing.append(place.insert_event())
    relay = publishing(place, publish={"guarantee": guarantee})
    wait_ids(place, flowing)
    relay.wait(lambda: relay.metric("parked_event_types") == 1, "the type is parked", 30)
    relay.wait(lambda: topic in str(relay.health()) and "authorization failed" in str(relay.health()), "health names topic and reason", 30)
    flowing.append(place.insert_event())
    wait_ids(place, flowing)
    assert not set(ruled) & set(ids(place))
    ruled.append(place.insert_event("ruled.created"))
    allow(place.servers.bootstrap, topic, WRITE)
    wait_ids(place, ruled)
    place.wait_published()
    found = [record[0] for record in place.records() if record[1] == topic]
    assert found == ruled, "once, and in their order"
    others = [record[0] for record in place.records() if record[1] != topic]
    assert sorted(others if guarantee == "exactly_once" else set(others)) == sorted(flowing)


def test_a_receipt_topic_that_may_not_be_written_to_is_named(place):
    topic = f"{place.prefix}-receipts"
    place.servers.create_topics([topic], 1, {"cleanup.policy": "compact"})
    allow(place.servers.bootstrap, topic, READ, DESCRIBE)
    event = place.insert_event()
    relay = publishing(place, start=False)
    relay.start(ready=False)
    relay.wait(lambda: any(topic in one["error"] and "authorization failed" in one["error"]
                           for one in relay.events("publish.term_failed")), "the term names the topic", 60)
    allow(place.servers.bootstrap, topic, WRITE)
    assert wait_ids(place, [event]) == [event]
