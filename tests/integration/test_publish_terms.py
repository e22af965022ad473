# SPDX-License-Identifier: Apache-2.0
"""Terms: who owns the outbox, what a crash at each step leaves, what recovery does, and when it refuses to go on."""
import contextlib
import os
import re
import signal
import socket
import struct
import subprocess

import confluent_kafka.admin
import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from conftest import place_name
from publishing import as_admin, assert_ids, assert_kafka_is_right, crash_at, ids, least_privileged, owner_pids, publishing, repeat_last_receipt, use_test_points, wait_ids
from relaytools.authority import Authority
from relaytools.place import Place
from relaytools.proxy import END_TXN, PRODUCE, TO_CLIENT, Proxy, Rule
from relaytools.relay import wait_until
from relaytools.servers import ROOT
from relaytools.sessions import stranger

POINTS = ("publish.after_locks", "publish.after_init", "publish.after_recovery_read", "publish.after_recovery_delete",
          "publish.after_recovery_commit", "publish.after_take", "publish.after_send", "publish.after_delivery",
          "publish.after_number", "publish.after_kafka_commit", "publish.after_commit")


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_each_step_loses_and_doubles_nothing(place, point):
    relay = publishing(place, start=False)
    use_test_points(relay)
    events = [place.insert_event() for _ in range(40)]
    if "recovery_delete" in point or "recovery_commit" in point:
        crash_at(relay, "publish.after_kafka_commit")
    crash_at(relay, point)
    relay.start()
    events.append(place.insert_event())
    assert sorted(wait_ids(place, events)) == sorted(events)
    place.wait_published()
    in_doubt = point in ("publish.after_kafka_commit", "publish.after_recovery_delete")
    assert relay.metric("replays_total", stage="publish") == (1 if in_doubt else 0)
    assert relay.stop() == 0


def test_recovery_spares_a_new_event_that_got_the_number_of_a_published_one(place):
    relay = publishing(place, start=False)
    use_test_points(relay)
    old = [place.insert_event() for _ in range(3)]
    crash_at(relay, "publish.after_kafka_commit")
    # What a server does that lost its last commits: the rows are gone, the sequence gives their numbers to others.
    first = place.execute("WITH gone AS (DELETE FROM public.outbox_events RETURNING seq) SELECT min(seq) FROM gone")[0][0]
    place.execute(f"ALTER TABLE public.outbox_events ALTER COLUMN seq RESTART WITH {first}")
    new = [place.insert_event() for _ in range(3)]
    relay.start()
    assert sorted(wait_ids(place, old + new)) == sorted(old + new)
    finished = relay.events("publish.batch_finished")
    assert finished and finished[0]["not_there"] == 3
    relay.wait(lambda: relay.metric("rows_not_there_total", outbox="default") == 3, "they are counted")


@pytest.mark.postgres_versions
def test_recovery_takes_out_what_it_knows_and_leaves_the_stranger_between(place):
    relay = publishing(place, start=False)
    use_test_points(relay)
    old = [place.insert_event() for _ in range(3)]
    crash_at(relay, "publish.after_kafka_commit")
    seq = place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid RETURNING seq", old[1])[0][0]
    new = place.execute("INSERT INTO public.outbox_events (seq, aggregate_type, aggregate_id, event_type, payload) OVERRIDING SYSTEM VALUE "
                        "VALUES (%s, 'post', gen_random_uuid(), 'post.created', '{}') RETURNING id::text", seq)[0][0]
    relay.start()
    assert sorted(wait_ids(place, old + [new])) == sorted(old + [new])
    place.wait_published()
    finished, = relay.events("publish.batch_finished")
    assert (finished["taken_out"], finished["not_there"]) == (2, 1)


@pytest.mark.postgres_versions
@pytest.mark.tsan
def test_a_standby_takes_over_after_sigterm_and_after_kill(place):
    first, second = publishing(place, "first"), publishing(place, "second", start=False)
    first.wait(lambda: first.metric("outbox_owned") == 1, "the first owns")
    second.start()
    for owner, standby, end in ((first, second, "stop"), (second, first, "kill")):
        events = [place.insert_event() for _ in range(5)]
        wait_ids(place, events)
        assert standby.metric("outbox_owned") == 0
        owner.stop() if end == "stop" else owner.kill()
        standby.wait(lambda: standby.metric("outbox_owned") == 1, "the other owns")
        wait_ids(place, [place.insert_event()])
        owner.start()
    assert len(ids(place)) == len(set(ids(place)))


@pytest.mark.postgres_versions("18")   # PostgreSQL 13 ends no idle session
def test_a_frozen_owner_loses_the_outbox_and_doubles_nothing_when_it_wakes(place):
    first = publishing(place, "first", run={"lease": "2s"})
    first.wait(lambda: first.metric("outbox_owned") == 1, "the first owns")
    workload = place.workload(writers=2, rate=300).start()
    second = publishing(place, "second", run={"lease": "2s"})
    first.signal(signal.SIGSTOP)
    second.wait(lambda: second.metric("outbox_owned") == 1, "the second owns")
    second.wait(lambda: second.metric("events_published_total") > 0, "batches of the second")
    first.signal(signal.SIGCONT)
    first.wait(lambda: first.metric("outbox_owned") == 0, "the first has noticed")
    workload.stop()
    place.wait_published()
    result = place.audit()
    assert_kafka_is_right(result)


@pytest.mark.parametrize("slot", [0, 1])
def test_a_lost_session_ends_the_term_and_nothing_else(place, slot):
    relay = publishing(place)
    relay.wait(lambda: len(owner_pids(place)) == 2, "it owns the outbox")
    first = place.insert_event()
    wait_ids(place, [first])
    before = owner_pids(place)
    place.execute("SELECT pg_terminate_backend(%s)", before[slot])
    second = place.insert_event()
    assert sorted(wait_ids(place, [first, second])) == sorted([first, second])
    # The other session may have published it: the end of one that nothing is asked of is noticed later.
    relay.wait(lambda: len(owner_pids(place)) == 2 and not set(before) & set(owner_pids(place)), "it owns the outbox by new sessions")


@pytest.fixture
def proxied(request, proxied_kafka):
    servers, proxy = proxied_kafka
    place = Place(servers, "t" + place_name(request))
    yield place, proxy
    proxy.lift_all()
    place.close()


def test_a_broker_connection_that_was_closed_within_a_transaction_ends_the_term_after_it(proxied):
    """The broker may still get what was sent over it, and take the end of that transaction for the next one's."""
    place, proxy = proxied
    relay = publishing(place, kafka={"bootstrap.servers": place.servers.env["KAFKA_PROXIED_BOOTSTRAP"]})
    events = [place.insert_event()]
    place.wait_published()
    rule = proxy.add(Rule(hold_keys=(END_TXN,)))
    events.append(place.insert_event())
    relay.wait(lambda: rule.hits == 1, "the transaction is about to end")
    proxy.cut()
    proxy.lift(rule)
    relay.wait(lambda: relay.events("publish.term_renewed"), "the term ends", 30)
    relay.wait(lambda: len(relay.events("publish.term_started")) == 2, "the next term")
    events.append(place.insert_event())
    place.wait_published()
    assert_ids(place, events)
    assert relay.metric("replays_total", stage="publish") == 0, "the transaction came to its end"
    assert not relay.events("publish.term_failed"), "nothing has failed: brokers close what is idle, too"
    assert relay.stop() == 0


def test_the_end_of_the_receipts_that_one_broker_tells_is_not_believed(proxied):
    """It may have been replaced as the leader and not know it: what was published since would be published again."""
    place, proxy = proxied
    relay = publishing(place, kafka={"bootstrap.servers": place.servers.env["KAFKA_PROXIED_BOOTSTRAP"]}, start=False)
    use_test_points(relay)
    relay.start()
    events = [place.insert_event()]
    place.wait_published()
    assert relay.stop() == 0
    partition, offset = place.execute("SELECT receipt_partition, receipt_offset FROM outbox_relay.batch_numbers ORDER BY number DESC LIMIT 1")[0]
    events.append(place.insert_event())
    crash_at(relay, "publish.after_kafka_commit")
    reader = confluent_kafka.Consumer({"bootstrap.servers": place.servers.bootstrap, "group.id": place.name})
    end = reader.get_watermark_offsets(confluent_kafka.TopicPartition(f"{place.name}-receipts", partition), timeout=30)[1]
    reader.close()
    # In an answer to ListOffsets the end stands behind a timestamp of -1.
    proxy.add(Rule((TO_CLIENT,), replace=(struct.pack(">qq", -1, end), struct.pack(">qq", -1, offset + 1))))
    relay.start()
    wait_ids(place, events)
    events.append(place.insert_event())
    place.wait_published()
    assert_ids(place, events)
    assert relay.metric("replays_total", stage="publish") == 1


def open_transaction(place, topic, partition):
    """A producer of somebody else, with a record in an open transaction."""
    producer = confluent_kafka.Producer({"bootstrap.servers": place.servers.bootstrap, "transactional.id": f"{place.name}-stranger",
                                         "transaction.timeout.ms": 600000})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, key=b"stranger", value=b"", partition=partition)
    assert producer.flush(30) == 0
    return producer


def test_a_transaction_that_holds_back_the_receipts_is_named_until_it_ends(place):
    relay = publishing(place)
    events = [place.insert_event()]
    place.wait_published()
    assert relay.stop() == 0
    topic, partition = f"{place.name}-receipts", place.execute("SELECT receipt_partition FROM outbox_relay.batch_numbers LIMIT 1")[0][0]
    holder = open_transaction(place, topic, partition)
    events.append(place.insert_event())
    relay.start(ready=False)
    failure = relay.wait(lambda: relay.events("publish.term_failed"), "the term ends", 120)[0]
    assert f"of partition {partition} of the receipt topic {topic} for 30 s" in failure["error"]
    holder.abort_transaction(30)
    wait_ids(place, events)
    place.wait_published()
    assert_ids(place, events)
    assert relay.stop() == 0


def test_a_transaction_that_holds_back_a_new_outbox_is_named_while_others_write_receipts(place):
    relay = publishing(place)
    assert relay.stop() == 0
    topic = f"{place.name}-receipts"
    holder = open_transaction(place, topic, 3)
    other = confluent_kafka.Producer({"bootstrap.servers": place.servers.bootstrap})

    def failures_while_others_write():
        other.produce(topic, key=b"other", value=b"", partition=5)
        assert other.flush(30) == 0
        return relay.events("publish.term_failed")
    events = [place.insert_event()]
    relay.start(ready=False)
    failure = relay.wait(failures_while_others_write, "the term ends", 90)[0]
    assert f"of partition 3 of the receipt topic {topic} for 30 s" in failure["error"]
    holder.abort_transaction(30)
    wait_ids(place, events)
    place.wait_published()
    assert_ids(place, events)
    assert relay.stop() == 0


def test_a_record_of_somebody_else_under_a_receipts_key_is_skipped_and_a_broken_receipt_is_not(place):
    relay = publishing(place)
    events = [place.insert_event()]
    place.wait_published()
    assert relay.stop() == 0
    topic = f"{place.name}-receipts"
    identity, partition = place.execute("SELECT identity::text, receipt_partition FROM outbox_relay.batch_numbers LIMIT 1")[0]
    producer = confluent_kafka.Producer({"bootstrap.servers": place.servers.bootstrap})

    def write(slot, value):
        producer.produce(topic, value, f"{identity}/{slot}", partition)
        assert producer.flush(60) == 0
    for slot in range(20, 30):
        write(slot, '{"forged": true}')
    write(30, "")
    relay.start()
    events.append(place.insert_event())
    place.wait_published()
    assert_ids(place, events)
    warning, = relay.events("publish.foreign_receipt")
    assert warning["level"] == "warning" and (warning["topic"], warning["partition"]) == (topic, partition)
    assert not relay.events("publish.term_failed")
    assert relay.stop() == 0
    write(40, "OBRC\x01 but cut off")
    relay.start(ready=False)
    relay.wait(lambda: any("a receipt cut off" in one["error"] for one in relay.events("publish.term_failed")), "a broken one is told")


@pytest.mark.parametrize("partitions", (None, 1), ids=("missing", "smaller"))
def test_a_wiped_receipt_topic_stops_the_outbox_until_an_operator_begins_a_generation(place, partitions):
    relay = publishing(place)
    first = place.insert_event()
    wait_ids(place, [first])
    assert relay.stop() == 0
    topic = f"{place.name}-receipts"
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": place.servers.bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    if partitions is not None:
        place.servers.create_topics([topic], partitions, {"cleanup.policy": "compact"})
        place.execute("UPDATE outbox_relay.batch_numbers SET receipt_partition = 5")
    second = place.insert_event()
    relay.start(ready=False)
    failure = relay.wait(lambda: relay.events("publish.term_failed"), "it refuses to go on")[0]
    assert "begin_generation" in failure["error"] and topic in failure["error"]
    assert ids(place) == [first]
    identity, number = place.execute("SELECT identity, number FROM outbox_relay.batch_numbers ORDER BY number DESC LIMIT 1")[0]
    place.execute("SELECT outbox_relay.begin_generation(%s::uuid, %s)", identity, number)
    assert sorted(wait_ids(place, [second])) == sorted([first, second])


def test_a_database_that_went_back_in_time_stops_the_outbox(place):
    relay = publishing(place)
    for _ in range(70):
        place.insert_event()
        place.wait_published()
    assert relay.stop() == 0
    repeat_last_receipt(place, 121)     # more than a failover loses
    place.execute("DELETE FROM outbox_relay.batch_numbers WHERE number < 70")
    place.execute("UPDATE outbox_relay.batch_numbers SET number = 2, receipt_partition = NULL, receipt_offset = NULL; "
                  "UPDATE outbox_relay.progress SET settled_seq = 2; ALTER TABLE public.outbox_events ALTER COLUMN seq RESTART WITH 3")
    relay.start(ready=False)
    failure = relay.wait(lambda: relay.events("publish.term_failed"), "it refuses to go on")[0]
    assert "went back in time" in failure["error"] and "begin_generation" in failure["error"]
    # Of the highest number in Kafka; of a database in which it does not publish the relay changes nothing.
    assert "SELECT setval('public.outbox_events_seq_seq', 1070); SELECT outbox_relay.begin_generation" in failure["error"]
    assert place.execute("SELECT settled_seq FROM outbox_relay.progress") == [(2,)]
    # Of a copy beside the original: it goes on under its own name, without being started anew.
    place.execute("SELECT outbox_relay.renew_identity('public.outbox_events')")
    wait_ids(place, [place.insert_event()])


def test_the_statement_of_the_message_begins_a_generation_that_kafka_has_not(place):
    relay = publishing(place)
    events = [place.insert_event()]
    place.wait_published()
    assert relay.stop() == 0
    place.execute("CREATE TABLE public.kept AS SELECT * FROM outbox_relay.batch_numbers; "
                  "SELECT outbox_relay.begin_generation(identity, 100) FROM outbox_relay.outboxes")
    relay.start()
    events.append(place.insert_event())
    place.wait_published()
    assert relay.stop() == 0
    place.execute("TRUNCATE outbox_relay.batch_numbers; INSERT INTO outbox_relay.batch_numbers SELECT * FROM public.kept")
    relay.start(ready=False)
    error = relay.wait(lambda: relay.events("publish.term_failed"), "it refuses to go on")[0]["error"]
    assert "went back in time" in error
    place.execute(error[error.index("SELECT outbox_relay.begin_generation"):])
    events.append(place.insert_event())
    assert sorted(wait_ids(place, events)) == sorted(events)
    place.wait_published()
    assert place.execute("SELECT max(generation), min(number) FROM outbox_relay.batch_numbers WHERE generation > 2")[0] == (3, 101)


def test_commits_that_postgresql_lost_are_made_good_from_the_receipts(place):
    relay = publishing(place)
    events = []
    for _ in range(20):
        events.append(place.insert_event())
        place.wait_published()
    assert relay.stop() == 0
    place.execute("DELETE FROM outbox_relay.batch_numbers WHERE number > 5")
    relay.start()
    events.append(place.insert_event())
    assert sorted(wait_ids(place, events)) == sorted(events)
    place.wait_published()
    assert place.execute("SELECT max(number) FROM outbox_relay.batch_numbers")[0][0] == len(events)
    assert relay.metric("replays_total", stage="publish") == 15


def test_numbers_that_kafka_has_are_told_until_the_sequence_is_above_them(place):
    """A database that lost fewer transactions than there are receipts is not stopped, but its next events would get their numbers."""
    relay = publishing(place, health={"interval": "1s"})
    for _ in range(10):
        place.insert_event()
        place.wait_published()
    assert relay.stop() == 0
    place.execute("DELETE FROM outbox_relay.batch_numbers WHERE number > 5; UPDATE outbox_relay.progress SET settled_seq = 5; "
                  "ALTER TABLE public.outbox_events ALTER COLUMN seq RESTART WITH 6")
    statement = "SELECT setval('public.outbox_events_seq_seq', 1010)"

    def outbox():
        return relay.health()["checks"]["outbox"]

    for start in range(2):      # a later term, which reads the receipts no more, says so as well
        relay.start()
        relay.wait(lambda: outbox()["status"] == "degraded" and statement in outbox()["reason"], "the numbers are told")
        if start == 0:
            told, = relay.events("publish.numbers_gone_back")
            assert (told["last_seq"], told["published_seq"], told["statement"]) == (5, 10, statement)
            wait_ids(place, [place.insert_event()])
            place.wait_published()
            assert relay.stop() == 0
    place.execute(statement)
    relay.wait(lambda: outbox()["status"] == "ok", "it is over")
    assert place.execute("SELECT last_value FROM public.outbox_events_seq_seq") == [(1010,)]


def test_recovery_goes_on_once_a_row_of_a_batch_in_doubt_is_let_go(place):
    """A statement that failed within recovery's transaction says so, and stays no reason for the next terms to fail."""
    relay = publishing(place)
    events = [place.insert_event()]
    place.wait_published()
    assert relay.stop() == 0
    events.append(place.insert_event())
    place.execute("CREATE TABLE public.kept AS SELECT * FROM public.outbox_events")
    relay.start()
    place.wait_published()
    assert relay.stop() == 0
    # What a server leaves that lost the commit of the last batch.
    place.execute("DELETE FROM outbox_relay.batch_numbers WHERE number = (SELECT max(number) FROM outbox_relay.batch_numbers); "
                  "INSERT INTO public.outbox_events OVERRIDING SYSTEM VALUE SELECT * FROM public.kept")
    with contextlib.closing(psycopg2.connect(place.dsn)) as other:
        other.cursor().execute("SELECT 1 FROM public.outbox_events FOR UPDATE")
        relay.start(ready=False)
        relay.wait(lambda: len(relay.events("publish.term_failed")) >= 2, "it fails again, while the rows are locked")
        assert all("lock timeout" in failure["error"] for failure in relay.events("publish.term_failed"))
    relay.wait(lambda: relay.events("publish.term_started"), "it publishes once they are let go")
    events.append(place.insert_event())
    assert sorted(wait_ids(place, events)) == sorted(events)


def test_a_copy_of_the_database_is_told_to_say_what_it_is(place):
    place.execute("UPDATE outbox_relay.outboxes SET system_identifier = 42")
    relay = publishing(place, start=False)
    relay.start(ready=False)
    failure = relay.wait(lambda: relay.events("publish.term_failed"), "it refuses to go on")[0]
    assert "accept_system" in failure["error"] and "renew_identity" in failure["error"]
    # On the page both cases stand: whoever reads of one alone takes it for what has to be done.
    alert = relay.wait(lambda: [one for one in relay.events("alert.firing") if "accept_system" in one["message"]], "the alert")[0]
    assert "accept_system('public.outbox_events')" in alert["message"]
    assert alert["message"].endswith("renew_identity('public.outbox_events')")
    event_id = place.insert_event()
    place.execute("SELECT outbox_relay.renew_identity('public.outbox_events')")
    assert wait_ids(place, [event_id]) == [event_id]


def test_several_outboxes_are_shared_evenly_and_taken_over_whole(place):
    tables = [f"public.outbox{number}" for number in range(4)]
    for table in tables:
        place.execute("SELECT outbox_relay.create_outbox(%s)", table)
    outboxes = {f"outbox__{table.split('.')[1]}": {"table": table} for table in tables}
    first = publishing(place, "first", outbox={}, **outboxes)
    first.wait(lambda: first.metric("outbox_owned") == 5, "it owns all")
    second = publishing(place, "second", outbox={}, **outboxes)
    second.wait(lambda: second.metric("outbox_owned") >= 2 and first.metric("outbox_owned") + second.metric("outbox_owned") == 5,
                "they share", 60)
    events = [place.insert_event(table=table) for table in tables]
    wait_ids(place, events)
    first.kill()
    second.wait(lambda: second.metric("outbox_owned") == 5, "the one that is left owns all")
    events += [place.insert_event(table=table) for table in tables]
    assert sorted(wait_ids(place, events)) == sorted(events)


def test_deployments_with_other_outboxes_in_the_database_are_no_replicas(place):
    tables = [f"public.outbox{number}" for number in range(4)]
    for table in tables:
        place.execute("SELECT outbox_relay.create_outbox(%s)", table)
    pairs = [{"outbox": {"table": one}, "outbox__other": {"table": other}} for one, other in (tables[:2], tables[2:])]
    first, second = publishing(place, "first", **pairs[0]), publishing(place, "second", **pairs[1])
    for relay in (first, second):
        relay.wait(lambda relay=relay: relay.metric("outbox_owned") == 2, "it owns both of its own")
    third = publishing(place, "third", **pairs[0])
    given = first.wait(lambda: first.events("publish.given_up"), "one is left to the replica")
    assert given[0]["replicas"] == 2
    third.wait(lambda: third.metric("outbox_owned") == 1, "which takes it")
    assert second.events("publish.given_up") == []
    # While versions are mixed: one that does not say whose replica it is may be that of any.
    with contextlib.closing(psycopg2.connect(place.dsn, application_name="outbox-relay-publish-0123456789ab")):
        given = second.wait(lambda: second.events("publish.given_up"), "it leaves one to the other")
    assert given[0]["replicas"] == 2


def test_sessions_that_only_call_themselves_replicas_are_not_counted(place):
    tables = ["public.outbox0", "public.outbox1"]
    for table in tables:
        place.execute("SELECT outbox_relay.create_outbox(%s)", table)
    own = {"outbox": {"table": tables[0]}, "outbox__other": {"table": tables[1]}}
    oids = [place.execute("SELECT %s::regclass::oid::int8", table)[0][0] for table in tables]
    with contextlib.ExitStack() as sessions:
        for oid in oids:
            for instance in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
                sessions.enter_context(stranger(place.servers.admin_dsn, place.dsn, f"{place.name}_{oid}_{instance}".replace("-", "_"),
                                                application_name=f"outbox-relay-publish-{oid}-{instance}"))
        relays = [publishing(place, "first", **own)]
        relays[0].wait(lambda: relays[0].metric("outbox_owned") == 2, "it owns both")
        relays.append(publishing(place, "second", **own))
        given = relays[0].wait(lambda: relays[0].events("publish.given_up"), "one is left to the replica")
        relays[1].wait(lambda: relays[1].metric("outbox_owned") == 1, "which takes it")
    assert {event["replicas"] for event in given} == {2}


def test_a_silent_host_ahead_of_the_primary_does_not_keep_the_outbox_without_an_owner(place):
    given = psycopg2.extensions.parse_dsn(place.dsn)
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:     # takes connections and never answers
        relay = publishing(place, start=False, postgres={"dsn": psycopg2.extensions.make_dsn(
            place.dsn, host=f"127.0.0.1,{given['host']}", port=f"{silent.getsockname()[1]},{given['port']}")})
        relay.start(ready=False)
        event = place.insert_event()
        relay.wait(lambda: relay.events("publish.term_started"), "the outbox is owned")
        assert wait_ids(place, [event]) == [event]


SLOW = {
    "last_batch_number": ("(uuid)", "TABLE (generation integer, number bigint, receipt_topic_id text, receipt_partition integer, "
                          "receipt_offset bigint, written_at timestamptz)", "SELECT * FROM outbox_relay.quick($1)"),
    "write_batch_number": ("(uuid, integer, bigint, text, integer, bigint)", "void", "SELECT outbox_relay.quick($1, $2, $3, $4, $5, $6)"),
    "note_progress": ("(uuid, bigint)", "void", "SELECT outbox_relay.quick($1, $2)"),
}


@pytest.mark.parametrize("function", SLOW)
def test_a_statement_that_takes_longer_than_the_lease_does_not_end_the_term(place, function):
    arguments, returns, then = SLOW[function]
    place.execute(f"ALTER FUNCTION outbox_relay.{function}{arguments} RENAME TO quick; "
                  f"CREATE FUNCTION outbox_relay.{function}{arguments} RETURNS {returns} LANGUAGE sql AS 'SELECT pg_sleep(4); {then}'")
    relay = publishing(place, run={"lease": "2s"})
    for _ in range(2):      # on one session and on the other
        wait_ids(place, [place.insert_event()])
    place.wait_published()
    wait_until(lambda: place.execute("SELECT count(*) FROM outbox_relay.progress")[0][0] == 1, "progress is noted")
    assert relay.events("publish.term_failed") == []
    assert len(owner_pids(place)) == 2


def test_a_standby_locks_the_table_that_was_made_anew(place):
    place.execute("SELECT outbox_relay.create_outbox('public.anew')")
    first, second = (publishing(place, name, start=False, outbox={"table": "public.anew"}) for name in ("first", "second"))
    first.start()
    first.wait(lambda: first.metric("outbox_owned") == 1, "the first owns")
    second.start()
    place.execute("DROP TABLE public.anew; SELECT outbox_relay.create_outbox('public.anew')")
    first.kill()
    event = place.insert_event(table="public.anew")
    wait_ids(place, [event])
    assert len(owner_pids(place, "public.anew")) == 2, "the locks are those of the present table"


def test_the_owner_locks_the_table_that_was_made_anew(place):
    place.execute("SELECT outbox_relay.create_outbox('public.anew'), outbox_relay.create_outbox('public.swapped')")
    relay = publishing(place, outbox={"table": "public.anew"})
    events = [place.insert_event(table="public.anew")]
    wait_ids(place, events)
    before = owner_pids(place, "public.anew")
    place.execute("DROP TABLE public.anew; SELECT outbox_relay.create_outbox('public.anew')")
    relay.wait(lambda: len(owner_pids(place, "public.anew")) == 2, "it owns the present table, without an event in it")
    place.execute("ALTER TABLE public.anew RENAME TO before; ALTER TABLE public.swapped RENAME TO anew")
    events.append(place.insert_event(table="public.anew"))
    assert sorted(wait_ids(place, events)) == sorted(events)
    assert len(owner_pids(place, "public.anew")) == 2, "nothing is published of a table that is not locked"
    assert not set(before) & set(owner_pids(place, "public.anew"))


def test_a_password_that_expires_is_read_anew_from_the_passfile(place, tmp_path):
    """With password_file, which is read once, nobody could connect again until a restart."""
    role, passfile = place.name + "_login", tmp_path / "pgpass"
    parts = psycopg2.extensions.parse_dsn(least_privileged(place))
    with open(os.path.join(ROOT, "docs/operations.md"), encoding="utf-8") as file:
        escape, = re.findall(r"`(sed '[^`]*)`", file.read())

    def renew(password):
        as_admin(place, f"ALTER ROLE {role} PASSWORD '{password}'")
        escaped = subprocess.run(["sh", "-c", escape], input=password, capture_output=True, text=True, timeout=60, check=True).stdout
        passfile.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
        passfile.chmod(0o600)
    renew(r"db.example.com:5432/?Action=connect&X=\1")
    del parts["password"]
    relay = publishing(place, start=False, postgres={"dsn": psycopg2.extensions.make_dsn(**parts, passfile=str(passfile))})
    try:
        relay.start()
        first = place.insert_event()
        wait_ids(place, [first])
        renew("db.example.com:5432/?Action=connect&X=2")
        before = owner_pids(place)
        as_admin(place, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        second = place.insert_event()
        assert sorted(wait_ids(place, [first, second])) == sorted([first, second])
        relay.wait(lambda: len(owner_pids(place)) == 2 and not set(before) & set(owner_pids(place)), "it owns the outbox by new sessions")
        assert relay.stop() == 0
    finally:
        relay.kill()
        as_admin(place, f"DROP ROLE {role}")


MARKED = {"outbox": {"table": "public.own", "disposition": "mark", "column.seq": "n", "column.id": "name", "column.key": "owner", "column.type": "kind",
                     "column.aggregate_type": "none", "column.payload": "body", "column.metadata": "none", "column.created_at": "none"}}
DELETED = {"outbox": dict(MARKED["outbox"], disposition="delete")}


@pytest.mark.parametrize("changes, mark", ((MARKED, ", published_at timestamptz"), (DELETED, "")), ids=("mark", "delete"))
def test_a_batch_in_doubt_is_finished_with_no_more_rights_than_roles_sql_gives(place, changes, mark):
    """Locking rows takes a right to change them, which nobody has who only deletes them."""
    place.execute(f"CREATE TABLE public.own (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, owner text, kind text NOT NULL, body jsonb{mark})")
    place.execute("SELECT outbox_relay.attach_outbox('public.own', 'n', 'n')")
    relay = publishing(place, start=False, postgres={"dsn": least_privileged(place)}, **changes)
    try:
        use_test_points(relay)
        names = [f"event {number}" for number in range(40)]
        place.execute("INSERT INTO public.own (name, kind, body) SELECT 'event ' || i, 'post.created', '{}' FROM generate_series(0, 39) i")
        crash_at(relay, "publish.after_kafka_commit")
        relay.start()
        assert sorted(wait_ids(place, names)) == sorted(names)
        relay.wait(lambda: relay.events("publish.batch_finished"), "the batch is finished")
        assert relay.events("publish.batch_finished")[0]["taken_out"] > 0
        assert relay.stop() == 0
    finally:
        relay.kill()
        as_admin(place, f"DROP ROLE {place.name}_login")


def test_an_owner_that_kafka_does_not_answer_leaves_its_outboxes_to_a_replica_that_it_answers(place):
    """All of them, though of six only one at a time gets past the circuit breaker that they share."""
    host, port = place.servers.bootstrap.split(":")
    proxy = Proxy((host, int(port)))
    proxy.refuse()
    tables = ["public.outbox_events"] + [f"public.more_{number}" for number in range(5)]
    for table in tables[1:]:
        place.execute(f"SELECT outbox_relay.create_outbox('{table}')")
    outboxes = {f"outbox__of_{number}": {"table": table} for number, table in enumerate(tables) if number > 0}
    first = publishing(place, "first", start=False, kafka={"bootstrap.servers": f"127.0.0.1:{proxy.port}"}, **outboxes)
    first.start(ready=False)
    first.wait(lambda: first.metric("outbox_owned") == 6, "the first owns all")
    second = publishing(place, "second", **outboxes)
    events = [place.insert_event(table=table) for table in tables]
    wait_ids(place, events, 120)
    assert second.metric("outbox_owned") == 6 and first.get("/ready")[0] == 503
    assert len(first.events("publish.let_go")) == 6 and first.events("publish.term_started") == []
    assert first.metric("retries_total", dependency="postgres") == 0
    proxy.accept()
    first.wait(lambda: first.get("/ready")[0] == 200, "it is a standby, since Kafka answers it", 60)
    first.wait(lambda: first.health()["checks"]["kafka"]["status"] == "ok", "Kafka is well")
    second.kill()
    events.append(place.insert_event())
    assert sorted(wait_ids(place, events)) == sorted(events)
    proxy.close()


@pytest.mark.parametrize("count", [1, 3])
def test_a_standby_is_ready_once_kafka_has_answered_it(place, count):
    """A rollout takes the owner away when its successor is ready, which may have a password that Kafka refuses."""
    outboxes = {f"outbox__of_{number}": {"table": f"public.more_{number}"} for number in range(1, count)}
    for options in outboxes.values():
        place.execute(f"SELECT outbox_relay.create_outbox('{options['table']}')")
    owner = publishing(place, "owner", **outboxes)
    host, port = place.servers.bootstrap.split(":")
    proxy = Proxy((host, int(port)))
    proxy.refuse()
    second = publishing(place, "second", start=False, kafka={"bootstrap.servers": f"127.0.0.1:{proxy.port}"}, **outboxes)
    second.start(ready=False)

    def reasons():
        return [one.get("reason", "") for one in second.health()["checks"]["publish"].get("instances", {}).values()]
    second.wait(lambda: any("Connection refused" in reason for reason in reasons()), "it says that Kafka does not answer it")
    assert second.get("/ready")[0] == 503
    proxy.accept()
    second.wait(lambda: second.get("/ready")[0] == 200, "Kafka answers it", 90)
    assert owner.metric("outbox_owned") >= 1
    proxy.close()


def test_a_former_owner_that_kafka_answers_again_does_not_go_on_saying_that_it_does_not(proxied):
    """Its batch ran out of time, and another replica was quicker to own the outbox: it has no client to see that Kafka is well."""
    place, kafka = proxied
    target = parse_dsn(place.dsn)
    postgres = Proxy((target["host"], int(target["port"])))
    limits = {"transaction.timeout.ms": 5000, "message.timeout.ms": 5000, "socket.timeout.ms": 2500}
    former = publishing(place, "former", postgres={"dsn": make_dsn(place.dsn, host="127.0.0.1", port=postgres.port)},
                        kafka=dict(limits, **{"bootstrap.servers": place.servers.env["KAFKA_PROXIED_BOOTSTRAP"]}))
    events = [place.insert_event()]
    place.wait_published()
    rule = kafka.add(Rule(hold_keys=(PRODUCE,), limit=1000))
    events.append(place.insert_event())
    former.wait(lambda: rule.hits, "a batch that is not acknowledged")
    postgres.refuse()
    former.wait(lambda: former.events("publish.term_failed"), "it fails", 60)
    publishing(place, "second")
    wait_ids(place, events)
    assert former.health()["checks"]["kafka"]["status"] != "ok"
    kafka.lift_all()
    postgres.accept()
    former.wait(lambda: former.health()["checks"]["publish"]["instances"]["default"]["figures"]["role"] == "standby", "it stands by", 60)
    former.wait(lambda: former.health()["status"] == "ok", "Kafka is well", 60)
    assert_ids(place, events)
    postgres.close()


def test_an_owner_that_can_make_no_producer_leaves_the_outbox_to_a_replica_that_can(place, tmp_path):
    authority = Authority(str(tmp_path))
    events = [place.insert_event()]
    first = publishing(place, "first", start=False, kafka={"security.protocol": "ssl", "ssl.ca.location": authority.ca_file})
    os.unlink(authority.ca_file)
    first.start(ready=False)
    first.wait(lambda: first.metric("outbox_owned") == 1, "the first owns")
    second = publishing(place, "second")
    events.append(place.insert_event())
    wait_ids(place, events, 120)
    assert second.metric("outbox_owned") == 1 and first.get("/ready")[0] == 503
    assert len(first.events("publish.let_go")) == 1 and first.events("publish.term_started") == []
    assert all("ssl.ca.location" in event["error"] for event in first.events("publish.term_failed"))
