# SPDX-License-Identifier: Apache-2.0
"""From the table to Kafka: order, late commits, gaps, dispositions, layouts, sessions with habits of their own."""
import json
import os
import re
import uuid

import confluent_kafka
import pytest

from inserting import settle
from publishing import Transaction, as_admin, assert_ids, assert_kafka_is_right, ids, publishing, wait_ids
from relaytools import kafka_ends
from relaytools.relay import wait_until
from relaytools.servers import ROOT
from relaytools.workload import Habits


@pytest.mark.tsan
@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_writers_with_every_habit_lose_double_and_disorder_nothing(place, guarantee):
    relay = publishing(place, publish={"guarantee": guarantee})
    habits = Habits(savepoint=0.1, copy=0.1, long=0.02, burst=0.01, long_seconds=(0.2, 1.5))
    workload = place.workload(writers=8, events=6000, rollback_share=0.1, habits=habits).start()
    workload.join(120)
    place.wait_published()
    result = place.audit()
    assert result.committed >= 6000
    assert_kafka_is_right(result)
    assert relay.stop() == 0


@pytest.mark.postgres_versions
def test_a_late_commit_is_published_while_newer_rows_do_not_wait_for_it(place):
    relay = publishing(place)
    late = Transaction(place)
    late_id = late.insert()
    newer = [place.insert_event() for _ in range(20)]
    wait_ids(place, newer)
    wait_until(lambda: relay.metric("outbox_holes") >= 1, "its number is missed")
    wait_until(lambda: relay.metric("outbox_oldest_hole_seconds") > 0, "it gets older, with nothing to publish as well")
    after = place.insert_event()
    wait_ids(place, [after])
    assert late_id not in ids(place)
    late.end()
    assert sorted(wait_ids(place, [late_id])) == sorted(newer + [after, late_id])
    wait_until(lambda: relay.metric("outbox_holes") == 0, "no hole is left")
    wait_until(lambda: relay.metric("outbox_oldest_hole_seconds") == 0, "nor an age")


def test_events_after_a_late_commit_of_the_same_aggregate_come_after_it(place):
    publishing(place)
    late = Transaction(place)
    first = late.insert(aggregate="22222222-2222-2222-2222-222222222222")
    others = [place.insert_event() for _ in range(5)]
    wait_ids(place, others)
    late.end()
    second = place.insert_event(aggregate="22222222-2222-2222-2222-222222222222")
    wait_ids(place, [first, second])
    of_aggregate = [r[0] for r in place.records() if r[5]["aggregate_id"] == b"22222222-2222-2222-2222-222222222222"]
    assert of_aggregate == [first, second]


def test_a_late_transaction_larger_than_a_batch_comes_whole_and_before_what_follows_it(place):
    publishing(place, outbox={"batch_rows": "50"})
    aggregate = "33333333-3333-3333-3333-333333333333"
    late = Transaction(place)
    rows = [late.insert(aggregate=aggregate) for _ in range(400)]
    wait_ids(place, [place.insert_event() for _ in range(5)])
    late.end()
    rows.append(place.insert_event(aggregate=aggregate))
    wait_ids(place, rows)
    assert [r[0] for r in place.records() if r[5]["aggregate_id"] == aggregate.encode()] == rows


def test_a_late_transaction_larger_than_batch_bytes_comes_whole_however_short_its_text_is(place):
    """An array of small numbers takes four times as many bytes in PostgreSQL, which cuts the look-up, as in its text."""
    publishing(place, outbox={"batch_bytes": "64KiB"})
    aggregate = "33333333-3333-3333-3333-333333333333"
    late = Transaction(place)
    rows = [late.insert(aggregate=aggregate, payload=json.dumps([0] * 300)) for _ in range(60)]
    for _ in range(6):  # each a batch of its own, after which more rows are thought to fit
        wait_ids(place, [place.insert_event()])
    late.end()
    rows.append(place.insert_event(aggregate=aggregate))
    wait_ids(place, rows)
    assert [r[0] for r in place.records() if r[5]["aggregate_id"] == aggregate.encode()] == rows


def test_a_hundred_thousand_gaps_leave_nothing_behind(place):
    relay = publishing(place)
    rolled_back = Transaction(place)
    with rolled_back.connection.cursor() as cursor:
        cursor.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                       "SELECT 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, 100000)")
    rolled_back.end(commit=False)
    # And single ones, between rows that are there.
    place.execute("""DO $$ BEGIN FOR i IN 1..3000 LOOP
        PERFORM nextval(pg_get_serial_sequence('public.outbox_events', 'seq'));
        INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload)
        VALUES ('post', gen_random_uuid(), 'post.created', '{}'); END LOOP; END $$""")
    place.wait_published()
    wait_until(lambda: len(ids(place)) >= 3000, "all of them in Kafka")
    assert len(ids(place)) == 3000
    wait_until(lambda: relay.metric("outbox_holes") == 0, "no hole is left")


@pytest.mark.postgres_versions
@pytest.mark.parametrize("form", ["jsonb", "text"])
def test_batches_keep_to_batch_bytes_however_small_postgresql_stores_the_rows(place, form):
    """60 KB a row, which PostgreSQL compresses to less than 1 KB: a batch of 256 KB holds five."""
    place.execute(f"ALTER TABLE public.outbox_events ALTER COLUMN payload TYPE {form}")
    place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                  f"SELECT 'post', gen_random_uuid(), 'post.created', jsonb_build_object('n', n, 'text', repeat('abcdef', 10000))::{form} "
                  "FROM generate_series(1, 40) n")
    assert place.execute("SELECT max(pg_column_size(payload)) < 1024 FROM public.outbox_events")[0][0]
    relay = publishing(place, outbox={"batch_bytes": "256KiB"}, publish={"guarantee": "at_least_once"})
    place.wait_published()
    assert sorted(json.loads(record[4])["n"] for record in place.records()) == list(range(1, 41))
    wait_until(lambda: relay.metric("publish_batch_seconds_count") >= 8, "the last COMMIT's answer")


@pytest.mark.postgres_versions
def test_disposition_mark_keeps_the_rows(place):
    relay = publishing(place, outbox={"disposition": "mark"})
    event_id = place.insert_event()
    place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at) "
                  "VALUES ('post', gen_random_uuid(), 'post.created', '{}', now() + interval '30 minutes')")
    place.wait_published()
    rows = place.execute("SELECT id::text, published_at >= created_at FROM public.outbox_events")
    assert len(rows) == 2 and all(row[1] for row in rows)
    assert relay.stop() == 0
    relay.start()
    second = place.insert_event()
    found = wait_ids(place, [event_id, second])
    assert len(found) == 3


def test_an_event_larger_than_two_batches_goes_where_the_limits_are_raised(place):
    limit = str(64 << 20)
    place.servers.create_topics([f"{place.prefix}.large.events"], 1, {"max.message.bytes": limit})
    publishing(place, kafka={"message.max.bytes": limit})
    event = place.insert_event("large.created", payload='{"x": "%s"}' % ("a" * (40 << 20)))
    place.wait_published()
    assert_ids(place, [event])


def test_a_table_of_debeziums_layout(place):
    place.servers.create_topics([f"{place.prefix}.order.events"], 2)
    place.execute("CREATE TABLE public.debezium_outbox (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, aggregateid varchar(255)"
                  " NOT NULL, type varchar(255) NOT NULL, payload jsonb, seq bigint GENERATED ALWAYS AS IDENTITY)")
    place.execute("CREATE UNIQUE INDEX ON public.debezium_outbox (seq)")
    place.execute("SELECT outbox_relay.attach_outbox('public.debezium_outbox')")
    publishing(place, outbox={"table": "public.debezium_outbox", "layout": "debezium", "column.created_at": "none"},
               publish={"topic": "{prefix}.{aggregate_type}.events"})
    place.execute("INSERT INTO public.debezium_outbox (id, aggregatetype, aggregateid, type, payload) VALUES "
                  "('99999999-9999-9999-9999-999999999999', 'order', 'A-17', 'OrderCreated', '{\"a\": 1}')")
    wait_ids(place, ["99999999-9999-9999-9999-999999999999"])
    record, = place.records()
    assert record[1] == f"{place.prefix}.order.events"
    assert json.loads(record[4]) == {"a": 1}
    assert record[5]["aggregate_id"] == record[6] == b"A-17"


def test_roles_that_share_a_column(place):
    """As of a table that routes by its topic and knows no types, with the id for the key."""
    place.execute("CREATE TABLE public.shared (id uuid PRIMARY KEY, destination text NOT NULL, payload jsonb, seq bigint GENERATED ALWAYS AS IDENTITY UNIQUE)")
    place.execute("SELECT outbox_relay.attach_outbox('public.shared')")
    table = {"table": "public.shared", "layout": "debezium", "column.key": "id", "column.type": "destination", "column.aggregate_type": "destination"}
    publishing(place, outbox=table, publish={"topic": "{prefix}.{aggregate_type}.events"})
    event = "99999999-9999-9999-9999-999999999999"
    place.execute("INSERT INTO public.shared (id, destination, payload) VALUES (%s, 'post', '{\"a\": 1}')", event)
    wait_ids(place, [event])
    record, = place.records()
    assert record[1] == f"{place.prefix}.post.events" and record[6] == event.encode()
    assert [record[5][name] for name in ("event_type", "aggregate_type", "aggregate_id")] == [b"post", b"post", event.encode()]


def test_a_users_own_table_with_text_ids_bytes_and_null_keys(place):
    """And with milliseconds for times, of which some are none."""
    place.execute("CREATE TABLE public.own (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, owner text, kind text NOT NULL,"
                  " body bytea, born bigint)")
    place.execute("SELECT outbox_relay.attach_outbox('public.own', 'n', 'born')")
    publishing(place, outbox={"table": "public.own", "column.seq": "n", "column.id": "name", "column.key": "owner", "column.type": "kind",
                              "column.aggregate_type": "none", "column.payload": "body", "column.metadata": "none", "column.created_at": "born"})
    place.execute("INSERT INTO public.own (name, owner, kind, body, born) VALUES ('one', NULL, 'post.created', '\\x00ff', 1767225600123), "
                  "('two', 'somebody', 'post.created', NULL, NULL), ('three', NULL, 'post.created', '', 9223372036854775807)")
    wait_ids(place, ["one", "two", "three"])
    found = {r[0]: (r[4], r[6], r[5].get("created_at")) for r in place.records()}
    assert found == {"one": (b"\x00\xff", None, b"2026-01-01T00:00:00.123000Z"), "two": (b"", b"somebody", None), "three": (b"", None, None)}
    wait_until(lambda: place.execute("SELECT count(*) FROM public.own")[0][0] == 0, "they have left the table")


def test_dates_for_times_of_which_some_are_beyond_all_times(place):
    place.execute("CREATE TABLE public.dated (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, kind text NOT NULL, body jsonb, born date)")
    place.execute("SELECT outbox_relay.attach_outbox('public.dated', 'n', 'born')")
    relay = publishing(place, outbox={"table": "public.dated", "column.seq": "n", "column.id": "name", "column.key": "name", "column.type": "kind",
                                      "column.aggregate_type": "none", "column.payload": "body", "column.metadata": "none", "column.created_at": "born"})
    place.execute("INSERT INTO public.dated (name, kind, body, born) VALUES ('one', 'post.created', '{}', '2026-01-01'), "
                  "('two', 'post.created', '{}', '5874897-12-31'), ('three', 'post.created', '{}', '294276-12-31'), "
                  "('four', 'post.created', '{}', 'infinity'), ('five', 'post.created', '{}', '2026-01-02')")
    wait_ids(place, ["one", "two", "three", "four", "five"])
    found = {record[0]: record[5].get("created_at") for record in place.records()}
    assert found == {"one": b"2026-01-01T00:00:00.000000Z", "two": None, "three": None, "four": None, "five": b"2026-01-02T00:00:00.000000Z"}
    wait_until(lambda: place.execute("SELECT count(*) FROM public.dated")[0][0] == 0, "they have left the table")
    relay.wait(lambda: relay.health()["checks"]["outbox"]["status"] == "ok", "and it has health")


def test_of_a_payload_of_bytes_only_null_is_a_tombstone(place):
    place.execute("ALTER TABLE public.outbox_events ALTER COLUMN payload DROP NOT NULL, ALTER COLUMN payload TYPE bytea USING convert_to(payload::text, 'UTF8')")
    publishing(place, publish={"tombstone_on_empty": "true"})
    values = (b"", b" \n", b"null", None)
    events = [place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                            "VALUES ('post', gen_random_uuid(), 'post.created', %s) RETURNING id::text", value)[0][0] for value in values]
    wait_ids(place, events)
    assert {record[0]: record[4] for record in place.records()} == dict(zip(events, values))


def test_session_defaults_that_would_undo_the_argument_do_not_count(place):
    settings = ("transaction_isolation", "synchronous_commit", "search_path")
    place.execute(f"CREATE TABLE public.seen AS SELECT {', '.join(f'NULL::text AS {name}' for name in settings)} LIMIT 0")
    place.execute("CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen VALUES "
                  f"({', '.join(f'current_setting({name!r})' for name in settings)}); RETURN NULL; END $$")
    place.execute("CREATE TRIGGER see AFTER DELETE ON public.outbox_events FOR EACH STATEMENT EXECUTE FUNCTION public.see()")
    for name, value in (("default_transaction_isolation", "serializable"), ("synchronous_commit", "off"), ("search_path", "pg_temp")):
        place.execute(f"ALTER DATABASE {place.name} SET {name} = '{value}'")
    publishing(place)
    events = [place.insert_event() for _ in range(10)]
    assert sorted(wait_ids(place, events)) == sorted(events)
    place.wait_published()
    assert place.execute("SELECT DISTINCT * FROM public.seen") == [("read committed", "on", "pg_catalog, pg_temp")]


def test_additional_columns_are_what_postgresql_prints(place):
    """Of an inet without a netmask that covers one address; of floats all digits, whatever the role's settings say."""
    for statement in ("CREATE DOMAIN address AS inet",
                      "ALTER TABLE outbox_events ADD ip inet, ADD net inet, ADD six address, ADD block cidr, ADD price float8, ADD weight float4",
                      "ALTER TABLE outbox_events ALTER ip SET DEFAULT '10.0.0.1', ALTER net SET DEFAULT '10.0.0.0/8', ALTER six SET DEFAULT '::1', "
                      "ALTER block SET DEFAULT '10.0.0.0/8', ALTER price SET DEFAULT 9007199254740992, ALTER weight SET DEFAULT 0.1",
                      f"ALTER DATABASE {place.name} SET extra_float_digits = 0"):
        as_admin(place, statement)
    names = ("ip", "net", "six", "block", "price", "weight")
    relay = publishing(place, publish={"value": "envelope",
        "additional": ", ".join([f"{name}:header" for name in names] + [f"{name}:envelope" for name in names])})
    event = place.insert_event()
    wait_ids(place, [event])
    record, = place.records()
    printed = ("10.0.0.1", "10.0.0.0/8", "::1", "10.0.0.0/8", "9.007199254740992e+15", "0.1")
    assert [record[5][name].decode() for name in names] == list(printed)
    envelope = json.loads(record[4])
    assert [envelope[name] for name in names] == [*printed[:4], 9007199254740992, 0.1]
    assert relay.stop() == 0


def test_two_outboxes_each_have_their_own_order_and_numbers_and_one_that_is_off_is_left_alone(place):
    tables = ("public.outbox_events", "public.second")
    for table in ("public.off", "public.second"):
        place.execute("SELECT outbox_relay.create_outbox(%s)", table)
    for statement in ("CREATE DOMAIN number AS integer", "CREATE DOMAIN tenant_no AS number CHECK (VALUE > 0)", "CREATE DOMAIN document AS jsonb",
                      "ALTER TABLE public.second ADD tenant tenant_no DEFAULT 17, ADD extra document DEFAULT '{\"a\": 1}', ADD code text DEFAULT '17'"):
        place.execute(statement)
    held_back = place.insert_event(table="public.off")
    relay = publishing(place, start=False, outbox={"batch_rows": "2"}, outbox__off={"table": "public.off", "enabled": "false"}, outbox__second={
        "table": "public.second", "batch_rows": "2", "value": "envelope", "additional": "tenant:envelope, extra:envelope, code:envelope"})
    aggregates = [str(uuid.uuid4()) for _ in tables]
    written = [[], []]
    for _ in range(10):
        for table, aggregate, events in zip(tables, aggregates, written):
            events.append(place.insert_event(table=table, aggregate=aggregate))
    relay.start()
    wait_until(lambda: not any(place.outbox_rows(table) for table in tables), "both outboxes are empty", 60)
    records = place.records()
    assert [[r[0] for r in records if r[6] == aggregate.encode()] for aggregate in aggregates] == written and len(records) == 20
    envelope = next(json.loads(record[4]) for record in records if record[0] == written[1][0])
    assert [envelope[name] for name in ("tenant", "extra", "code")] == [17, {"a": 1}, "17"], "a domain counts as what is under it"
    assert place.execute("SELECT count(*), min(first) FROM (SELECT min(number) AS first FROM outbox_relay.batch_numbers GROUP BY identity) x") == [(2, 1)]
    assert place.execute("SELECT id::text FROM public.off") == [(held_back,)]
    assert set(relay.health()["checks"]["publish"]["instances"]) == {"default", "second"}


def test_a_row_that_somebody_holds_locked_is_waited_for_without_ending_the_term(place):
    relay = publishing(place, start=False)
    event_id = place.insert_event()
    holder = Transaction(place)
    with holder.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM public.outbox_events FOR UPDATE")
    relay.start()
    relay.wait(lambda: relay.events("publish.read_refused"), "the locked row is told")
    holder.end()
    assert wait_ids(place, [event_id]) == [event_id]
    assert len(relay.events("publish.term_started")) == 1


def test_a_table_that_is_not_there_or_not_registered_is_named_with_what_to_do(place):
    place.execute("CREATE TABLE public.stranger (LIKE public.outbox_events INCLUDING ALL)")
    relay = publishing(place, start=False, outbox={"table": "public.stranger"}, outbox__gone={"table": "public.gone"},
                       outbox__timeless={"table": "public.outbox_events", "column.created_at": "last_error"})
    relay.start(ready=False)
    relay.wait(lambda: {e["outbox"] for e in relay.events("publish.term_failed")} == {"default", "gone", "timeless"}, "all are told")
    texts = {e["outbox"]: e["error"] for e in relay.events("publish.term_failed")}
    assert "attach_outbox" in texts["default"]
    assert "does not exist" in texts["gone"]
    assert 'column "last_error" of table public.outbox_events is of type text; [outbox] column.created_at takes' in texts["timeless"]


def test_progress_is_noted_and_never_past_a_hole(place):
    publishing(place)

    def noted():
        rows = place.execute("SELECT settled_seq FROM outbox_relay.progress")
        return rows[0][0] if rows else None

    def last_number():
        return place.execute("SELECT last_value FROM public.outbox_events_seq_seq")[0][0]
    place.insert_event()
    wait_until(lambda: noted() == last_number(), "the first event is noted")
    late = Transaction(place)
    late.insert()
    hole = last_number()
    wait_ids(place, [place.insert_event() for _ in range(5)])
    wait_until(lambda: noted() == hole - 1, "progress up to the hole")
    settle(4)   # it is noted every second or two
    assert noted() == hole - 1
    late.end()
    wait_until(lambda: noted() == hole + 5, "everything settled", 30)


def test_a_key_keeps_the_partition_that_librdkafka_gave_it(place):
    topic, keys = f"{place.prefix}.post.events", [str(uuid.uuid4()) for _ in range(50)]
    producer = confluent_kafka.Producer({"bootstrap.servers": place.servers.bootstrap})  # as other publishers have it
    for key in keys:
        producer.produce(topic, key=key, value=b"{}", headers={"event_id": str(uuid.uuid4())})
    assert producer.flush(60) == 0
    for key in keys:
        place.insert_event(aggregate=key)
    publishing(place, kafka={"partitioner": "consistent_random"})
    place.wait_published()
    partitions = {}
    for _, name, partition, _, _, _, key in place.records():
        assert name == topic
        partitions.setdefault(key.decode() if isinstance(key, bytes) else key, []).append(partition)
    assert sorted(partitions) == sorted(keys)
    assert all(len(found) == 2 and len(set(found)) == 1 for found in partitions.values()), partitions
    assert len({found[0] for found in partitions.values()}) > 1


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_only_transactions_leave_markers_in_the_log(place, guarantee):
    """Which some clients hand over as messages: the wire contract names the other guarantee for them."""
    relay = publishing(place, publish={"guarantee": guarantee})
    wait_ids(place, [place.insert_event() for _ in range(5)])
    assert relay.stop() == 0
    topic = f"{place.prefix}.post.events"
    ends = kafka_ends.ends(place.servers.bootstrap, kafka_ends.partitions(place.servers.bootstrap, [topic]))
    assert (sum(ends.values()) == 5) == (guarantee == "at_least_once"), ends


def test_the_wire_contract_says_of_each_client_what_it_needs():
    with open(os.path.join(ROOT, "schemas/kafka/README.md"), encoding="utf-8") as file:
        _, _, text = file.read().partition("\n## Clients\n")
    rows = [row.strip("|").split(" | ") for row in re.findall(r"^\|.*\|$", text.partition("\n## ")[0], re.M)[2:]]
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows), rows
    known = " ".join(row[0] for row in rows)
    for client in ("Java", "librdkafka", "franz-go", "sarama", "kafka-go", "aiokafka", "kafka-python", "kafkajs", "brod"):
        assert client in known, client


def test_the_wire_contract_names_the_compression():
    with open(os.path.join(ROOT, "relay/kafka/kafka_conf.c"), encoding="utf-8") as file:
        codec = re.search(r'"compression\.codec", "(\w+)"', file.read()).group(1)
    with open(os.path.join(ROOT, "schemas/kafka/README.md"), encoding="utf-8") as file:
        assert f"| compression | {codec}, " in file.read()
