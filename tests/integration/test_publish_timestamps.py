# SPDX-License-Identifier: Apache-2.0
"""A broker that refuses timestamps: rows wait for the clock or the setting that is wrong, and only an absurd one is a dead letter."""
import confluent_kafka.admin
import pytest

from publishing import assert_ids, dead_letters, ids, publishing, wait_ids

AGGREGATE = "55555555-5555-5555-5555-555555555555"
LIMITS = ("message.timestamp.before.max.ms", "message.timestamp.after.max.ms")


def insert(place, event_type, when, count=1):
    """So many events of one aggregate with this created_at; their ids in their order."""
    return [row[0] for row in place.execute(
        "WITH made AS (INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at) "
        f"SELECT 'post', '{AGGREGATE}', %s, '{{}}', {when} FROM generate_series(1, %s) RETURNING id::text, seq) SELECT id FROM made ORDER BY seq",
        event_type, count)]


def topic_with_a_minute(place, kind):
    """A topic that takes no timestamp that is more than a minute away from the broker's time."""
    name = f"{place.prefix}.{kind}.events"
    place.servers.create_topics([name], 1, {limit: "60000" for limit in LIMITS})
    return name


def take_all_times(place, topic):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": place.servers.bootstrap})
    resource = confluent_kafka.admin.ConfigResource("topic", topic, set_config={limit: str(2**63 - 1) for limit in LIMITS})
    admin.alter_configs([resource])[resource].result(30)


def parked(place):
    return dict(place.execute("SELECT topic, reason_text FROM outbox_relay.parked_topics"))


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("side, words", [("-", "behind this machine's clock"), ("+", "ahead of this machine's clock")], ids=["past", "future"])
def test_rows_whose_time_a_topic_refuses_wait_in_their_order_and_go_on_by_themselves(place, guarantee, side, words):
    topic = topic_with_a_minute(place, "late")
    relay = publishing(place, start=False, publish={"guarantee": guarantee}, log={"level": "debug", "format": "json"})
    waiting = insert(place, "late.created", f"now() {side} interval '2 hours'", 40) + insert(place, "late.created", "now()", 10)
    flowing = [place.insert_event() for _ in range(10)]
    relay.start()
    wait_ids(place, flowing)
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "degraded", "and publish degraded")
    assert list(parked(place)) == [topic]
    for word in (topic, words, *LIMITS[:1], "INVALID_TIMESTAMP"):
        assert word in parked(place)[topic], parked(place)

    def levels():
        return [one["level"] for one in relay.events("publish.records_refused")]
    relay.wait(lambda: levels().count("debug") >= 2, "the topic is tried again, and again")
    waiting += insert(place, "late.created", "now()", 5)
    wait_ids(place, [place.insert_event()])
    assert len(relay.events("publish.topic_parked")) == 1, "that it still waits is nothing new"
    told = levels()
    assert told == ["warning"] * told.count("warning") + ["debug"] * told.count("debug"), "nor that it still refuses"
    assert not set(ids(place)) & set(waiting) or guarantee == "at_least_once"
    take_all_times(place, topic)
    wait_ids(place, waiting)
    first = list(dict.fromkeys(record[0] for record in place.records() if record[1] == topic))
    assert first == waiting
    relay.wait(lambda: relay.metric("parked_topics") == 0, "nothing is parked")
    relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "ok", "health ok")
    assert dead_letters(place) == {}


def test_of_topics_that_refuse_timestamps_one_that_was_corrected_goes_on_without_the_others(place):
    topics = [topic_with_a_minute(place, kind) for kind in ("first", "second", "third")]
    relay = publishing(place)
    waiting = {kind: insert(place, f"{kind}.created", "now() - interval '2 hours'", 3) for kind in ("first", "second", "third")}
    relay.wait(lambda: relay.metric("parked_topics") == 3, "all are parked")
    take_all_times(place, topics[2])
    wait_ids(place, waiting["third"])
    relay.wait(lambda: relay.metric("parked_topics") == 2, "the others wait")
    assert set(parked(place)) == set(topics[:2])
    assert_ids(place, waiting["third"])


def test_a_row_whose_created_at_nobody_can_have_meant_is_a_dead_letter_among_innocent_ones(place):
    topic_with_a_minute(place, "odd")
    relay = publishing(place, start=False)
    innocent = insert(place, "odd.created", "now()", 20)
    bad = [insert(place, "odd.created", when)[0] for when in ("'2200-01-01'", "'1970-01-20'", "now() + interval '25 hours'")]
    innocent += insert(place, "odd.created", "now()", 20)
    relay.start()
    place.wait_published()
    assert_ids(place, innocent)
    found = dead_letters(place)
    assert {key: value[0] for key, value in found.items()} == dict.fromkeys(bad, "refused")
    assert all("created_at" in text for _, text in found.values()), found
    assert not relay.events("publish.topic_parked")
