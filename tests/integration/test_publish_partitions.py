# SPDX-License-Identifier: Apache-2.0
"""An outbox on a Kafka of three nodes, of which one is gone."""
import confluent_kafka.admin
import pytest

from checking import fails
from conftest import place_name
from publishing import assert_ids, backlog, publishing
from relaytools.place import Place
from relaytools.servers import temporary_servers

pytestmark = pytest.mark.xdist_group("three Kafka nodes")


@pytest.fixture
def place(request):
    with temporary_servers(kafka_nodes=3) as servers:
        place = Place(servers, "t" + place_name(request))
        yield place
        place.close()


def create_on(servers, topic, node):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": servers.bootstrap})
    wanted = confluent_kafka.admin.NewTopic(topic, 1, replica_assignment=[[node]])
    for future in admin.create_topics([wanted], operation_timeout=30).values():
        future.result(60)


def test_a_partition_without_a_leader_is_named_and_the_outbox_kept_until_it_has_one(place):
    """It takes neither the record nor the end of the transaction, which is in the way of all others of the outbox. Every replica would be
    told the same, and no broker that is asked is silent."""
    topic = f"{place.prefix}.narrow.events"
    create_on(place.servers, topic, 3)
    relay = publishing(place, start=False).start(seconds=180)
    events = [place.insert_event()]
    place.wait_published(180)
    place.servers.kill("kafka-3")
    events.append(place.insert_event())
    place.wait_published(180)
    events += backlog(place, 3, "narrow.created")
    fails(place, f"1 of 1 partitions of topic {topic} do not take records: partition 0 has no leader")

    def failed(code, words):
        return [one for one in relay.events("publish.term_failed") if one["error_code"] == code and words in one["error"]]
    relay.wait(lambda: failed("kafka_unreachable", f"topic {topic} [0]: "), "the partition is named", 180)
    relay.wait(lambda: failed("kafka_operator", "Kafka cannot end the transaction before"), "no transaction can be begun", 180)
    relay.wait(lambda: relay.health()["checks"]["kafka"]["status"] == "ok", "Kafka answers")
    relay.wait(lambda: "Kafka cannot end the transaction before" in relay.health()["checks"]["publish"]["reason"], "publish says why")
    assert not relay.events("publish.let_go"), relay.log_tail()
    assert relay.metric("outbox_owned") == 1
    place.servers.start("kafka-3")
    events.append(place.insert_event())
    place.wait_published(180)
    assert_ids(place, events)
    assert relay.metric("replays_total", stage="publish") == 0
    assert relay.stop() == 0
