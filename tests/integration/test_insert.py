# SPDX-License-Identifier: Apache-2.0
"""The insert stage on real servers: what arrives, what becomes a dead letter, what is committed."""
import json
import math
import os
import uuid

import pytest

from inserting import (Sender, admin, committed, counts, dead_letters, event_headers, inserting, paused, post, settle, wait_counts,
                       wait_no_lag, wait_pause_reason)
from benchmark import machine
from relaytools import kafka_ends
from relaytools.relay import command, wait_until


@pytest.mark.tsan
def test_events_of_all_partitions_arrive_and_offsets_follow(place):
    Sender(place).events(post(place), 20000).flush()
    relay = inserting(place)
    wait_counts(place, 20000)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 20000, "all offsets committed")
    wait_no_lag(relay, post(place), 4)
    assert relay.metric("events_inserted_total", table="outbox_events") == 20000
    row = json.loads(place.clickhouse("SELECT * FROM {db}.outbox_events WHERE seq = 17 FORMAT JSONEachRow"))
    assert row["event_id"] == "00000000-0000-0000-0000-000000000011"
    assert row["created_at"] == "2026-03-01 12:34:56.123456"
    assert row["payload"] == '{"n": 1}'
    assert relay.stop() == 0


def test_markers_of_transactions_leave_no_lag_and_aborted_events_do_not_arrive(place):
    sender = Sender(place, transactional=True)
    for commit in (True, False, True, False):
        sender.producer.begin_transaction()
        sender.events(post(place), 100, partition=0).flush()
        if commit:
            sender.producer.commit_transaction(30)
        else:
            sender.producer.abort_transaction(30)
    relay = inserting(place)
    wait_counts(place, 200)
    seen = []
    wait_until(lambda: seen.append(committed(place, post(place), 1)) or seen[-1] == {0: 404}, "the end committed, markers included")
    wait_no_lag(relay, post(place), 4)
    assert relay.stop() == 0


def test_what_waits_behind_a_strangers_open_transaction_counts_as_lag(place):
    stranger = Sender(place, transactional=True, **{"transaction.timeout.ms": 600000})
    stranger.producer.begin_transaction()
    stranger.events(post(place), 1, partition=0).flush()
    relay = inserting(place)
    Sender(place).events(post(place), 100, partition=0).flush()
    relay.wait(lambda: sum(relay.series("consumer_lag", topic=post(place))) == 101, "the lag told")
    assert counts(place) == (0, 0)
    stranger.producer.abort_transaction(30)
    wait_counts(place, 100)
    wait_no_lag(relay, post(place), 4)
    assert relay.stop() == 0


def test_messages_of_strangers_become_dead_letters_once_with_reason_and_bytes(place):
    sender = Sender(place)
    topic = post(place)
    sender.event(topic, 0)
    sender.event(topic, headers=[], partition=0)                                                # no headers at all
    sender.event(topic, 2, value=b"{broken", partition=0)                                        # not read as JSON: fine
    sender.event(topic, 3, value=b"", partition=0)
    sender.event(topic, 4, value=None, partition=0)                                              # a tombstone
    sender.event(topic, 5, value=b"x" * 1040000, partition=0)
    sender.event(topic, headers=event_headers(6, event_id="no uuid"), partition=0)
    sender.event(topic, headers=event_headers(7, created_at="yesterday"), partition=0)
    sender.event(topic, headers=event_headers(8, created_at="9999-12-31T23:59:59.999999Z"), partition=0)
    sender.event(topic, headers=event_headers(9, seq="-1"), partition=0)
    sender.event(topic, headers=event_headers(10, seq="18446744073709551616"), partition=0)
    sender.event(topic, headers=event_headers(11, event_type=...), partition=0)
    sender.event(topic, headers=event_headers(12, aggregate_id=b"\xff\x00"), value=b"\x00\xff", partition=0)
    sender.flush()
    relay = inserting(place)
    wait_counts(place, 6)
    wait_until(lambda: len(dead_letters(place)) == 7, "the dead letters, a statement after the rows")
    reasons = [reason for reason, _ in dead_letters(place)]
    assert sorted(reasons) == sorted(["missing_header", "bad_uuid", "bad_date", "date_range", "out_of_range", "out_of_range",
                                      "missing_header"])
    relay.wait(lambda: relay.metric("dead_letters_total", stage="insert") == 7, "each is counted once")
    target, value, names = place.clickhouse("SELECT target, value, length(headers) FROM {db}.outbox_relay_dead_letters "
        "WHERE reason = 'bad_uuid' FORMAT TSVRaw").rstrip("\n").split("\t")
    assert (target, value, names) == ("outbox_events", '{"n": 1}', "6")
    assert "event_id" in dict(dead_letters(place))["bad_uuid"]
    assert relay.stop() == 0
    # Again from the beginning: rows and dead letters are both found.
    again = inserting(place, "again", insert={"group_id": f"{place.name}-again"})
    wait_until(lambda: len(again.events("insert.read_back")) > 0, "the read-back")
    wait_no_lag(again, topic, 4)
    assert counts(place) == (6, 6)
    assert len(dead_letters(place)) == 7
    assert again.stop() == 0


def test_dead_letters_are_known_under_either_name_of_their_table(place):
    """The route that wrote them called it "outbox_events", the one that reads its messages again by the database, too."""
    sender = Sender(place).events(post(place), 5, partition=1)
    sender.event(post(place), headers=event_headers(5, event_id="none"), partition=1)
    sender.events(post(place), 5, partition=1).flush()
    relay = inserting(place)
    wait_counts(place, 10)
    wait_until(lambda: len(dead_letters(place)) == 1, "the dead letter, a statement after the rows")
    assert relay.stop() == 0
    again = inserting(place, "again", insert={"group_id": f"{place.name}-again"},
        **{"route default": {"table": f"{place.name}.outbox_events"}})
    wait_until(lambda: len(again.events("insert.read_back")) > 0, "the read-back")
    wait_no_lag(again, post(place), 4)
    assert counts(place) == (10, 10)
    assert dead_letters(place, "target") == [("outbox_events",)]
    assert again.stop() == 0


def test_dead_letters_are_copied_to_a_topic_with_their_identity(place):
    import confluent_kafka
    copies = f"{place.name}-dead"
    place.servers.create_topics([copies], 1)
    sender = Sender(place)
    sender.event(post(place), headers=event_headers(1, event_id="no uuid"), key="k", partition=2)
    sender.events(post(place), 10).flush()
    relay = inserting(place, insert={"dead_letter_topic": copies})
    wait_counts(place, 10)
    wait_until(lambda: len(dead_letters(place)) == 1, "the dead letter")
    consumer = confluent_kafka.Consumer({"bootstrap.servers": place.servers.bootstrap, "group.id": "copies"})
    consumer.assign([confluent_kafka.TopicPartition(copies, 0, 0)])
    message = wait_until(lambda: consumer.poll(1), "the copy")
    consumer.close()
    assert (message.key(), message.value()) == (b"k", b'{"n": 1}')
    headers = dict(message.headers())
    assert headers["dlq.reason"] == b"bad_uuid" and headers["dlq.table"] == b"outbox_events" and headers["event_id"] == b"no uuid"
    assert (headers["dlq.topic"], headers["dlq.partition"], headers["dlq.offset"]) == (post(place).encode(), b"2", b"0")
    assert relay.stop() == 0


TYPED = """CREATE TABLE {db}.posts (post_id UInt32, title String, price Decimal(9, 2), tags Array(String), op Int8, at DateTime64(3, 'UTC'),
    kafka_topic LowCardinality(String), kafka_partition Int32, kafka_offset Int64, INDEX o kafka_offset TYPE minmax GRANULARITY 1)
    ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY post_id SETTINGS non_replicated_deduplication_window = 1000"""


def typed_route(place, **changes):
    route = {"topics": post(place), "table": "posts", "post_id": "$.id", "title": "$.title", "price": "$.price?",
             "tags": "$.tags?", "op": "$.op?: insert=1 delete=-1 *=0", "at": "header.created_at"}
    route.update(changes)
    return {"route posts": route}


def test_a_dead_letter_has_its_headers_also_where_no_column_reads_any(place):
    place.clickhouse(TYPED)
    copies = f"{place.prefix}-dead"
    place.servers.create_topics([copies], 1)
    sender = Sender(place)
    for n in range(20):
        sender.event(post(place), n, value=json.dumps({"id": n if n % 5 else "no number", "title": "t"}).encode())
    sender.flush()
    relay = inserting(place, insert={"dead_letter_topic": copies}, route__default={"enabled": "false"}, **typed_route(place, at="kafka.timestamp"))
    wait_counts(place, 16, table="posts")
    wait_until(lambda: len(dead_letters(place)) == 4, "the dead letters")
    ids = place.clickhouse("SELECT arraySort(groupArray(tupleElement(arrayFirst(h -> tupleElement(h, 1) = 'event_id', headers), 2))) "
                           "FROM {db}.outbox_relay_dead_letters FORMAT TSVRaw")
    assert ids == str([str(uuid.UUID(int=n)) for n in (0, 5, 10, 15)]).replace(", ", ",") + "\n"
    assert relay.metric("dead_letter_copies_total", result="acknowledged") == 4
    assert relay.stop() == 0


@pytest.mark.tsan
def test_a_message_goes_to_every_route_that_matches_and_each_judges_for_itself(place):
    place.clickhouse(TYPED)
    sender = Sender(place)
    for n in range(1000):
        value = {"id": n, "title": f"t{n}", "price": n / 4, "tags": ["a", "b"], "op": "insert"}
        if n % 10 == 3:
            value["id"] = "no number"
        if n % 10 == 4:
            value["id"] = 2 ** 33
        if n % 10 == 5:
            value["price"] = 1.005
        sender.event(post(place), n, value=json.dumps(value).encode())
    sender.flush()
    relay = inserting(place, **typed_route(place))
    wait_counts(place, 1000)
    wait_counts(place, 700, table="posts")
    wait_until(lambda: len(dead_letters(place)) == 300, "the dead letters")
    assert {target for target, in dead_letters(place, "target")} == {"posts"}
    assert place.clickhouse("SELECT title, price, tags, op FROM {db}.posts WHERE post_id = 18 FORMAT TSVRaw") == "t18\t4.5\t['a','b']\t1\n"
    assert relay.stop() == 0


def test_tombstones_that_a_route_skips_are_done_and_no_dead_letters(place):
    place.clickhouse(TYPED)
    sender = Sender(place)
    for n in range(20):
        sender.event(post(place), n, value=None if n % 2 else json.dumps({"id": n, "title": "t"}).encode(), partition=0)
    sender.flush()
    routes = {"route__default": {"enabled": "false"}} | typed_route(place, tombstones="skip")
    relay = inserting(place, **routes)
    wait_counts(place, 10, table="posts")
    wait_until(lambda: committed(place, post(place), 1) == {0: 20}, "what was skipped is committed", 60)
    assert relay.metric("tombstones_skipped_total", table="posts") == 10
    assert not dead_letters(place)
    assert relay.stop() == 0

    place.clickhouse("TRUNCATE TABLE {db}.posts")
    for written, present in ((10, 0), (0, 10)):
        again = command("replay", "--into", "posts", "--since", "1h", config=relay.config, binary=place.binary)
        assert again.returncode == 0 and f"{written} rows written into {place.name}.posts, {present} were there already" in again.stdout, again.stdout + again.stderr
    wait_counts(place, 10, table="posts")


def test_a_table_without_offset_columns_is_filled_at_least_once_and_the_log_says_what_mends_it(place):
    place.clickhouse("CREATE TABLE {db}.plain (n UInt64) ENGINE = MergeTree ORDER BY n")
    Sender(place).events(post(place), 500).flush()
    relay = inserting(place, **{"route plain": {"topics": post(place), "table": "plain", "n": "header.seq"}})
    place.wait_inserted(500, table="plain")
    findings = " ".join(found["hint"] for found in relay.events("insert.table_finding") if found["table"] == "plain")
    assert "ADD COLUMN IF NOT EXISTS kafka_topic" in findings

    def guarantees():   # each table is opened by itself
        return {name: table["figures"]["guarantee"] for name, table in relay.health()["checks"]["insert"]["instances"].items()}
    relay.wait(lambda: guarantees() == {"plain": "at_least_once", "outbox_events": "exactly_once"}, "each has its guarantee")
    assert relay.stop() == 0


def test_a_dropped_table_pauses_alone_heals_and_catches_up(place):
    place.clickhouse(TYPED)
    relay = inserting(place, insert={"linger": "50ms"}, **typed_route(place))
    sender = Sender(place)

    def send(count):
        for _ in range(count):
            sender.event(post(place), value=json.dumps({"id": sender.sent, "title": "t"}).encode())
        sender.flush()
    send(1000)
    wait_counts(place, 1000)
    wait_counts(place, 1000, table="posts")
    place.clickhouse("DROP TABLE {db}.posts SYNC")
    send(1000)
    relay.wait(lambda: paused(relay, "posts"), "the table paused")
    wait_counts(place, 2000)  # the other one goes on
    assert not paused(relay)
    relay.wait(lambda: relay.health()["status"] == "degraded", "one of two tables paused")
    assert relay.get("/health")[0] == 200
    send(1000)
    wait_counts(place, 3000)
    place.clickhouse(TYPED)
    wait_counts(place, 2000, table="posts", seconds=90)  # what came after the drop; the rest went with the table
    relay.wait(lambda: not paused(relay, "posts"), "the table healed")
    send(500)
    wait_counts(place, 3500)
    wait_counts(place, 2500, table="posts")
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 3500, "all committed")
    assert relay.stop() == 0


def test_a_healed_table_far_behind_catches_up_by_a_reader_of_its_own(place):
    place.clickhouse(TYPED)
    place.clickhouse("RENAME TABLE {db}.posts TO {db}.away")
    sender = Sender(place)
    relay = inserting(place, **typed_route(place))
    relay.wait(lambda: paused(relay, "posts"), "the table paused")
    # How far behind is judged by partition: 50,000 messages.
    sender.events(post(place), 60000, value=b'{"id": 1, "title": "t"}', partition=0).flush()
    wait_counts(place, 60000)
    place.clickhouse("RENAME TABLE {db}.away TO {db}.posts")
    relay.wait(lambda: relay.events("insert.catch_up"), "the reader", 90)
    sender.events(post(place), 1000, value=b'{"id": 1, "title": "t"}').flush()
    wait_counts(place, 61000)
    wait_counts(place, 61000, table="posts", seconds=90)
    relay.wait(lambda: relay.events("insert.caught_up"), "the reader's end")
    sender.events(post(place), 1000, value=b'{"id": 1, "title": "t"}').flush()
    wait_counts(place, 62000)
    wait_counts(place, 62000, table="posts")
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 62000, "all committed")
    assert relay.stop() == 0


def test_a_schema_changed_while_running(place):
    place.clickhouse(TYPED)
    relay = inserting(place, insert={"linger": "50ms"}, **typed_route(place))
    sender = Sender(place)
    for step, change in enumerate(("ADD COLUMN extra String DEFAULT 'x'", "MODIFY COLUMN price Decimal(18, 2)", "DROP COLUMN tags")):
        for _ in range(500):
            sender.event(post(place), value=json.dumps({"id": sender.sent, "title": "t", "tags": []}).encode())
        sender.flush()
        wait_counts(place, 500 * (step + 1), table="posts")
        place.clickhouse("ALTER TABLE {db}.posts " + change)
    sender.event(post(place), value=b'{"id": 1, "title": "t"}')
    sender.flush()
    relay.wait(lambda: paused(relay, "posts"), "the route no longer fits")
    place.clickhouse("ALTER TABLE {db}.posts ADD COLUMN tags Array(String)")
    wait_counts(place, 1501, table="posts", seconds=60)
    wait_counts(place, 1501)
    assert relay.stop() == 0


@pytest.mark.parametrize("change, columns, bad, code", [
    ("ADD CONSTRAINT small CHECK post_id < 1000000", {}, {"id": 5000000}, "469"),
    ("ADD COLUMN n Nested(a Int32, b String)", {"n.a": "$.a?", "n.b": "$.b?"}, {"a": [1, 2], "b": ["x"]}, "190"),
    ("ADD COLUMN n UInt64 MATERIALIZED toUInt64(if(title = 't', '1', title))", {}, {"title": ""}, "32"),
], ids=["constraint", "Nested", "empty"])
def test_rows_that_the_server_itself_refuses_become_dead_letters(place, change, columns, bad, code):
    place.clickhouse(TYPED)
    place.clickhouse("ALTER TABLE {db}.posts " + change)
    sender = Sender(place)
    for n in range(3000):
        value = {"id": n, "title": "t"} | (bad if n in (700, 701, 2999) else {})
        sender.event(post(place), n, value=json.dumps(value).encode())
    sender.flush()
    relay = inserting(place, **typed_route(place, **columns))
    wait_counts(place, 2997, table="posts", seconds=90)
    wait_until(lambda: len(dead_letters(place)) == 3, "the dead letters", 60)
    assert {row[:2] for row in dead_letters(place, "reason, code")} == {("rejected", code)}
    if code == "469":  # the server tells the value, which is for the dead letters alone
        assert all("post_id = 5000000" in row[0] for row in dead_letters(place, "text"))
        log = "\n".join(relay.log())
        assert "`small`" in log and "post_id = 5000000" not in log
    wait_counts(place, 3000)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 3000, "all committed")
    assert relay.stop() == 0


def test_too_many_bad_messages_stop_the_table_and_not_into_the_dead_letters(place):
    place.clickhouse(TYPED)
    Sender(place).events(post(place), 1000, value=b"not json at all").flush()
    relay = inserting(place, insert={"max_bad_ratio": "0.5"}, **typed_route(place))
    relay.wait(lambda: paused(relay, "posts"), "the table paused")
    wait_counts(place, 1000)
    settle(3)
    assert dead_letters(place) == []
    wait_pause_reason(relay, "max_bad_ratio", "posts")
    assert relay.stop() == 0


def test_topics_that_are_not_there_yet_are_named_with_what_to_do(place):
    relay = inserting(place, kafka={"topic.metadata.refresh.interval.ms": "1000"},
        **{"route default": {"topics": f"{place.name}-absent"}})
    relay.wait(lambda: f"{place.name}-absent: create it" in
               relay.health()["checks"]["kafka"].get("reason", ""), "the topic is named")
    place.servers.create_topics([f"{place.name}-absent"], 1)
    relay.wait(lambda: relay.health()["checks"]["kafka"]["status"] == "ok", "the topic is found")
    assert relay.stop() == 0


def test_a_topic_of_an_expression_that_is_gone_is_named_until_it_is_there(place):
    """Deleted here. Kafka answers the same where Describe was taken away: a list of topics without it."""
    gone, kafka = f"{place.prefix}.late.events", admin(place)
    place.servers.create_topics([gone], 1)
    relay = inserting(place, kafka={"topic.metadata.refresh.interval.ms": "1000"})
    Sender(place).events(post(place), 40).events(gone, 10).flush()
    wait_counts(place, 50)
    kafka.delete_topics([gone])[gone].result(30)
    relay.wait(lambda: f"{gone}: create it" in relay.health()["checks"]["kafka"].get("reason", ""), "the topic is named", 90)
    assert relay.health()["checks"]["kafka"]["status"] == "degraded" and gone in [event["topic"] for event in relay.events("insert.topic_absent")]
    place.servers.create_topics([gone], 1)
    relay.wait(lambda: relay.events("insert.topic_found"), "the topic is found", 90)
    assert relay.stop() == 0


def test_a_topic_of_several_that_is_missing_stays_on_the_board_until_it_is_there(place):
    from confluent_kafka.admin import NewPartitions

    def reason():
        return relay.health()["checks"]["kafka"].get("reason", "")

    later, named = f"^{place.name}-later-.*", f"{place.name}-named"
    place.clickhouse("CREATE TABLE {db}.later (n UInt64, kafka_topic String, kafka_partition Int32, kafka_offset Int64) ENGINE = MergeTree "
        "ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
    relay = inserting(place, kafka={"topic.metadata.refresh.interval.ms": "1000"},
        **{"route default": {"topics": f"{post(place)}, {named}"}, "route later": {"topics": later, "table": "later", "n": "header.seq"}})
    sender = Sender(place).events(post(place), 40).flush()
    wait_counts(place, 40)
    relay.wait(lambda: later in reason() and named in reason(), "both are named")
    assigned = len(relay.events("insert.assigned"))
    client = admin(place)
    for future in client.create_partitions([NewPartitions(post(place), 6)]).values():
        future.result(20)
    relay.wait(lambda: len(relay.events("insert.assigned")) > assigned, "another assignment")
    wait_until(lambda: sum(max(0, offset) for offset in committed(place, post(place), 4).values()) == 40, "all committed")
    assert later in reason() and named in reason()
    relay.wait(lambda: relay.health()["checks"]["kafka"]["status"] == "degraded", "Kafka degraded")
    place.servers.create_topics([named], 1)
    relay.wait(lambda: reason().endswith("READ") and later in reason() and named not in reason(), "one of them is found")
    place.servers.create_topics([f"{place.name}-later-1"], 1)
    relay.wait(lambda: relay.health()["checks"]["kafka"]["status"] == "ok", "the other is found")
    sender.events(f"{place.name}-later-1", 10).events(named, 10).flush()
    wait_counts(place, 50)
    wait_counts(place, 10, table="later")
    assert relay.stop() == 0


def test_a_partition_added_while_running_is_read_from_its_beginning(place):
    from confluent_kafka.admin import NewPartitions

    relay = inserting(place, kafka={"topic.metadata.refresh.interval.ms": "1000"})
    Sender(place).events(post(place), 400).flush()
    wait_counts(place, 400)
    client = admin(place)
    for future in client.create_partitions([NewPartitions(post(place), 6)]).values():
        future.result(20)
    fresh = Sender(place)  # a producer that knows the new ones
    for partition in (4, 5):
        fresh.events(post(place), 100, partition=partition)
    fresh.flush()
    wait_counts(place, 600, seconds=60)
    assert relay.stop() == 0


def test_a_wrong_password_is_the_operators_and_heals(place):
    sender = Sender(place).events(post(place), 100).flush()
    relay = inserting(place, clickhouse={"password": "wrong"})
    relay.wait(lambda: paused(relay), "the table paused")
    wait_pause_reason(relay, "516")
    relay.wait(lambda: relay.health()["checks"]["insert"]["status"] == "down", "the whole stage stands")
    # Nothing is fetched, and the lag grows all the same.
    relay.wait(lambda: sum(relay.series("consumer_lag", topic=post(place))) == 100, "the lag told")
    sender.events(post(place), 50).flush()
    relay.wait(lambda: sum(relay.series("consumer_lag", topic=post(place))) == 150, "the lag grown")
    assert relay.stop() == 0
    relay = inserting(place)
    wait_counts(place, 150)
    wait_no_lag(relay, post(place), 4)
    assert relay.stop() == 0


def test_a_new_group_fills_its_table_while_the_other_table_of_its_only_topic_is_missing(place):
    sender = Sender(place).events(post(place), 500, value=b'{"id": 1, "title": "t"}').flush()
    relay = inserting(place, **{"route default": {"topics": post(place)}}, **typed_route(place))
    relay.wait(lambda: paused(relay, "posts"), "the table paused")
    wait_counts(place, 500)  # nothing was ever committed, and a commit is the lease
    sender.events(post(place), 500, value=b'{"id": 1, "title": "t"}').flush()
    wait_counts(place, 1000)
    place.clickhouse(TYPED)
    wait_counts(place, 1000, table="posts", seconds=90)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 1000, "all committed")
    assert relay.stop() == 0


def test_two_rows_that_the_server_refuses_one_after_the_other_both_become_dead_letters(place):
    place.clickhouse(TYPED)
    place.clickhouse("ALTER TABLE {db}.posts ADD CONSTRAINT small CHECK post_id < 1000000")
    relay = inserting(place, insert={"linger": "2s"}, **typed_route(place))
    sender = Sender(place)
    sender.event(post(place), partition=0, value=b'{"id": 1, "title": "t"}')
    sender.flush()
    wait_counts(place, 1, table="posts")
    for number in (2, 3):
        sender.event(post(place), partition=0, value=b'{"id": 5000000, "title": "t"}')
        sender.flush()
        if number == 2:
            relay.wait(lambda: relay.events("insert.retry"), "the first one refused")
    wait_until(lambda: len(dead_letters(place)) == 2, "the dead letters", 60)
    wait_counts(place, 1, table="posts")
    assert relay.stop() == 0


@pytest.mark.parametrize("compression", ("lz4", "none"))
def test_memory_stays_below_its_limit_with_many_slow_tables(place, compression):
    """Twelve tables whose views take their time: each would gather batches of its own until all of them are full."""
    tables = [f"slow_{number}" for number in range(12)]
    place.clickhouse("CREATE TABLE {db}.sink (n UInt64, s UInt8) ENGINE = Null")
    for table in tables:
        place.clickhouse(f"CREATE TABLE {{db}}.{table} (n UInt64, value String, kafka_topic String, kafka_partition Int32, kafka_offset Int64) "
            "ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
        place.clickhouse(f"CREATE MATERIALIZED VIEW {{db}}.{table}_view TO {{db}}.sink AS SELECT n, sleep(1) AS s FROM {{db}}.{table}")
    limit = 16 << 20
    Sender(place).events(post(place), 4000, value=b"x" * 2000).flush()
    relay = inserting(place, insert={"memory_limit": "16MiB", "batch_bytes": "2MiB", "linger": "3s"}, clickhouse={"compression": compression},
        **{f"route {table}": {"topics": post(place), "table": table, "n": "header.seq", "value": "kafka.value"} for table in tables})
    held = []

    def half_way():
        now = relay.metric("insert_buffer_bytes")
        if not math.isnan(now):     # no answer in time, on a machine that is busy, is no figure
            held.append(now)
        return sum(place.clickhouse_rows(table) for table in tables) > 30000
    relay.wait(half_way, "some of the rows", 90)
    assert limit / 2 < max(held) < limit, max(held)
    for table in tables:
        place.clickhouse(f"DROP VIEW {{db}}.{table}_view SYNC")
    for table in tables + ["outbox_events"]:
        wait_counts(place, 4000, table=table, seconds=90)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 4000, "all committed")
    assert relay.stop() == 0


def test_small_messages_take_no_more_than_they_may(place):
    """librdkafka counts the messages' bytes only, and each takes it some hundred more."""
    place.clickhouse("CREATE TABLE {db}.small (n UInt64, kafka_topic String, kafka_partition Int32, kafka_offset Int64) "
        "ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
    Sender(place).events(post(place), 200000, value=b"{}").flush()
    relay = inserting(place, insert={"batch_rows": 20000},
        **{"route default": {"enabled": "false"}, "route small": {"topics": post(place), "table": "small", "n": "header.seq"}})
    wait_counts(place, 200000, table="small")
    peak = machine.memory_mib(relay.process.pid)
    assert peak < 40
    assert relay.stop() == 0


def copies_of(place, topic):
    """How many messages a topic of one partition has."""
    return kafka_ends.ends(place.servers.bootstrap, [(topic, 0)])[topic, 0]


def retries_of_a_pause(relay, table, count):
    """So many attempts to end the pause have failed."""
    relay.wait(lambda: len([event for event in relay.events("insert.table_paused") if event["table"] == table]) > count,
        "more attempts", 60)


def test_a_table_that_stops_for_too_many_bad_messages_sends_no_copies_of_them(place):
    place.clickhouse(TYPED)
    copies = f"{place.name}-dead"
    place.servers.create_topics([copies], 1)
    Sender(place).events(post(place), 1000, value=b"not json at all").flush()
    relay = inserting(place, insert={"max_bad_ratio": "0.5", "dead_letter_topic": copies}, **typed_route(place))
    retries_of_a_pause(relay, "posts", 1)
    wait_counts(place, 1000)
    assert copies_of(place, copies) == 0
    assert relay.stop() == 0
    relay = inserting(place, "again", insert={"dead_letter_topic": copies}, **typed_route(place))
    wait_until(lambda: len(dead_letters(place)) == 1000, "the dead letters", 60)
    assert copies_of(place, copies) == 1000
    assert relay.metric("dead_letter_copies_total", result="acknowledged") == 1000
    assert relay.stop() == 0


def test_dead_letters_that_cannot_be_written_are_copied_once_all_the_same(place):
    place.clickhouse("RENAME TABLE {db}.outbox_relay_dead_letters TO {db}.away")
    copies = f"{place.name}-dead"
    place.servers.create_topics([copies], 1)
    sender = Sender(place)
    sender.event(post(place), headers=event_headers(1, event_id="no uuid"), partition=0)
    sender.events(post(place), 10, partition=0).flush()
    relay = inserting(place, insert={"dead_letter_topic": copies})
    retries_of_a_pause(relay, "outbox_events", 1)
    place.clickhouse("RENAME TABLE {db}.away TO {db}.outbox_relay_dead_letters")
    wait_until(lambda: len(dead_letters(place)) == 1, "the dead letter", 60)
    wait_counts(place, 10)
    assert copies_of(place, copies) == 1
    assert relay.stop() == 0


def test_small_copies_are_not_refused_for_the_set_that_they_travel_in(place):
    copies = f"{place.name}-dead"
    place.servers.create_topics([copies], 1, {"max.message.bytes": "100000"})
    sender = Sender(place)
    for number in range(2000):  # which do not compress
        sender.event(post(place), value=os.urandom(1000), headers=event_headers(number, event_id="no uuid"))
    sender.flush()
    relay = inserting(place, insert={"dead_letter_topic": copies})
    relay.wait(lambda: relay.metric("dead_letter_copies_total", result="acknowledged") >= 2000, "the copies", 60)
    assert copies_of(place, copies) == 2000 and not relay.metric("dead_letter_copies_total", result="too_large")
    assert relay.stop() == 0


def test_a_copy_that_is_too_large_is_counted(place):
    copies = f"{place.name}-dead"
    place.servers.create_topics([copies], 1)
    sender = Sender(place)
    sender.event(post(place), value=b"x" * 20000, headers=event_headers(1, event_id="no uuid"))
    sender.flush()
    relay = inserting(place, insert={"dead_letter_topic": copies}, kafka={"message.max.bytes": "10000"})
    wait_until(lambda: len(dead_letters(place)) >= 1, "the dead letter", 60)
    wait_until(lambda: relay.metric("dead_letter_copies_total", result="too_large") >= 1, "the count")
    assert copies_of(place, copies) == 0
    assert relay.stop() == 0
