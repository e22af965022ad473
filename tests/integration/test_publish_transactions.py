# SPDX-License-Identifier: Apache-2.0
"""An outbox that is behind puts several batches into one transaction, exactly_once. Whatever happens to one of them, each
event is there once, and what was before it in the transaction goes out."""
import os
import signal
import time
from contextlib import closing

import pytest

from publishing import Transaction, assert_ids, assert_order, backlog, crash_at, dead_letters, ids, publishing, use_test_points, wait_ids
from relaytools.relay import wait_until

AGGREGATE = "44444444-4444-4444-4444-444444444444"
BATCH = 20
SMALL = {"outbox": {"batch_rows": BATCH}}


def transactions(place):
    """How many the outbox has published, by its numbers."""
    return place.execute("SELECT coalesce(max(number), 0) FROM outbox_relay.outboxes o, "
                         "LATERAL outbox_relay.last_batch_number(o.identity)")[0][0]


def test_a_backlog_goes_out_in_transactions_of_several_batches(place):
    events = backlog(place, 200 * BATCH)
    relay = publishing(place, **SMALL)
    place.wait_published()
    assert_ids(place, events)
    assert 0 < transactions(place) < 200, "of 200 batches some have joined, on a slow machine few"
    wait_until(lambda: relay.metric("events_published_total") == len(events), "the last COMMIT's answer")
    wait_until(lambda: relay.metric("publish_batch_seconds_count") == transactions(place), "each is measured")


def test_under_load_transactions_grow_instead_of_following_each_other(place):
    """Each commit has 200 rows. From 100 on a transaction begins 20 ms after the one before, however fast the machine is."""
    relay = publishing(place, publish={"guarantee": "at_least_once"}, outbox={"batch_rows": 20000})
    began = time.monotonic()
    with closing(place.connect()) as connection:
        connection.autocommit = True
        connection.cursor().execute(
            "DO $$ BEGIN FOR i IN 1..400 LOOP INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
            "SELECT 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, 200); "
            "COMMIT; PERFORM pg_sleep(0.003); END LOOP; END $$")
    place.wait_published()
    most = (time.monotonic() - began) / 0.020 + 2
    wait_until(lambda: relay.metric("events_published_total") == 80_000, "the last COMMIT's answer")
    assert 1 < relay.metric("publish_batch_seconds_count") <= most


@pytest.mark.parametrize("at, behind, batch", ((5 * BATCH, 10 * BATCH, BATCH), (5 * BATCH + 7, 0, BATCH), (4, 6, 1), (0, 400, 200)))
def test_a_record_that_the_broker_refuses_undoes_the_transaction_and_no_more(place, at, behind, batch):
    place.servers.create_topics([f"{place.prefix}.small.events"], 2, {"max.message.bytes": "2000"})
    before = backlog(place, at, "small.created", AGGREGATE)
    large = place.insert_event("small.created", aggregate=AGGREGATE, payload='{"x": "%s"}' % os.urandom(3000).hex())
    behind = backlog(place, behind, "small.created", AGGREGATE)
    relay = publishing(place, outbox={"batch_rows": batch}, kafka={"batch.size": 1000000})     # given: no term ends to make sets smaller
    place.wait_published()
    assert_order(place, before + behind)
    assert set(dead_letters(place)) == {large}
    assert relay.events("publish.records_refused")
    assert len(relay.events("publish.term_started")) == 1, relay.log_tail(400)


def test_a_row_without_a_topic_ends_the_transaction_before_it(place):
    before = backlog(place, 7 * BATCH + 3, aggregate=AGGREGATE)
    bad = place.insert_event(" not a type ", aggregate=AGGREGATE)
    behind = backlog(place, 7 * BATCH, aggregate=AGGREGATE)
    relay = publishing(place, **SMALL)
    place.wait_published()
    assert_order(place, before + behind)
    assert set(dead_letters(place)) == {bad}
    assert len(relay.events("publish.term_started")) == 1, relay.log_tail(400)


def test_a_locked_row_holds_up_nothing_that_was_read_before_it(place):
    events = backlog(place, 10 * BATCH, aggregate=AGGREGATE)
    holder = Transaction(place)
    with holder.connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM public.outbox_events WHERE id = %s FOR UPDATE", (events[5 * BATCH + 3],))
    relay = publishing(place, **SMALL)
    wait_ids(place, events[:5 * BATCH])
    wait_until(lambda: relay.events("publish.read_refused"), "the lock met")
    holder.end(commit=False)
    place.wait_published()
    assert_order(place, events)
    assert len(relay.events("publish.term_started")) == 1, relay.log_tail(400)


def test_merged_holes_do_not_make_a_reading_wait_for_our_own_rows(place):
    holder = Transaction(place)     # it may fill any hole: none is forgotten, and there are more than are kept apart
    own = holder.insert()
    events = [row[0] for row in place.execute(
        "INSERT INTO public.outbox_events (seq, aggregate_type, aggregate_id, event_type, payload) OVERRIDING SYSTEM VALUE "
        "SELECT 1000 + 2 * i, 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, 60000) i RETURNING id::text")]
    relay = publishing(place)
    place.wait_published()
    holder.end()
    place.wait_published()
    assert sorted(wait_ids(place, [own])) == sorted(events + [own])
    assert relay.metric("outbox_holes") < 8192
    assert relay.events("publish.read_refused") == []


@pytest.mark.parametrize("guarantee, within", (("exactly_once", 0), ("exactly_once", 3), ("at_least_once", 3)))
def test_a_poison_row_that_stops_the_outbox_lets_all_before_it_out(place, guarantee, within):
    before = backlog(place, 5 * BATCH + within)
    place.insert_event(" not a type ")
    backlog(place, BATCH)
    relay = publishing(place, publish={"on_poison": "stop", "guarantee": guarantee}, **SMALL)
    wait_ids(place, before)
    wait_until(lambda: place.outbox_rows() == 1 + BATCH, "they have left the outbox")
    relay.wait(lambda: "on_poison = stop" in str(relay.health()), "it says why")
    assert_ids(place, before)


def test_a_receipt_that_the_broker_finds_too_large_makes_transactions_smaller(place):
    place.servers.create_topics([f"{place.prefix}-receipts"], 1, {"cleanup.policy": "compact", "max.message.bytes": "3000"})
    events = backlog(place, 4000)
    relay = publishing(place, outbox={"batch_rows": 1000})
    place.wait_published()
    assert_ids(place, events)
    assert "max.message.bytes of topic" in relay.events("publish.term_failed")[0]["error"]
    assert transactions(place) > 4000 / 300, "each with a receipt of 3,000 bytes at most"


@pytest.mark.parametrize("point", ("publish.between_batches", "publish.between_batches:4"))
def test_a_crash_between_two_batches_of_a_transaction_leaves_nothing_of_it(place, point):
    relay = publishing(place, start=False, **SMALL)
    use_test_points(relay)
    events = backlog(place, 20 * BATCH, aggregate=AGGREGATE)
    crash_at(relay, point)
    relay.start()
    place.wait_published()
    assert_order(place, events)
    assert relay.metric("replays_total", stage="publish") == 0


def test_recovery_finishes_all_batches_of_a_transaction_in_doubt(place):
    relay = publishing(place, start=False, **SMALL)
    use_test_points(relay)
    events, rows = [], 0
    for _ in range(10):     # on a slow machine no batch may join the first one in time
        events += backlog(place, 20 * BATCH)
        crash_at(relay, "publish.after_kafka_commit")
        relay.start()
        place.wait_published()
        assert_ids(place, events)
        # The whole backlog may have been in that transaction: then recovery's own COMMIT emptied the outbox.
        finished = relay.wait(lambda: relay.events("publish.batch_finished"), "it is told")
        assert [one["rows"] == one["taken_out"] for one in finished] == [True]
        rows = finished[0]["rows"]
        if rows > BATCH:
            break
        assert relay.stop() == 0
    assert rows > BATCH


def test_a_stop_in_the_middle_ends_the_transaction(place):
    events = backlog(place, 40000)
    # 400 readings of 20 ms at least: so that the middle is not over before it is seen.
    place.execute("CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END $$; "
                  "CREATE TRIGGER slowly BEFORE DELETE ON public.outbox_events FOR EACH STATEMENT EXECUTE FUNCTION public.slowly()")
    relay = publishing(place, outbox={"batch_rows": 100})
    wait_until(lambda: place.outbox_rows() < len(events), "some are out", every=0.01)
    relay.signal(signal.SIGTERM)
    assert relay.stop() == 0
    place.execute("DROP TRIGGER slowly ON public.outbox_events")
    left = place.outbox_rows()
    seen = ids(place)
    assert 0 < left < len(events) and len(seen) == len(events) - left, "what is out has left the table, and nothing else"
    relay.start()
    place.wait_published()
    assert_ids(place, events)
    assert relay.metric("replays_total", stage="publish") == 0
