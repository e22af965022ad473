# SPDX-License-Identifier: Apache-2.0
"""Rows that Kafka will never take, and topics that an operator must fix: nothing is dropped, the others flow on."""
import base64
import json
import os
import re

import confluent_kafka.admin
import psycopg2
import pytest

from publishing import as_admin, assert_ids, backlog, dead_letters, ids, publishing, wait_ids
from relaytools.place import Place
from relaytools.proxy import TO_SERVER, Rule
from relaytools.relay import command, wait_until
from relaytools.servers import ROOT
from relaytools.sessions import execute_each

AGGREGATE = "44444444-4444-4444-4444-444444444444"


def test_rows_without_a_topic_and_rows_too_large_are_dead_letters_and_odd_ones_arrive(place):
    relay = publishing(place)
    bad = {place.insert_event(""): "bad_topic", place.insert_event("...."): "bad_topic", place.insert_event("po st.x"): "bad_topic",
           place.insert_event("\u00fc.x"): "bad_topic",
           place.insert_event(payload='{"x": "' + "a" * 2100000 + '"}'): "too_large"}
    good = [place.insert_event(payload=payload) for payload in
            ("null", '"bare"', "[" * 64 + "]" * 64, '{"e": "\U0001f600"}', "{}", '{"n": 123456789012345678901234567890}')]
    for when in ("infinity", "-infinity", "0001-01-01 00:00:00+00", "9999-12-31 23:59:59+00"):
        event_id = place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at) VALUES "
                                 "('post', gen_random_uuid(), 'post.created', '{}', %s) RETURNING id::text", when)[0][0]
        if when.startswith("9999"):     # a broker takes no time that is more than an hour ahead of its own
            bad[event_id] = "refused"
        else:
            good.append(event_id)
    good += [place.insert_event(metadata=metadata) for metadata in (None, "[1]", '"text"', '{"correlation_id": null}')]
    place.wait_published()
    assert_ids(place, good)
    found = dead_letters(place)
    assert {key: value[0] for key, value in found.items()} == bad
    relay.wait(lambda: relay.metric("dead_letters_total", stage="publish") == len(bad), "each is counted once")
    assert relay.metric("dead_letters_total", reason="too_large") == 1


def test_a_row_cannot_name_the_receipt_topic(place):
    """Whoever may insert could forge the receipts of any outbox, which its next term would read."""
    relay = publishing(place, publish={"topic": "{event_type}", "key": "{aggregate_type}"})
    kept = [place.insert_event(f"{place.prefix}.post.events")]
    place.wait_published()
    identity = place.execute("SELECT identity::text FROM outbox_relay.outboxes")[0][0]
    forged = [row[0] for row in place.execute(
        "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
        "SELECT %s || '/' || n, gen_random_uuid(), %s, '{}' FROM generate_series(0, 63) n RETURNING id::text", identity, f"{place.name}-receipts")]
    kept.append(place.insert_event(f"{place.prefix}.post.events"))
    place.wait_published()
    assert relay.stop() == 0
    relay.start()
    kept.append(place.insert_event(f"{place.prefix}.post.events"))
    place.wait_published()
    assert_ids(place, kept)
    found = dead_letters(place)
    assert set(found) == set(forged)
    for code, text in found.values():
        assert code == "bad_topic" and f"'{place.name}-receipts' is the relay's own" in text, text
    assert not relay.events("publish.term_failed") and not relay.events("publish.foreign_receipt")


def in_encoding(place, encoding):
    """The database of the place anew, in another encoding than UTF8."""
    execute_each(place.servers.admin_dsn, f"DROP DATABASE {place.name}",
                 f"CREATE DATABASE {place.name} OWNER {place.servers.env['POSTGRES_USER']} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    place.migrate()


def insert_bytes(place, encoding, *, payload=b"{}", aggregate=AGGREGATE.encode(), event_type=b"post.created"):
    """As a client of this encoding, whatever the bytes are. The event's id."""
    connection = psycopg2.connect(place.dsn)
    try:
        connection.set_client_encoding(encoding)
        with connection, connection.cursor() as cursor:
            cursor.execute(b"INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES "
                           b"('post', '" + aggregate + b"', '" + event_type + b"', '" + payload + b"') RETURNING id::text")
            return cursor.fetchone()[0]
    finally:
        connection.close()


@pytest.mark.parametrize("encoding, bad, sqlstate, poison", [("SQL_ASCII", b"M\xfcller", "22021", "dead_letter"), ("WIN1252", b"M\x81ller", "22P05", "hold_aggregate")])
def test_rows_whose_bytes_have_no_utf8_form_are_dead_letters(place, encoding, bad, sqlstate, poison):
    in_encoding(place, encoding)
    good = backlog(place, 40)
    bads = [insert_bytes(place, encoding, payload=b'{"name": "' + bad + b'"}')]
    good += backlog(place, 500)
    bads.append(insert_bytes(place, encoding, payload=b'["' + bad + b'"]'))
    good += backlog(place, 1)
    relay = publishing(place, publish={"on_poison": poison})
    place.wait_published()
    assert_ids(place, good)
    found = dead_letters(place)
    assert set(found) == set(bads)
    for code, text in found.values():
        assert code == "bad_encoding" and encoding in text and sqlstate in text, text
    assert len(relay.events("publish.term_started")) == 1 and not relay.events("publish.term_failed"), relay.log_tail(400)
    relay.wait(lambda: relay.metric("dead_letters_total", reason="bad_encoding") == 2, "each is counted once")
    late = insert_bytes(place, encoding, payload=b'["' + bad + b'"]')   # while the relay is awake, and alone
    after = place.insert_event()
    wait_ids(place, [after])
    assert set(dead_letters(place)) == {*bads, late}
    listed = command("dead-letters", "list", "--stage", "publish", config=relay.config, binary=place.binary)
    assert listed.returncode == 0 and listed.stdout.count("bad_encoding") == 3, listed.stdout + listed.stderr
    if encoding == "SQL_ASCII":
        with open(os.path.join(ROOT, "docs/events.md"), encoding="utf-8") as document:
            correct = re.search("`(UPDATE public.outbox_dead_letters SET event = convert_from.* WHERE dead_letter_id = )17`", document.read()).group(1)
        letter, = place.execute("SELECT dead_letter_id FROM public.outbox_dead_letters WHERE event_id = %s", late)[0]
        as_admin(place, f"{correct}{letter}", f"SELECT outbox_relay.retry_dead_letter({letter})")
        wait_ids(place, [late])


@pytest.mark.parametrize("encoding, bad", [("SQL_ASCII", b"M\xfcller"), ("WIN1252", b"M\x81ller")])
def test_dead_letters_whose_bytes_have_no_utf8_form_are_listed_shown_put_back_and_dropped(place, encoding, bad):
    in_encoding(place, encoding)
    relay = publishing(place)
    plain = [place.insert_event("....", payload=r'{"name": "a\\b"}')]
    bads = [insert_bytes(place, encoding, event_type=b"post." + bad), insert_bytes(place, encoding, payload=b'{"name": "' + bad + b'"}')]
    plain.append(place.insert_event("...."))
    wait_until(lambda: set(dead_letters(place)) == {*plain, *bads}, "all are dead letters")
    octal = "".join(chr(one) if one < 128 else f"\\{one:o}" for one in bad)

    def letters(*arguments, code=0):
        done = command("dead-letters", *arguments, "--stage", "publish", config=relay.config, binary=place.binary)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout
    listed = letters("list")
    assert len(listed.splitlines()) == 4 and f"post.{octal}" in listed, listed
    shown = json.loads(letters("show", "--json"))["dead_letters"]
    assert {one["event_id"] for one in shown} == {*plain, *bads}
    events = {one["event_id"]: one["event"] for one in shown}
    assert events[plain[0]]["payload"] == {"name": r"a\b"}, "a letter that can be converted is shown as it is"
    assert octal in events[bads[0]] and octal in events[bads[1]], events
    assert len(letters("list", "--limit", "3").splitlines()) == 4, "three, and that there are more"
    ids_of = {one["event_id"]: one["id"] for one in shown}
    assert letters("drop", "--yes", "--id", ids_of[bads[0]]) == "1 dropped, 0 stay\n"
    assert relay.stop() == 0
    assert letters("retry", "--id", ids_of[bads[1]]) == "1 put back, 0 were there already, 0 stay\n"
    assert place.execute("SELECT id::text FROM public.outbox_events") == [(bads[1],)]
    assert letters("drop", "--yes", "--all") == "2 dropped, 0 stay\n"


def test_a_row_whose_bytes_have_no_utf8_form_is_found_among_those_below_the_watermark(place):
    """Half of them at a time, and not one half a minute: that would take eight."""
    in_encoding(place, "SQL_ASCII")
    relay = publishing(place)
    backlog(place, 300)
    place.wait_published()
    last, = place.execute("SELECT last_value FROM public.outbox_events_seq_seq")[0]
    connection = psycopg2.connect(place.dsn)
    connection.set_client_encoding("SQL_ASCII")
    with connection, connection.cursor() as cursor:
        cursor.execute(b"INSERT INTO public.outbox_events (seq, aggregate_type, aggregate_id, event_type, payload) OVERRIDING SYSTEM VALUE "
                       b"SELECT n, 'post', gen_random_uuid(), 'post.created', (CASE n WHEN %d THEN '[\"\xfc\"]' ELSE '[]' END)::jsonb "
                       b"FROM generate_series(%d, %d) n RETURNING id::text" % (last - 259, last - 260, last - 5))
        back = {row[0] for row in cursor.fetchall()}
    connection.close()
    wait_until(lambda: dead_letters(place), "the row is found", 240)
    wait_ids(place, back - set(dead_letters(place)), 90)
    assert len(dead_letters(place)) == 1 and len(relay.events("publish.term_started")) == 1


def test_a_row_whose_bytes_have_no_utf8_form_stops_the_outbox_by_its_number(place):
    in_encoding(place, "SQL_ASCII")
    before = backlog(place, 10)
    bad = insert_bytes(place, "SQL_ASCII", payload=b'["\xfc"]')
    after = backlog(place, 10)
    seq = place.execute("SELECT seq FROM public.outbox_events WHERE id = %s::uuid", bad)[0][0]
    relay = publishing(place, publish={"on_poison": "stop"})
    relay.wait(lambda: any(f"row {seq} cannot be published (bad_encoding)" in one["error"] for one in relay.events("publish.term_failed")), "the row is named")
    assert_ids(place, before)
    place.execute("UPDATE public.outbox_events SET payload = '[]' WHERE seq = %s", seq)
    place.wait_published()
    assert_ids(place, [*before, bad, *after])


def test_a_record_that_only_the_broker_refuses_is_found_among_innocent_ones(place):
    topic = f"{place.prefix}.small.events"
    place.servers.create_topics([topic], 2, {"max.message.bytes": "2000"})
    relay = publishing(place, start=False)
    innocent = [place.insert_event("small.created") for _ in range(30)]
    noise = os.urandom(3000).hex()
    large = place.insert_event("small.created", payload='{"x": "%s"}' % noise)
    innocent += [place.insert_event("small.created") for _ in range(30)]
    relay.start()
    place.wait_published()
    assert_ids(place, innocent)
    assert dead_letters(place)[large][0] == "too_large"


def test_a_topic_that_takes_less_than_a_set_of_small_events_gets_smaller_sets(place):
    place.servers.create_topics([f"{place.prefix}.small.events"], 1, {"max.message.bytes": "20000"})
    events = [row[0] for row in place.execute(
        "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
        "SELECT 'post', gen_random_uuid(), 'small.created', to_jsonb((SELECT string_agg(md5(random()::text || i || k), '') FROM generate_series(1, 15) k)) "
        "FROM generate_series(1, 1000) i RETURNING id::text")]
    relay = publishing(place, kafka={"compression.codec": "none"})
    place.wait_published()
    assert_ids(place, events)
    assert "batch.size" in relay.events("publish.term_failed")[0]["error"]
    assert not relay.events("publish.records_refused"), "no event was suspected and sent alone"


def test_without_transactions_the_order_is_kept_around_a_record_that_the_broker_refuses(place):
    """Of each event the first copy counts: a consumer that remembers ids drops the others."""
    topic = f"{place.prefix}.post.events"
    place.servers.create_topics([topic], 1)
    seqs = {row[0]: row[1] for row in place.execute(
        "WITH made AS (INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at) "
        "SELECT 'post', %s, 'post.created', '{}', CASE i WHEN 700 THEN now() + interval '1 year' ELSE now() END FROM generate_series(1, 1500) i "
        "RETURNING id::text, seq) SELECT id, seq FROM made ORDER BY seq", AGGREGATE)}
    refused = list(seqs)[699]
    relay = publishing(place, publish={"guarantee": "at_least_once"}, outbox={"batch_rows": 300}, kafka={"batch.num.messages": 20})
    place.wait_published()
    first = list(dict.fromkeys(ids(place)))
    assert first == [one for one in seqs if one != refused]
    assert set(dead_letters(place)) == {refused}
    assert len(relay.events("publish.term_started")) == 1, relay.log_tail(400)


@pytest.mark.postgres_versions
def test_a_missing_topic_is_parked_and_its_rows_are_released_in_order(place):
    relay = publishing(place)
    waiting = [place.insert_event("late.created", aggregate=AGGREGATE) for _ in range(30)]
    flowing = [place.insert_event() for _ in range(10)]
    wait_ids(place, flowing)
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "degraded", "and publish degraded")
    assert place.execute("SELECT topic FROM outbox_relay.parked_topics") == [(f"{place.prefix}.late.events",)]
    waiting += [place.insert_event("late.created", aggregate=AGGREGATE) for _ in range(30)]
    wait_ids(place, [place.insert_event()])
    assert relay.stop() == 0    # what waits is known to PostgreSQL, not only to the process
    relay.start()
    place.servers.create_topics([f"{place.prefix}.late.events"], 2)
    wait_ids(place, waiting)
    assert [r[0] for r in place.records() if r[1].endswith(".late.events")] == waiting
    relay.wait(lambda: relay.metric("parked_topics") == 0, "nothing is parked")
    relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "ok", "health ok")


def test_types_that_wait_for_the_same_topic_keep_the_order_of_their_aggregate(place):
    relay = publishing(place)
    waiting = [place.insert_event(f"late.{kind}", aggregate=AGGREGATE) for _ in range(30) for kind in ("added", "removed", "added")]
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    place.servers.create_topics([f"{place.prefix}.late.events"], 2)
    waiting += [place.insert_event(f"late.{kind}", aggregate=AGGREGATE) for kind in ("renamed", "added")]
    wait_ids(place, waiting)
    assert order_of(place) == waiting
    relay.wait(lambda: relay.metric("parked_topics") == 0, "nothing is parked")
    wait_ids(place, [place.insert_event("late.renamed", aggregate=AGGREGATE)])


def test_a_topic_is_parked_once_however_many_rows_and_marked_ones_there_are(place):
    place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at, published_at) "
                  "SELECT 'post', gen_random_uuid(), 'post.created', '{}', now(), now() FROM generate_series(1, 100000)")
    scans = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'outbox_events'"
    waiting = backlog(place, 3000, "late.created")
    as_admin(place, "ANALYZE public.outbox_events")
    before = place.execute(scans)
    relay = publishing(place, outbox={"disposition": "mark"})
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    wait_ids(place, [place.insert_event()])
    parked, = relay.events("publish.topic_parked")
    assert parked["event_type"] == "late.created" and parked["topic"] == f"{place.prefix}.late.events" and "create the topic" in parked["hint"]
    assert relay.stop() == 0    # a session that ends leaves what it has counted
    wait_until(lambda: place.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'outbox-relay%'")
               == [(0,)], "no session")
    assert place.execute(scans) == before
    relay.start()
    place.servers.create_topics([f"{place.prefix}.late.events"], 1)
    wait_ids(place, waiting)
    assert [r[0] for r in place.records() if r[1].endswith(".late.events")] == waiting


def test_a_row_that_was_mended_before_its_verdict_could_be_carried_out_is_published(place):
    place.execute("REVOKE INSERT ON public.outbox_dead_letters FROM CURRENT_USER")
    relay = publishing(place)
    fixed, poison = place.insert_event("po st.x"), place.insert_event("al so.x")
    relay.wait(lambda: any("outbox_dead_letters" in one["error"] for one in relay.events("publish.term_failed")), "the dead letter is refused")
    place.execute("UPDATE public.outbox_events SET event_type = 'post.fixed' WHERE id = %s::uuid", fixed)
    place.execute("GRANT INSERT ON public.outbox_dead_letters TO CURRENT_USER")
    place.wait_published()
    assert_ids(place, [fixed])
    assert list(dead_letters(place)) == [poison]


@pytest.mark.parametrize("kind", ("text", "bytea"))
def test_a_row_whose_type_was_changed_before_it_could_be_parked_is_published(place, kind):
    place.execute(f"ALTER TABLE public.outbox_events ALTER COLUMN event_type TYPE {kind} USING event_type::text::{kind}; "
                  "REVOKE INSERT ON outbox_relay.parked_topics FROM CURRENT_USER")
    relay = publishing(place)
    fixed, waiting = place.insert_event("late.created"), place.insert_event("late.created")
    relay.wait(lambda: any("parked_topics" in one["error"] for one in relay.events("publish.term_failed")), "the entry is refused")
    place.execute("UPDATE public.outbox_events SET event_type = 'post.fixed' WHERE id = %s::uuid", fixed)
    place.execute("GRANT INSERT ON outbox_relay.parked_topics TO CURRENT_USER")
    assert wait_ids(place, [fixed]) == [fixed]
    wait_until(lambda: place.execute("SELECT topic FROM outbox_relay.parked_topics") == [(f"{place.prefix}.late.events",)], "parked")
    relay.wait(lambda: relay.events("publish.topic_parked"), "it is told")
    assert len(relay.events("publish.topic_parked")) == 1
    place.servers.create_topics([f"{place.prefix}.late.events"], 1)
    wait_ids(place, [waiting])


@pytest.mark.parametrize("how", ("UPDATE public.outbox_events SET event_type = 'post.fixed'", "DELETE FROM public.outbox_events"))
def test_a_topic_for_which_no_row_waits_any_more_is_parked_no_more(place, how):
    relay = publishing(place)
    gone = [place.insert_event("late.created") for _ in range(3)]
    waiting = [place.insert_event("later.created")]
    relay.wait(lambda: relay.metric("parked_topics") == 2, "both topics are parked")
    place.execute(f"{how} WHERE id = ANY (%s::uuid[])", gone)
    relay.wait(lambda: relay.metric("parked_topics") == 1, "one topic is parked")
    wait_until(lambda: place.execute("SELECT topic FROM outbox_relay.parked_topics") == [(f"{place.prefix}.later.events",)], "the right one")
    place.servers.create_topics([f"{place.prefix}.later.events"], 1)
    wait_ids(place, waiting + (gone if how.startswith("UPDATE") else []), 90)


def test_topics_without_rows_hold_up_neither_each_other_nor_the_release_of_one_with_many(place):
    """More rows wait than are looked through at once, and far more than once for each topic within statement_timeout."""
    wrong = [place.insert_event(f"wrong{i}.created") for i in range(150)]
    late = len(backlog(place, 110000, "late.created"))
    last = place.insert_event("wrong0.created")
    relay = publishing(place, postgres={"statement_timeout": "1s"})
    relay.wait(lambda: relay.metric("parked_topics") == 151, "all topics are parked")
    place.execute("DELETE FROM public.outbox_events WHERE id = ANY (%s::uuid[])", wrong)
    relay.wait(lambda: relay.metric("parked_topics") == 2, "those for which a row waits are parked", 180)
    wait_until(lambda: place.execute("SELECT p.topic, e.id::text FROM outbox_relay.parked_topics p JOIN public.outbox_events e ON e.seq = p.lowest_seq "
                                     "WHERE e.event_type <> 'late.created'") == [(f"{place.prefix}.wrong0.events", last)], "its row is the last one")
    assert place.outbox_rows() == late + 1
    place.servers.create_topics([f"{place.prefix}.late.events"], 1)
    # A statement that is refused for the machine's sake is repeated; one that looks through all rows is refused each time.
    wait_until(lambda: place.outbox_rows() == 1, "the rows of the topic that is there now are published", 180)


def test_many_topics_that_are_not_there_are_asked_for_together_and_have_no_series(proxied_kafka):
    """A name that somebody invents costs no request of its own, and none of the series of which there are only so many."""
    servers, proxy = proxied_kafka
    place = Place(servers, "tmanytopics")
    rule = proxy.add(Rule(directions=(TO_SERVER,), delay=0.002))    # which counts what is sent
    try:
        wrong, topics = 1200, f"{place.prefix}."
        place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                      "SELECT 'wrong' || i, gen_random_uuid(), 'wrong.created', '{}' FROM generate_series(1, %s) i", wrong)
        relay = publishing(place, kafka={"bootstrap.servers": servers.env["KAFKA_PROXIED_BOOTSTRAP"]},
                           outbox={"topic": "{prefix}.{aggregate_type}.events"})
        relay.wait(lambda: relay.metric("parked_topics") == wrong, "all topics are parked")
        flowing = [place.insert_event()]
        wait_ids(place, flowing)
        assert rule.hits < wrong / 2
        name = f"{topics}wrong{wrong}.events"
        servers.create_topics([name], 1)
        relay.wait(lambda: relay.metric("parked_topics") == wrong - 1, "the topic that is there now is released")
        relay.wait(lambda: relay.metric("events_published_total", topic=name) == 1, "its row is published")
        assert rule.hits < wrong / 2
        shown = [line for line in relay.get("/metrics")[1].splitlines() if line.startswith("outbox_relay_events_published_total{")]
        assert sorted(line.split('"')[1] for line in shown) == [f"{topics}post.events", name]
        assert relay.stop() == 0
    finally:
        proxy.lift_all()
        place.close()


@pytest.mark.own_servers
def test_the_owner_of_many_parked_topics_notices_at_the_first_that_kafka_is_away(fragile_place):
    place = fragile_place
    relay = publishing(place)
    for topic in range(20):
        place.insert_event(f"wrong{topic}.created")
    relay.wait(lambda: relay.metric("parked_topics") == 20, "all topics are parked")
    place.servers.pause("kafka")
    relay.wait(lambda: relay.events("publish.term_failed"), "the term has ended")
    assert relay.events("publish.term_failed")[0]["error_code"] == "kafka_unreachable"
    place.servers.resume("kafka")
    place.servers.create_topics([f"{place.prefix}.wrong19.events"], 1)
    relay.wait(lambda: relay.metric("parked_topics") == 19, "the topic that is there now is released")


def test_a_topic_is_released_past_more_waiting_rows_than_a_statement_can_look_through(place):
    waiting = [place.insert_event("later.created", aggregate=AGGREGATE)]
    backlog(place, 250000, "late.created")
    waiting += [place.insert_event("later.created", aggregate=AGGREGATE)]
    relay = publishing(place, postgres={"statement_timeout": "300ms"})
    flowing = place.insert_event()
    wait_ids(place, [flowing], 100)
    place.servers.create_topics([f"{place.prefix}.later.events"], 1)
    # A statement that is refused for the machine's sake is repeated; one that looks through all rows is refused each time.
    wait_ids(place, waiting, 180)
    assert order_of(place) == waiting
    relay.wait(lambda: relay.metric("parked_topics") == 1, "one topic is parked")


def test_what_the_version_before_has_parked_is_read_anew(place):
    waiting = place.insert_event()
    place.execute("INSERT INTO outbox_relay.parked_event_types SELECT identity, 'post.created', 'nowhere', 1, 'c', 't' FROM outbox_relay.outboxes")
    publishing(place)
    wait_ids(place, [waiting])
    assert place.execute("SELECT count(*) FROM outbox_relay.parked_event_types") == [(0,)]


@pytest.fixture
def held(place):
    """An aggregate that waits behind a poison row: (relay, the poison row's id, the ids that wait)."""
    relay = publishing(place, publish={"on_poison": "hold_aggregate"})
    before = place.insert_event(aggregate=AGGREGATE)
    poison = place.insert_event("po st.x", aggregate=AGGREGATE)
    waiting = [place.insert_event(aggregate=AGGREGATE) for _ in range(5)]
    flowing = [place.insert_event() for _ in range(10)]
    wait_ids(place, flowing + [before])
    waiting.append(place.insert_event(aggregate=AGGREGATE))
    wait_ids(place, [place.insert_event()])
    assert not set(waiting) & set(ids(place))
    relay.wait(lambda: relay.metric("held_aggregates") == 1, "one aggregate is held")
    return relay, poison, waiting


def order_of(place):
    return [r[0] for r in place.records() if r[5]["aggregate_id"] == AGGREGATE.encode()]


def test_hold_aggregate_goes_on_when_the_row_is_gone(place, held):
    relay, poison, waiting = held
    place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid", poison)
    wait_ids(place, waiting)
    assert order_of(place)[1:] == waiting
    relay.wait(lambda: relay.metric("held_aggregates") == 0, "nothing is held")


def test_hold_aggregate_goes_on_when_the_row_is_mended(place, held):
    _, poison, waiting = held
    place.execute("UPDATE public.outbox_events SET event_type = 'post.fixed' WHERE id = %s::uuid", poison)
    wait_ids(place, waiting + [poison])
    assert order_of(place)[1:] == [poison] + waiting


def test_a_second_poison_row_of_a_held_aggregate_holds_what_is_behind_it_only(place, held):
    relay, poison, waiting = held
    second = place.insert_event("al so.x", aggregate=AGGREGATE)
    behind = [place.insert_event(aggregate=AGGREGATE) for _ in range(3)]
    place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid", poison)
    wait_ids(place, waiting)
    lowest = place.execute("SELECT seq FROM public.outbox_events WHERE id = %s::uuid", second)
    wait_until(lambda: place.execute("SELECT lowest_seq FROM outbox_relay.held_aggregates") == lowest, "held by the second one")
    relay.wait(lambda: relay.metric("held_aggregates") == 1, "one aggregate is held")
    assert order_of(place)[1:] == waiting
    place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid", second)
    wait_ids(place, behind)
    assert order_of(place)[1:] == waiting + behind
    relay.wait(lambda: relay.metric("held_aggregates") == 0, "nothing is held")
    assert len(relay.events("publish.released")) == 1, "said when it is true"
    assert len(relay.events("publish.term_started")) == 1


def test_an_aggregate_is_held_whatever_the_collation_of_its_column_is(place):
    place.execute("CREATE COLLATION public.own (provider = libc, locale = 'C'); "
                  "ALTER TABLE public.outbox_events ALTER COLUMN aggregate_type TYPE varchar(255) COLLATE public.own")
    relay = publishing(place, publish={"on_poison": "hold_aggregate"})
    poison = place.insert_event("po st.x", aggregate=AGGREGATE)
    waiting = [place.insert_event(aggregate=AGGREGATE) for _ in range(3)]
    wait_ids(place, [place.insert_event()])
    relay.wait(lambda: relay.metric("held_aggregates") == 1, "one aggregate is held")
    place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid", poison)
    wait_ids(place, waiting)
    assert order_of(place) == waiting


def test_aggregates_that_are_mended_together_go_on_together_however_many_are_held(place):
    count = 1100
    relay = publishing(place, start=False, publish={"on_poison": "hold_aggregate"})

    def insert(event_type):
        return [row[0] for row in place.execute(
            "WITH made AS (INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) SELECT 'post', md5(n::text)::uuid, %s, '{}' "
            "FROM generate_series(1, %s) n ORDER BY n RETURNING id::text, seq) SELECT id FROM made ORDER BY seq", event_type, count)]
    poison, waiting = insert("po st.x"), insert("post.created")
    relay.start()
    relay.wait(lambda: relay.metric("held_aggregates") == count, "all are held", 60)
    place.execute("DELETE FROM public.outbox_events WHERE id = ANY (%s::uuid[])", poison[-60:])
    assert sorted(wait_ids(place, waiting[-60:])) == sorted(waiting[-60:])
    place.execute("DELETE FROM public.outbox_events WHERE id = ANY (%s::uuid[])", poison[20:-60])
    place.execute("UPDATE public.outbox_events SET event_type = 'post.fixed' WHERE id = ANY (%s::uuid[])", poison[:20])
    assert sorted(wait_ids(place, waiting + poison[:20], 60)) == sorted(waiting + poison[:20])
    relay.wait(lambda: relay.metric("held_aggregates") == 0, "nothing is held")


def test_of_many_held_aggregates_some_are_looked_at_at_a_time(place):
    count = 25000
    relay = publishing(place, start=False, publish={"on_poison": "hold_aggregate"})
    place.execute("WITH made AS (INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) SELECT 'post', md5(n::text)::uuid, 'po st.x', '{}' "
                  "FROM generate_series(1, %s) n ORDER BY n RETURNING aggregate_id, seq) "
                  "INSERT INTO outbox_relay.held_aggregates (identity, aggregate_type, aggregate_id, lowest_seq, reason_code, reason_text) "
                  "SELECT (SELECT identity FROM outbox_relay.outboxes), 'post', aggregate_id, seq, 'invalid', 'its type' FROM made", count)
    ends = "SELECT id::text, aggregate_id::text FROM public.outbox_events WHERE seq IN ((SELECT min(seq) FROM public.outbox_events), (SELECT max(seq) FROM public.outbox_events))"
    poison = place.execute(ends)
    waiting = [place.insert_event("post.created", aggregate=aggregate) for _, aggregate in poison]

    def probes():
        return place.execute("SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'outbox_events'")[0][0]
    relay.start()
    relay.wait(lambda: relay.metric("held_aggregates") == count, "all are held", 60)
    wait_until(lambda: probes() >= 5000, "they are looked at through the index, not each compared with all rows", 60)
    place.execute("DELETE FROM public.outbox_events WHERE id = ANY (%s::uuid[])", [one for one, _ in poison])
    assert sorted(wait_ids(place, waiting, 60)) == sorted(waiting)
    relay.wait(lambda: relay.metric("held_aggregates") == count - 2, "the others are held still")


def test_on_poison_stop_stops_and_says_so(place):
    relay = publishing(place, publish={"on_poison": "stop"})
    first = place.insert_event()
    wait_ids(place, [first])
    poison = place.insert_event("....")
    after = place.insert_event()
    relay.wait(lambda: relay.events("publish.term_failed"), "it stops")
    assert "on_poison = stop" in relay.events("publish.term_failed")[0]["error"]
    relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "down", "publish is down")
    assert ids(place) == [first]
    place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid", poison)
    wait_ids(place, [after])


def test_a_topic_that_vanishes_while_running_is_parked(place):
    publishing(place)
    topic = f"{place.prefix}.gone.events"
    place.servers.create_topics([topic], 1)
    wait_ids(place, [place.insert_event("gone.created")])
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": place.servers.bootstrap})
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics(timeout=10).topics, "the topic is gone")
    place.insert_event("gone.created")
    wait_ids(place, [place.insert_event()], 90)
    wait_until(lambda: place.execute("SELECT count(*) FROM outbox_relay.parked_topics")[0][0] == 1, "parked", 60)


def test_thousands_of_poison_rows_in_a_row_do_not_stop_what_is_behind_them(place):
    relay = publishing(place, start=False, outbox={"batch_rows": "200"})
    backlog(place, 3000, "po st.x")
    good = [place.insert_event() for _ in range(10)]
    relay.start()
    wait_ids(place, good)
    place.wait_published()
    assert place.execute("SELECT count(*), count(DISTINCT event_id) FROM public.outbox_dead_letters")[0] == (3000, 3000)
    relay.wait(lambda: relay.metric("dead_letters_total", stage="publish") == 3000, "each is counted once")


def test_a_parked_topic_is_released_while_traffic_flows(place):
    relay = publishing(place, outbox={"batch_rows": "20"})
    waiting = [place.insert_event("late.created", aggregate=AGGREGATE) for _ in range(30)]
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    backlog(place, 100000)  # so that every batch is a full one
    place.servers.create_topics([f"{place.prefix}.late.events"], 2)
    relay.wait(lambda: relay.metric("parked_topics") == 0, "nothing is parked")
    assert place.outbox_rows() > 1000, "it was not released before the traffic ended"
    assert [r[0] for r in place.records() if r[1].endswith(".late.events")] == waiting


def test_rows_that_waited_are_released_one_by_one_when_the_broker_refuses_one_of_them(place):
    relay = publishing(place)
    noise = os.urandom(3000).hex()
    waiting = [place.insert_event("late.created", aggregate=AGGREGATE) for _ in range(20)]
    large = place.insert_event("late.created", aggregate=AGGREGATE, payload='{"x": "%s"}' % noise)
    waiting += [place.insert_event("late.created", aggregate=AGGREGATE) for _ in range(20)]
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    place.servers.create_topics([f"{place.prefix}.late.events"], 2, {"max.message.bytes": "2000"})

    def released():
        place.insert_event()    # other batches must not clear the suspects
        return place.execute("SELECT count(*) FROM outbox_relay.parked_topics")[0][0] == 0
    wait_until(released, "nothing is parked", 60, every=0.02)
    assert [r[0] for r in place.records() if r[1].endswith(".late.events")] == waiting
    assert dead_letters(place)[large][0] == "too_large"


def test_partitions_that_were_added_while_running_are_found(place):
    place.execute("ALTER TABLE public.outbox_events ADD COLUMN shard integer")
    publishing(place, publish={"additional": "shard:partition"})

    def insert(shard):
        return place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, shard) VALUES "
                             "('post', gen_random_uuid(), 'post.created', '{}', %s) RETURNING id::text", shard)[0][0]
    wait_ids(place, [insert(3)])
    topic = f"{place.prefix}.post.events"
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": place.servers.bootstrap})
    admin.create_partitions([confluent_kafka.admin.NewPartitions(topic, 6)])[topic].result(30)
    wait_until(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 6, "there are six partitions")
    beyond, within = insert(6), insert(5)
    wait_ids(place, [within])
    wait_until(lambda: dead_letters(place), "the row for a partition that is not there is a dead letter")
    assert {key: value[0] for key, value in dead_letters(place).items()} == {beyond: "bad_partition"}


def test_of_one_type_the_rows_of_a_missing_topic_wait_and_no_other(place):
    """Topics by the aggregate's type: a type has rows for both, and each aggregate has rows of both types."""
    topics = [f"{place.prefix}.{kind}.events" for kind in ("first", "second")]
    relay = publishing(place, publish={"topic": place.prefix + ".{aggregate_type}.events"})

    def insert(*rows):
        values = ", ".join(f"('{aggregate}', '{AGGREGATE}', 'x.{kind}', '{{}}')" for aggregate, kind in rows)
        made = place.execute(f"WITH made AS (INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES {values} "
                             "RETURNING id::text, seq) SELECT id FROM made ORDER BY seq")
        return [row[0] for row in made]
    made = insert(("first", "created"), ("second", "created"), ("first", "updated"), ("second", "updated"))
    relay.wait(lambda: relay.metric("parked_topics") == 2, "both topics are parked")
    place.servers.create_topics(topics[:1], 1)
    wait_ids(place, made[0::2])
    later = insert(("first", "updated"), ("second", "created"), ("first", "created"))
    wait_ids(place, later[0::2])
    assert [r[0] for r in place.records() if r[1] == topics[0]] == made[0::2] + later[0::2]
    relay.wait(lambda: f"1 topic parked; the first: topic {topics[1]}: " in relay.health()["checks"]["publish"]["instances"]["default"]["reason"],
               "the board names the topic that is missing")
    assert place.execute("SELECT topic FROM outbox_relay.parked_topics") == [(topics[1],)]
    place.servers.create_topics(topics[1:], 1)
    wait_ids(place, made + later)
    assert [r[0] for r in place.records() if r[1] == topics[1]] == made[1::2] + later[1::2]
    relay.wait(lambda: relay.metric("parked_topics") == 0, "nothing is parked")


@pytest.mark.parametrize("kind", ("text", "bytea", "text COLLATE public.whatever_case"))
def test_postgresql_and_the_relay_make_the_same_topic_of_a_row(place, kind):
    """Of names that are nearly the missing topic's: exactly its rows wait, and not one is taken in vain."""
    as_admin(place, "CREATE COLLATION public.whatever_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    for column in ("event_type", "aggregate_type"):
        place.execute(f"ALTER TABLE public.outbox_events ALTER COLUMN {column} TYPE {kind} USING {column}::text::{kind.split()[0]}")
    topic = place.prefix + ".{event_type:2}.{aggregate_type}.{event_type}"
    relay = publishing(place, publish={"topic": topic, "on_poison": "hold_aggregate"})

    def insert(event_type, aggregate_type):
        return place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES (%s, gen_random_uuid(), %s, '{}') "
                             "RETURNING id::text", aggregate_type, event_type)[0][0]
    near = [("a.late.b", "post"), ("a.late", "b.post"), ("a.Late", "post"), ("A.late", "post"), ("a.late", "Post"), ("a.late.", "post")]
    place.servers.create_topics([f"{place.prefix}.{one.split('.')[1]}.{other}.{one}" for one, other in near], 1)
    waiting = [insert("a.late", "post")]
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    waiting.append(insert("a.late", "post"))
    flowing = [insert(*one) for one in near]
    poison = [insert("a.", "post"), insert("a", "post"), insert("a.late", ""), insert("a..late", "post"), insert("a.l\u00e4te", "post")]
    wait_ids(place, flowing)
    relay.wait(lambda: relay.metric("held_aggregates") == len(poison), "all the others are poison")
    assert place.execute("SELECT topic FROM outbox_relay.parked_topics") == [(f"{place.prefix}.late.post.a.late",)]
    assert len(relay.events("publish.topic_parked")) == 1
    place.servers.create_topics([f"{place.prefix}.late.post.a.late"], 1)
    wait_ids(place, waiting)


def test_rows_that_wait_for_a_topic_that_was_a_mistake_go_on_with_the_right_configuration(place):
    waiting = [place.insert_event(f"post.{kind}", aggregate=AGGREGATE) for _ in range(10) for kind in ("created", "removed")]
    missing = place.insert_event("late.created")
    relay = publishing(place, name="mistaken", publish={"prefix": place.prefix + "-mistake"})
    relay.wait(lambda: relay.metric("parked_topics") == 2, "both topics are parked")
    assert relay.stop() == 0
    relay = publishing(place)
    wait_ids(place, waiting)
    assert order_of(place) == waiting
    wait_until(lambda: place.execute("SELECT topic FROM outbox_relay.parked_topics") == [(f"{place.prefix}.late.events",)],
               "one waits, for the topic that it goes to now")
    place.servers.create_topics([f"{place.prefix}.late.events"], 1)
    wait_ids(place, [missing])


@pytest.mark.parametrize("kind", ("text", "bytea"))
def test_an_aggregate_too_long_to_be_held_becomes_a_dead_letter(place, kind):
    """Those that are held are rows under a primary key, whose entries have a limit of 2704 bytes: of a bytea, of its digits."""
    place.execute(f"ALTER TABLE public.outbox_events ALTER COLUMN aggregate_id TYPE {kind} USING aggregate_id::text::{kind}, "
                  f"ALTER COLUMN event_type TYPE {kind} USING event_type::text::{kind}")
    long = base64.urlsafe_b64encode(os.urandom(2400 if kind == "text" else 1875)).decode()    # 3200 bytes, or 2500
    rows = [("post", long, "...."), ("post", "a", "nowhere." + long), ("post", "b", "post.created")]
    made = [place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES (%s, %s, %s, '{}') RETURNING id::text",
                          *row)[0][0] for row in rows]
    relay = publishing(place, publish={"on_poison": "hold_aggregate"})
    wait_ids(place, made[2:])
    wait_until(lambda: set(dead_letters(place)) == {made[0]}, "it is a dead letter")
    relay.wait(lambda: relay.metric("parked_topics") == 1, "a topic is parked, however long a type is")
    assert not relay.events("publish.term_failed")
