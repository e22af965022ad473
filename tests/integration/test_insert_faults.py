# SPDX-License-Identifier: Apache-2.0
"""The insert stage while things die: nothing is lost and nothing doubled in ClickHouse."""
import random
import signal
import threading
import time

import confluent_kafka
import pytest

from c_tests import built
from inserting import (Sender, admin, committed, counts, dead_letters, delete_group, event_headers, expire, fnv, group_of, inserting, paused,
                       post, run_under, set_committed, settle, wait_counts)
from publishing import crash_at, use_test_points
from relaytools import kafka_ends, kafka_groups
from relaytools.place import Place
from relaytools.proxy import Proxy, Rule
from relaytools.relay import wait_until


class Background:
    """Sends while a test does harm: INSERTs have to be under way all the time, not to be large."""

    def __init__(self, place, rate=1000):
        self.sender, self.topic, self.rate = Sender(place), post(place), rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        place.writing.append(self)  # a test that failed neither waits for it nor leaves it to the next one
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            self.sender.events(self.topic, self.rate // 20)
            self.sender.producer.poll(0)
            time.sleep(0.05)

    def abandon(self):
        self._stop.set()

    def stop(self):
        self.abandon()
        self._thread.join()
        self.sender.flush()
        return self.sender.sent


@pytest.mark.parametrize("compression", ("lz4", "auto"))  # here, auto is none
def test_kill_dash_nine_at_random_moments(place, compression):
    background = Background(place)
    relay = inserting(place, clickhouse={"compression": compression})
    for seed in range(6):
        time.sleep(random.Random(seed).uniform(0.2, 1.5))
        relay.kill()
        relay.start()
        if seed % 2:
            before = place.clickhouse_rows()
            wait_until(lambda: place.clickhouse_rows() > before, "inserts again")
    sent = background.stop()
    wait_counts(place, sent, seconds=60)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == sent, "all committed")
    assert relay.stop() == 0


def freeze_in_an_insert(place, relay):
    """Stops the process while ClickHouse is at an INSERT of its."""
    def caught():
        relay.signal(signal.SIGSTOP)
        if place.clickhouse("SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO `{db}`.`outbox_events`%'") != "0\n":
            return True
        relay.signal(signal.SIGCONT)
        return False
    wait_until(caught, "an INSERT under way", every=0.02)


def test_a_frozen_owner_wakes_after_another_took_over(place):
    place.clickhouse("ALTER TABLE {db}.outbox_events ADD COLUMN nap UInt8 MATERIALIZED sleepEachRow(0.0001)")     # an INSERT takes its time
    frozen = inserting(place, "frozen")
    background = Background(place)
    wait_until(lambda: place.clickhouse_rows() > 1250, "a flow")
    for _ in range(2):
        freeze_in_an_insert(place, frozen)      # alone in the group: the INSERT is its own
        other = inserting(place, "other")
        before = place.clickhouse_rows()
        wait_until(lambda: place.clickhouse_rows() > before + 1000, "the other one inserts", 60)
        frozen.signal(signal.SIGCONT)
        settle(3)
        assert other.stop() == 0
    sent = background.stop()
    wait_counts(place, sent, seconds=60)
    assert frozen.stop() == 0


def test_at_least_once_loses_nothing_over_restarts(place, proxied):
    """What a killed relay had in hand comes again. Rows that the table has are not asked for: they may come again, too."""
    relay = inserting(place, clickhouse={"url": f"http://127.0.0.1:{proxied.port}"}, insert={"guarantee": "at_least_once"}, breaker={"failures": "50"})
    sender = Sender(place).events(post(place), 500).flush()

    def complete():
        wait_until(lambda: sum(committed(place, post(place), 4).values()) == sender.sent, "all committed")
        assert counts(place)[1] == sender.sent
    complete()
    assert [one["guarantee"] for one in relay.events("insert.table_opened")] == ["at_least_once"]
    refuses = proxied.add(Rule(http="swallow", match=b"query=INSERT"))
    sender.events(post(place), 500).flush()
    wait_until(lambda: refuses.hits >= 2, "INSERTs that fail")
    settle(1.5)     # offsets are committed every half second
    relay.kill()
    proxied.lift(refuses)
    relay.start()
    complete()
    assert relay.stop() == 0
    sender.events(post(place), 500).flush()
    relay.start()
    complete()
    assert relay.stop() == 0


def test_members_come_and_go(place):
    relays = [inserting(place, "one")]
    background = Background(place)
    for name in ("two", "three"):
        relays.append(inserting(place, name))
        before = place.clickhouse_rows()
        wait_until(lambda: place.clickhouse_rows() > before + 500, "inserts go on")
    assert relays[0].stop() == 0
    relays[1].kill()
    settle(2)
    relays[0].start()
    sent = background.stop()
    wait_counts(place, sent, seconds=60)
    assert relays[0].stop() == 0 and relays[2].stop() == 0
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == sent, "all committed")


def test_offsets_set_back_on_purpose_double_nothing(place):
    relay = inserting(place)
    sender = Sender(place).events(post(place), 6000).flush()
    wait_counts(place, 6000)
    assert relay.stop() == 0
    for back in (0, 700):
        set_committed(place, post(place), {number: back for number in range(4)})
        relay.start()
        relay.wait(lambda: relay.events("insert.read_back"), "the read-back")
        sender.events(post(place), 100).flush()
        wait_counts(place, sender.sent)
        wait_until(lambda: sum(committed(place, post(place), 4).values()) == sender.sent, "all committed")
        assert relay.stop() == 0


def test_a_group_that_lost_its_offsets_fills_the_holes_of_the_table_and_doubles_nothing(place):
    relay = inserting(place)
    sender = Sender(place).events(post(place), 6000).flush()
    wait_counts(place, 6000)
    assert relay.stop() == 0
    place.clickhouse("DELETE FROM {db}.outbox_events WHERE kafka_offset IN (500, 501, 1000)")
    wait_until(lambda: place.clickhouse_rows() == 5988, "the holes")
    delete_group(place)
    relay.start()
    sender.events(post(place), 100).flush()
    wait_counts(place, 6100)
    assert relay.stop() == 0


def test_a_new_group_on_an_empty_table_begins_at_the_logs_beginning_and_rows_may_be_refilled(place):
    relay = inserting(place)
    Sender(place).events(post(place), 3000).flush()
    wait_counts(place, 3000)
    assert relay.stop() == 0
    place.clickhouse("TRUNCATE TABLE {db}.outbox_events")
    delete_group(place)
    relay.start()
    wait_counts(place, 3000)
    # The same boundaries and the table refilled by an operator: ALTER DELETE leaves the dedup tokens behind.
    assert relay.stop() == 0
    place.clickhouse("ALTER TABLE {db}.outbox_events DELETE WHERE 1 SETTINGS mutations_sync = 2")
    set_committed(place, post(place), {number: 0 for number in range(4)})
    relay.start()
    wait_counts(place, 3000)
    assert relay.stop() == 0


ONE_BATCH = {"batch_rows": "11", "linger": "15s"}


def other_route(place):
    """Into a table that is missing."""
    return {"route other": {"topics": post(place), "table": "other", "n": "header.seq"}}


def make_other(place):
    place.clickhouse("CREATE TABLE {db}.other (n UInt64, kafka_topic String, kafka_partition Int32, kafka_offset Int64) ENGINE = MergeTree "
        "ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")


def send_one_that_does_not_fit_and_ten_that_do(place):
    sender = Sender(place)
    sender.event(post(place), headers=event_headers(0, event_id="none"), partition=1)
    sender.events(post(place), 10, partition=1).flush()


def completed(place, relay):
    """The first message of the partition, lower than any row, is not passed over; nor is it for the table that was missing."""
    wait_until(lambda: dead_letters(place, "kafka_partition, kafka_offset") == [("1", "0")], "the dead letter", 60)
    assert counts(place) == (10, 10)
    make_other(place)
    wait_counts(place, 11, table="other")
    wait_until(lambda: committed(place, post(place), 2)[1] == 11, "all committed")
    assert counts(place) == (10, 10) and len(dead_letters(place)) == 1
    assert relay.stop() == 0


def test_a_first_batch_whose_dead_letters_were_refused_is_completed_though_another_table_is_missing(place):
    relay = inserting(place, insert=ONE_BATCH, **other_route(place))
    relay.wait(lambda: paused(relay, "other"), "the table that is missing paused")
    relay.wait(lambda: relay.events("insert.table_opened"), "the other one opened")
    place.clickhouse("RENAME TABLE {db}.outbox_relay_dead_letters TO {db}.away")
    send_one_that_does_not_fit_and_ten_that_do(place)
    relay.wait(lambda: paused(relay), "the dead letter refused")
    assert counts(place) == (10, 10)
    relay.kill()
    place.clickhouse("RENAME TABLE {db}.away TO {db}.outbox_relay_dead_letters")
    relay.start()
    completed(place, relay)


@pytest.mark.parametrize("point", ("insert.after_rows", "insert.after_copies"))
def test_a_crash_between_rows_and_dead_letters_of_a_first_batch_though_another_table_is_missing(place, point):
    place.servers.create_topics([f"{place.name}-copies"], 1)
    relay = inserting(place, start=False, insert=dict(ONE_BATCH, dead_letter_topic=f"{place.name}-copies"), **other_route(place))
    use_test_points(relay)
    send_one_that_does_not_fit_and_ten_that_do(place)
    crash_at(relay, point)
    assert counts(place) == (10, 10) and dead_letters(place) == []
    relay.start()
    completed(place, relay)


def test_a_late_commit_by_a_member_that_owns_nothing(place):
    relay = inserting(place)
    sender = Sender(place).events(post(place), 4000).flush()
    wait_counts(place, 4000)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 4000, "all committed")
    place.servers.create_topics([f"{place.prefix}stranger"], 1)
    stranger = kafka_groups.Stranger(place.servers.bootstrap, group_of(place), f"{place.prefix}stranger")
    assert stranger.commit({(post(place), number): 10 for number in range(4)}) == 4
    stranger.leave()
    relay.kill()
    relay.start()
    relay.wait(lambda: relay.events("insert.read_back"), "the read-back")
    sender.events(post(place), 100).flush()
    wait_counts(place, 4100)
    assert relay.stop() == 0


def test_messages_that_expired_before_they_were_read_stop_that_partition_visibly(place):
    relay = inserting(place)
    sender = Sender(place).events(post(place), 400).flush()
    wait_counts(place, 400)
    assert relay.stop() == 0
    sender.events(post(place), 400).flush()
    low = committed(place, post(place), 1)[0]
    expire(place, post(place), 0, low + 10)
    relay.start()
    relay.wait(lambda: relay.events("insert.offset_not_in_log"), "the loss is told")
    assert relay.health()["checks"]["kafka"]["status"] == "degraded"
    assert "is not in Kafka's log" in relay.health()["checks"]["kafka"]["instances"]["insert"]["reason"]
    wait_counts(place, 800 - behind(place, 0, low))  # the other partitions go on
    settle()
    assert committed(place, post(place), 1)[0] == low
    assert relay.stop() == 0


def test_messages_that_expired_are_left_behind_and_counted_where_the_operator_says_so(place):
    relay = inserting(place)
    sender = Sender(place).events(post(place), 400).flush()
    wait_counts(place, 400)
    assert relay.stop() == 0
    sender.events(post(place), 400).flush()
    low = committed(place, post(place), 1)[0]
    expire(place, post(place), 0, low + 10)
    relay = inserting(place, insert={"on_lost_messages": "continue"})
    wait_counts(place, 790)
    assert relay.metric("messages_lost_total", topic=post(place)) == 10
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 800, "all committed")
    assert relay.stop() == 0


def test_a_group_that_lost_its_offsets_begins_where_the_log_does_when_the_table_is_older(place):
    relay = inserting(place)
    sender = Sender(place).events(post(place), 400).flush()
    wait_counts(place, 400)
    assert relay.stop() == 0
    expire(place, post(place), 0, 10)
    delete_group(place)
    relay.start()
    sender.events(post(place), 100, partition=0).flush()
    wait_counts(place, 500)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 500, "all committed")
    assert relay.events("insert.offset_not_in_log") == []
    assert relay.stop() == 0


def committed_of(place, topic):
    """Of partition 0. None while the group has no coordinator, as may be when its topic has just gone."""
    try:
        return kafka_groups.committed_offsets(place.servers.bootstrap, group_of(place), [(topic, 0)])
    except confluent_kafka.KafkaException:
        return None


def test_a_topic_that_was_made_anew_over_the_rows_of_the_old_one_stands_still_visibly(place):
    """Its messages get offsets that the table has: passed over as stored, they would be lost without a word."""
    topic, kafka = post(place), admin(place)
    relay = inserting(place, kafka={"topic.metadata.refresh.interval.ms": "1000"})
    sender = Sender(place).events(topic, 50, partition=0).flush()
    wait_counts(place, 50)
    wait_until(lambda: committed_of(place, topic) == {(topic, 0): 50}, "all committed")
    kafka.delete_topics([topic])[topic].result(30)
    relay.wait(lambda: relay.events("insert.revoked"), "it learns that the topic is gone")
    wait_until(lambda: topic not in kafka.list_topics(timeout=10).topics, "the topic is gone")
    wait_until(lambda: committed_of(place, topic) == {}, "and its offsets")
    place.servers.create_topics([topic], 4)
    sender.events(topic, 10, partition=0).events(topic, 10, partition=1).flush()
    for _ in range(2):
        relay.wait(lambda: relay.events("insert.offset_not_in_log"), "it is told")
        assert [event["partition"] for event in relay.events("insert.offset_not_in_log")] == [0]
        relay.wait(lambda: f"{topic} [0]: offset 49 is not in Kafka's log" in relay.health()["checks"]["kafka"].get("reason", ""), "on the board, too")
        relay.wait(lambda: relay.metric("insert_stopped_partitions") == 1, "and counted")
        wait_counts(place, 60)  # the other partitions go on
        assert relay.stop() == 0
        relay.start()  # which changes nothing
    wait_until(lambda: committed_of(place, topic) in ({}, {(topic, 0): 0}), "nothing of it is committed")


def test_messages_that_expired_for_one_table_do_not_stop_the_others(place):
    route = other_route(place)
    relay = inserting(place, **route)
    relay.wait(lambda: paused(relay, "other"), "the table that is missing paused")
    sender = Sender(place).events(post(place), 400).flush()
    wait_counts(place, 400)
    assert relay.stop() == 0
    make_other(place)
    assert set(committed(place, post(place), 4).values()) == {0}, "the table that is missing holds it there"
    expire(place, post(place), 0, 10)
    there = behind(place, 0, 0)
    relay = inserting(place, "again", **route)
    relay.wait(lambda: relay.events("insert.offset_not_in_log"), "the loss is told")
    sender.events(post(place), 100, partition=0).flush()
    wait_counts(place, 500)
    wait_counts(place, 400 - there, table="other")  # the other partitions
    assert relay.health()["checks"]["kafka"]["status"] == "degraded"
    assert committed(place, post(place), 1)[0] <= 10
    assert relay.stop() == 0
    relay = inserting(place, "on", insert={"on_lost_messages": "continue"}, **route)
    wait_counts(place, 490, table="other")
    assert relay.metric("messages_lost_total", topic=post(place)) == 10
    assert counts(place) == (500, 500)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 500, "all committed")
    assert relay.stop() == 0


def behind(place, partition, low):
    """Messages of a partition from `low` to its end."""
    where = (post(place), partition)
    return kafka_ends.ends(place.servers.bootstrap, [where])[where] - low


@pytest.fixture
def proxied(place):
    host, port = place.servers.clickhouse_url.split("//")[1].split(":")
    proxy = Proxy((host, int(port)), kind="http")
    yield proxy
    proxy.close()


@pytest.mark.parametrize("fault,compression", [(fault, "lz4") for fault in
    ("falsify exception", "falsify gateway", "swallow disk", "cut_request", "cut_answer", "swallow")] + [("cut_request", "auto"), ("cut_answer", "auto")])
def test_lost_and_falsified_answers(place, proxied, fault, compression):
    words = fault.split()
    relay = inserting(place, clickhouse={"url": f"http://127.0.0.1:{proxied.port}", "request_timeout": "3s", "compression": compression},
        insert={"linger": "50ms"}, breaker={"failures": "50"})
    background = Background(place)
    wait_until(lambda: place.clickhouse_rows() > 500, "a flow")
    rule = Rule(http=words[0], answer=(words[1:] or ["exception"])[0], share=0.5, seed=7)
    proxied.add(rule)
    def is_hit():
        place.servers.revive()
        return rule.hits >= 8
    wait_until(is_hit, "the fault hit", 60)
    proxied.lift(rule)
    sent = background.stop()
    place.servers.revive()
    wait_counts(place, sent, seconds=60)
    assert relay.stop() == 0


def test_a_clickhouse_that_goes_while_no_events_flow_is_noticed(place, proxied):
    relay = inserting(place, clickhouse={"url": f"http://127.0.0.1:{proxied.port}"})
    relay.wait(lambda: relay.health()["checks"]["clickhouse"]["status"] == "ok", "it answers")
    proxied.refuse()
    proxied.cut()
    relay.wait(lambda: relay.health()["checks"]["clickhouse"]["status"] == "down", "it is missed", 60)
    assert relay.get("/ready")[0] == 200
    proxied.accept()
    relay.wait(lambda: relay.health()["checks"]["clickhouse"]["status"] == "ok", "it is back", 90)
    assert relay.stop() == 0


def test_an_insert_that_outlasts_request_timeout_is_divided(place):
    route = {"route slow": {"topics": post(place), "table": "slow", "n": "header.seq"}}
    naps = ", ".join(f"nap{i} UInt8 MATERIALIZED sleepEachRow(0.0005{i})" for i in range(3))  # a block may sleep 3 s in each column
    place.clickhouse(f"CREATE TABLE {{db}}.slow (n UInt64, {naps}, kafka_topic String, kafka_partition Int32, kafka_offset Int64, "
        "INDEX kafka_offset_range kafka_offset TYPE minmax GRANULARITY 1) ENGINE = MergeTree ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
    Sender(place).events(post(place), 5000).flush()
    relay = inserting(place, clickhouse={"request_timeout": "4s"}, insert={"linger": "10s"}, breaker={"failures": "50"}, **route)
    relay.wait(lambda: relay.events("insert.unclear"), "one that takes 7 s")
    wait_counts(place, 5000, seconds=240, table="slow")
    assert relay.events("insert.too_slow")
    assert counts(place) == (5000, 5000)
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 5000, "all committed")
    assert relay.stop() == 0


def test_an_insert_without_an_answer_that_arrives_after_the_read_back(place, proxied):
    """Its connection is cut, its bytes lie in a proxy: the server must have refused it before anything is sent again."""
    relay = inserting(place, clickhouse={"url": f"http://127.0.0.1:{proxied.port}"}, insert={"linger": "50ms"})
    rule = proxied.add(Rule(http="late", match=b"query=INSERT", hang_up=True))
    sender = Sender(place).events(post(place), 500).flush()
    wait_until(lambda: rule.hits == 1, "an INSERT is held")
    place.wait_inserted(500, 60)
    proxied.lift(rule)
    wait_until(lambda: rule.late_answers == 1, "ClickHouse has answered the late one")
    sender.events(post(place), 500).flush()
    wait_counts(place, 1000)
    assert relay.stop() == 0


def kafka_goes_and_comes_back(relay, proxy, status):
    """Until the relay has this status again, and its breaker is closed."""
    proxy.refuse()
    proxy.cut()
    relay.wait(lambda: relay.health()["checks"]["kafka"]["status"] == "down", "Kafka away")
    relay.wait(lambda: relay.metric("breaker_state", dependency="kafka") > 0, "the breaker open", 60)
    proxy.accept()
    relay.wait(lambda: relay.health()["checks"]["kafka"]["status"] == status and
               relay.metric("breaker_state", dependency="kafka") == 0, f"Kafka {status} again", 60)


def through_the_proxy(place, name="relay", **changes):
    return inserting(place, name, kafka={"bootstrap.servers": place.servers.env["KAFKA_PROXIED_BOOTSTRAP"]}, **changes)


def test_a_relay_without_messages_finds_out_that_kafka_is_back(proxied_kafka):
    servers, proxy = proxied_kafka
    place = Place(servers, "blip")
    relay = through_the_proxy(place, breaker={"kafka.failures": "1", "kafka.open": "2s"})
    Sender(place).events(post(place), 10).flush()
    wait_counts(place, 10)
    wait_until(lambda: sum(max(0, offset) for offset in committed(place, post(place), 4).values()) == 10, "nothing left to commit")
    kafka_goes_and_comes_back(relay, proxy, "ok")
    relay.wait(lambda: relay.health()["status"] == "ok", "all is well")
    assert relay.stop() == 0
    place.close()


def test_a_partition_that_stands_still_is_said_again_once_kafka_is_back(proxied_kafka):
    servers, proxy = proxied_kafka
    place = Place(servers, "still")
    relay = through_the_proxy(place)
    sender = Sender(place).events(post(place), 40, partition=0).flush()
    wait_counts(place, 40)
    assert relay.stop() == 0
    sender.events(post(place), 40, partition=0).flush()
    low = committed(place, post(place), 1)[0]
    expire(place, post(place), 0, low + 10)
    relay = through_the_proxy(place, "again", breaker={"kafka.failures": "1", "kafka.open": "2s"})
    relay.wait(lambda: relay.events("insert.offset_not_in_log"), "the loss is told")
    kafka_goes_and_comes_back(relay, proxy, "degraded")
    relay.wait(lambda: f"offset {low} is not in Kafka's log" in relay.health()["checks"]["kafka"]["instances"]["insert"]["reason"], "it is said again")
    assert relay.stop() == 0
    place.close()


def test_a_slow_broker_is_asked_for_the_end_of_each_partition_that_stands_still(proxied_kafka):
    """Of 16 partitions, at one answer a second and each answer good for ten."""
    servers, proxy = proxied_kafka
    place = Place(servers, "slow", topics=())
    place.servers.create_topics([post(place)], 16)
    relay = through_the_proxy(place, clickhouse={"password": "wrong"})
    relay.wait(lambda: relay.metric("insert_paused", table="outbox_events") == 1, "the pause", 60)
    rule = Rule(delay=0.07)
    proxy.add(rule)
    sender = Sender(place)
    for partition in range(16):
        sender.events(post(place), 5, partition=partition)
    sender.flush()
    relay.wait(lambda: relay.metric("consumer_lag", topic=post(place)) == 80, "the lag of all partitions", 60)
    proxy.lift(rule)
    assert relay.stop() == 0
    place.close()


def test_a_dedup_window_that_overflows(place, proxied):
    place.clickhouse("ALTER TABLE {db}.outbox_events MODIFY SETTING non_replicated_deduplication_window = 1")
    relay = inserting(place, clickhouse={"url": f"http://127.0.0.1:{proxied.port}", "request_timeout": "3s"},
        insert={"linger": "50ms"}, breaker={"failures": "50"})
    other = inserting(place, "other", insert={"linger": "50ms"})
    background = Background(place)
    wait_until(lambda: place.clickhouse_rows() > 500, "a flow")
    rule = Rule(http="cut_answer", share=0.5, seed=3)
    proxied.add(rule)
    wait_until(lambda: rule.hits >= 8, "the fault hit", 60)
    proxied.lift(rule)
    sent = background.stop()
    wait_counts(place, sent, seconds=60)
    assert relay.stop() == 0 and other.stop() == 0


VIEW = """CREATE TABLE {db}.by_type (event_type String, n UInt64, seq UInt64) ENGINE = MergeTree ORDER BY seq
    SETTINGS non_replicated_deduplication_window = 1000"""


def test_a_view_that_fails_and_is_mended_misses_nothing_and_doubles_nothing(place):
    place.clickhouse(VIEW)
    place.clickhouse("CREATE MATERIALIZED VIEW {db}.counting TO {db}.by_type AS SELECT event_type, "
        "toUInt64(if(seq = 1500, throwIf(1 = 1, 'a view of the user fails'), 1)) AS n, seq FROM {db}.outbox_events")
    relay = inserting(place)
    Sender(place).events(post(place), 3000).flush()
    relay.wait(lambda: paused(relay), "the table paused")
    settle(3)
    rows, distinct = counts(place)
    assert rows == distinct
    place.clickhouse("ALTER TABLE {db}.counting MODIFY QUERY SELECT event_type, toUInt64(1) AS n, seq FROM {db}.outbox_events")
    wait_counts(place, 3000)
    wait_until(lambda: place.clickhouse("SELECT count(), uniqExact(seq) FROM {db}.by_type") == "3000\t3000\n", "the view whole")
    assert relay.stop() == 0


def test_a_slow_table_does_not_hold_up_the_others(place):
    place.clickhouse("CREATE TABLE {db}.slow (n UInt64, kafka_topic String, kafka_partition Int32, kafka_offset Int64) ENGINE = MergeTree "
        "ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
    place.clickhouse("CREATE TABLE {db}.sink (n UInt64, s UInt8) ENGINE = Null")
    place.clickhouse("CREATE MATERIALIZED VIEW {db}.sleeping TO {db}.sink AS SELECT n, sleep(2) AS s FROM {db}.slow")
    relay = inserting(place, insert={"batch_rows": "1000", "linger": "100ms"},
        **{"route slow": {"topics": post(place), "table": "slow", "n": "header.seq"}})
    Sender(place).events(post(place), 40000).flush()
    wait_until(lambda: place.clickhouse_rows() >= 40000 and place.clickhouse_rows("slow") < 30000, "all rows of the one, while the other is far behind", 90)
    wait_counts(place, 40000)
    relay.wait(lambda: relay.events("insert.catch_up"), "the slow one has a reader of its own")
    place.clickhouse("DROP VIEW {db}.sleeping SYNC")
    wait_counts(place, 40000, table="slow", seconds=90)
    assert relay.stop() == 0


def test_a_table_whose_read_back_has_to_wait_does_not_hold_up_the_others(place):
    """Something runs under the group's query ids for that table, as if a former owner's INSERT took its time."""
    place.clickhouse("CREATE TABLE {db}.other (n UInt64, kafka_topic String, kafka_partition Int32, kafka_offset Int64) ENGINE = MergeTree "
        "ORDER BY n SETTINGS non_replicated_deduplication_window = 1000")
    Sender(place).events(post(place), 2000).flush()
    query_id = f"outbox-relay-{fnv(group_of(place)):08x}-{fnv(place.name + '.other'):08x}-former-owner"

    thread = threading.Thread(target=run_under, args=(place, query_id, "SELECT sleepEachRow(0.5) FROM numbers(1000)"))
    thread.start()
    runs = "SELECT count() FROM system.processes WHERE query_id = '" + query_id + "'"
    wait_until(lambda: place.clickhouse(runs) == "1\n", "the query of the former owner")
    relay = inserting(place, **{"route other": {"topics": post(place), "table": "other", "n": "header.seq"}})
    wait_counts(place, 2000)
    assert place.clickhouse(runs) == "1\n" and counts(place, "other") == (0, 0)
    place.clickhouse("KILL QUERY WHERE query_id = '" + query_id + "' ASYNC")
    wait_counts(place, 2000, table="other")
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == 2000, "all committed")
    thread.join()
    assert relay.stop() == 0


@pytest.mark.own_servers
def test_clickhouse_and_kafka_killed_paused_and_restarted(fragile_place):
    place = fragile_place
    relay = inserting(place, clickhouse={"request_timeout": "4s"}, breaker={"open": "2s"})
    background = Background(place)
    wait_until(lambda: place.clickhouse_rows() > 500, "a flow")
    for service, act in (("clickhouse", "kill"), ("kafka", "kill"), ("clickhouse", "pause"), ("kafka", "pause"), ("clickhouse", "restart")):
        if act == "restart":
            place.servers.restart(service)
        else:
            getattr(place.servers, act)(service)
            settle(8 if act == "pause" else 2)
            if act == "pause":
                place.servers.resume(service)
            else:
                place.servers.start(service)
        before = place.clickhouse_rows()
        wait_until(lambda: place.clickhouse_rows() > before + 250, f"inserts after {act} {service}", 90)
    sent = background.stop()
    wait_counts(place, sent, seconds=90)
    assert relay.stop() == 0


@pytest.mark.own_servers
def test_a_consumer_that_hung_once_does_not_hold_up_a_later_stop(fragile_place, tmp_path):
    place = fragile_place
    shim, hangs = built("hanging_join.so"), tmp_path / "hangs"
    relay = place.relay(publish={"enabled": "false"}, environment={"LD_PRELOAD": shim, "HANGING_JOIN": str(hangs)})
    background = Background(place)
    wait_until(lambda: place.clickhouse_rows() > 500, "a flow")
    # What is stored after Kafka died is committed to nobody, for which the member leaves the group.
    place.servers.pause("clickhouse")
    try:
        relay.wait(lambda: relay.metric("insert_buffer_bytes") > 0, "events that are not stored")
        place.servers.kill("kafka")
    finally:
        place.servers.resume("clickhouse")
    hangs.touch()
    relay.wait(lambda: relay.events("kafka.close_hangs"), "it does not let go of the first consumer", 90)
    place.servers.start("kafka")
    sent = background.stop()
    wait_counts(place, sent, seconds=90)
    assert relay.stop() == 0
    assert not relay.events("lifecycle.left_behind")


@pytest.mark.own_servers
def test_a_stop_ends_in_time_while_every_server_hangs(fragile_place):
    place = fragile_place
    relay = inserting(place)
    background = Background(place)
    wait_until(lambda: place.clickhouse_rows() > 500, "a flow")
    for service in ("clickhouse", "kafka"):
        place.servers.pause(service)
    try:
        assert relay.stop() >= 0  # not by a signal: a crash
    finally:
        for service in ("clickhouse", "kafka"):
            place.servers.resume(service)
    sent = background.stop()
    relay.start()
    wait_counts(place, sent, seconds=90)
    assert relay.stop() == 0
