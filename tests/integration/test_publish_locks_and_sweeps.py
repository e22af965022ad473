# SPDX-License-Identifier: Apache-2.0
"""Publish stage: rows below the watermark, locked rows, triggers that keep rows, servers that hang in the middle of a batch."""
import os
import signal

import psycopg2
import pytest

from publishing import Transaction, as_admin, assert_ids, assert_kafka_is_right, assert_order, backlog, dead_letters, ids, least_privileged, publishing, wait_ids
from relaytools.proxy import Proxy, Rule
from relaytools.relay import wait_until

AGGREGATE = "44444444-4444-4444-4444-444444444444"


def open_transactions(place):
    """Of publishing sessions in which a row was deleted: they have a transaction id."""
    return place.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay-publish-%' "
        "AND datname = current_database() AND backend_xid IS NOT NULL")[0][0]


def test_a_row_whose_insert_fires_no_trigger_waits_for_fallback_poll_only(place):
    """As logical replication inserts, or somebody straight into a partition: nobody tells the sleeping relay."""
    relay = publishing(place, outbox={"fallback_poll": "1s"})
    wait_ids(place, [place.insert_event()])
    relay.wait(lambda: relay.metric("outbox_owned") == 1, "it owns the outbox")
    event_id = as_admin(place, "SET session_replication_role = replica",
        "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
        "VALUES ('post', gen_random_uuid(), 'post.created', '{}') RETURNING id::text")[0][0]
    wait_ids(place, [event_id])


def commit_unseen(place, relay, late, *, then):
    """Commits the late transaction and what `then` writes while the relay stands still: one reading meets both."""
    relay.signal(signal.SIGSTOP)
    try:
        late.end()
        return then()
    finally:
        relay.signal(signal.SIGCONT)


def with_a_parked_topic(place, **changes):
    """A relay that lists rows before it takes them, since some wait."""
    relay = publishing(place, **changes)
    place.insert_event("late.created")
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    return relay


def test_while_a_topic_is_parked_a_late_transaction_larger_than_a_batch_comes_before_what_follows_it(place):
    relay = with_a_parked_topic(place, outbox={"batch_rows": "50"})
    late = Transaction(place)
    rows = [late.insert(aggregate=AGGREGATE) for _ in range(300)]
    wait_ids(place, [place.insert_event() for _ in range(5)])
    rows.append(commit_unseen(place, relay, late, then=lambda: place.insert_event(aggregate=AGGREGATE)))
    assert_order(place, rows)


def test_behind_refused_records_of_a_late_transaction_its_others_come_before_what_follows_it(place):
    place.servers.create_topics([f"{place.prefix}.small.events"], 1, {"max.message.bytes": "2000"})
    relay = publishing(place, kafka={"batch.size": 1000000})    # given: no term ends to make sets smaller
    late = Transaction(place)
    rows, large = [late.insert("small.created", AGGREGATE)], []
    for _ in range(3):
        large.append(late.insert("small.created", AGGREGATE, '{"x": "%s"}' % os.urandom(3000).hex()))
        rows.append(late.insert("small.created", AGGREGATE))
    wait_ids(place, [place.insert_event()])
    rows.append(commit_unseen(place, relay, late, then=lambda: place.insert_event("small.created", aggregate=AGGREGATE)))
    assert_order(place, rows)
    assert set(dead_letters(place)) == set(large)
    assert len(relay.events("publish.term_started")) == 1


def test_a_row_that_commits_between_the_two_listings_comes_before_what_follows_it(place):
    """New rows are listed first, then the holes. The proxy lets through whichever comes first, and holds the other one."""
    target = psycopg2.extensions.parse_dsn(place.dsn)
    proxy = Proxy((target["host"], int(target["port"])))
    try:
        relay = with_a_parked_topic(place, postgres={"dsn": psycopg2.extensions.make_dsn(place.dsn, host="127.0.0.1", port=proxy.port)})
        late = Transaction(place)
        first = late.insert(aggregate=AGGREGATE)
        wait_ids(place, [place.insert_event()])
        relay.wait(lambda: relay.metric("outbox_holes") > 0, "its number is missed")
        rules = [proxy.add(Rule(hold_texts=(text,))) for text in (b"\0list_new\0", b"\0list_ranges\0")]
        place.insert_event()
        let_through = relay.wait(lambda: [rule for rule in rules if rule.hits], "a listing")[0]
        proxy.lift(let_through)
        relay.wait(lambda: all(rule.hits for rule in rules), "the other one")
        late.end()
        second = place.insert_event(aggregate=AGGREGATE)
        proxy.lift_all()
        assert_order(place, [first, second])
        assert len(relay.events("publish.term_started")) == 1 and not relay.events("publish.read_refused")
    finally:
        proxy.close()


def test_the_number_of_a_prepared_transaction_is_not_forgotten(place):
    """It has no session any more: in pg_locks its lock has no pid."""
    relay = publishing(place)
    late = Transaction(place)
    with late.connection.cursor() as cursor:
        cursor.execute("SET LOCAL outbox_relay.notify = 'off'")
        first = late.insert(aggregate=AGGREGATE)
        cursor.execute(f"PREPARE TRANSACTION '{place.name}'")
    late.end(commit=False)      # of which PostgreSQL says that no transaction is open
    for _ in range(3):          # each a look at who may still fill the hole
        wait_ids(place, [place.insert_event()])
    relay.wait(lambda: relay.metric("outbox_holes") > 0, "its number is missed")
    as_admin(place, f"COMMIT PREPARED '{place.name}'")
    assert_order(place, [first, place.insert_event(aggregate=AGGREGATE)])


def test_a_row_put_back_below_the_watermark_is_swept_up(place):
    relay = publishing(place)
    events = [place.insert_event() for _ in range(20)]
    wait_ids(place, events)
    place.wait_published()
    low = place.execute("SELECT last_value - 10 FROM public.outbox_events_seq_seq")[0][0]
    back = place.execute("INSERT INTO public.outbox_events (seq, aggregate_type, aggregate_id, event_type, payload) OVERRIDING SYSTEM VALUE "
                         "VALUES (%s, 'post', gen_random_uuid(), 'post.created', '{}') RETURNING id::text", low)[0][0]
    found = wait_ids(place, [back], 200)
    assert sorted(found) == sorted(events + [back])
    assert relay.events("publish.swept") and len(relay.events("publish.term_started")) == 1


def test_rows_below_the_watermark_are_found_in_their_order_among_many_that_wait(place):
    waiting = backlog(place, 250000, "late.created")
    relay = publishing(place, postgres={"statement_timeout": "1s"})
    event = place.insert_event()
    wait_ids(place, [event], 200)
    seq, = place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid RETURNING seq", waiting[30000])[0]
    back = place.execute("INSERT INTO public.outbox_events (seq, aggregate_type, aggregate_id, event_type, payload) OVERRIDING SYSTEM VALUE "
                         "VALUES (%s, 'post', gen_random_uuid(), 'post.created', '{}') RETURNING id::text", seq)[0][0]
    assert sorted(wait_ids(place, [back], 200)) == sorted([event, back])
    assert relay.events("publish.swept") and relay.metric("parked_topics") == 1
    fixed = [waiting[at] for at in (100, 29000, 31000, 200000)]    # before, in and behind the piece that the sweep has come to
    place.execute("UPDATE public.outbox_events SET event_type = 'post.fixed', aggregate_id = %s WHERE id = ANY (%s::uuid[])", AGGREGATE, fixed)
    wait_ids(place, fixed, 200)
    assert [r[0] for r in place.records() if r[0] in fixed] == fixed


def test_dead_rows_that_an_old_snapshot_keeps_stop_neither_a_term_nor_the_sweep(place):
    """Too many of them to be walked from the first one on within statement_timeout."""
    relay = publishing(place, postgres={"statement_timeout": "100ms"})
    events = [place.insert_event() for _ in range(3)]
    wait_ids(place, events)
    relay.stop()
    snapshot = Transaction(place)
    snapshot.begin("REPEATABLE READ")
    low, settled = as_admin(place, "SET session_replication_role = replica",    # what publishing so many rows would leave
        "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
        "SELECT 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, 500000)",
        "DELETE FROM public.outbox_events",
        "SELECT outbox_relay.note_progress(identity, (SELECT last_value FROM public.outbox_events_seq_seq)) FROM outbox_relay.outboxes "
        "WHERE outbox = 'public.outbox_events'::regclass",
        "SELECT settled_seq - 250000, settled_seq FROM outbox_relay.progress")[0]
    relay.start()
    event = place.insert_event()
    wait_ids(place, [event])
    assert relay.events("publish.dead_rows")[0]["settled_seq"] == settled
    back = place.execute("INSERT INTO public.outbox_events (seq, aggregate_type, aggregate_id, event_type, payload) OVERRIDING SYSTEM VALUE "
                         "VALUES (%s, 'post', gen_random_uuid(), 'post.created', '{}') RETURNING id::text", low)[0][0]
    assert sorted(wait_ids(place, [back], 400)) == sorted(events + [event, back])
    assert relay.events("publish.swept")
    snapshot.end(commit=False)


def test_rows_of_numbers_that_began_anew_are_not_left_to_the_sweep(place):
    """However long the dead rows take: by a role that may not ask the sequence for its number."""
    place.execute("CREATE TABLE public.own (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, owner text, kind text, body jsonb)")
    place.execute("SELECT outbox_relay.attach_outbox('public.own', 'n', 'n')")
    relay = publishing(place, start=False, postgres={"dsn": least_privileged(place)}, outbox={
        "table": "public.own", "column.seq": "n", "column.id": "name", "column.key": "owner", "column.type": "kind", "column.payload": "body",
        "column.aggregate_type": "none", "column.metadata": "none", "column.created_at": "none"})
    snapshot = Transaction(place)
    snapshot.begin("REPEATABLE READ")
    try:    # the sequence is behind them, and each of them is on another page than the one before it
        as_admin(place, "SET session_replication_role = replica",
            "INSERT INTO public.own (n) OVERRIDING SYSTEM VALUE SELECT i FROM generate_series(1, 1000000) i ORDER BY random()",
            "DELETE FROM public.own",
            "SELECT outbox_relay.note_progress(identity, 1000000) FROM outbox_relay.outboxes WHERE outbox = 'public.own'::regclass")
        relay.start()
        relay.wait(lambda: relay.metric("outbox_owned") == 1, "it owns the outbox", 120)
        names = [f"event {number}" for number in range(3)]
        place.execute("INSERT INTO public.own (name, kind, body) SELECT 'event ' || i, 'post.created', '{}' FROM generate_series(0, 2) i")
        assert sorted(wait_ids(place, names, 120)) == names
        assert not relay.events("publish.dead_rows") and not relay.events("publish.swept")
        assert relay.stop() == 0
    finally:
        relay.kill()
        snapshot.end(commit=False)
        as_admin(place, f"DROP ROLE {place.name}_login")


def test_rows_below_a_number_that_recovery_noted_ahead_keep_their_order(place):
    """After a restore: so many were written before the sequence was set that they are not walked in a moment."""
    count, noted = 250000, 1000000
    relay = publishing(place, start=False, postgres={"statement_timeout": "400ms"}, outbox={"batch_rows": 500})
    insert = ("INSERT INTO public.outbox_events (seq, aggregate_type, aggregate_id, event_type, payload) OVERRIDING SYSTEM VALUE "
              f"SELECT i, 'post', CASE i WHEN 1 THEN '{AGGREGATE}'::uuid ELSE gen_random_uuid() END, 'post.created', '{{}}' ")
    as_admin(place, "ALTER TABLE public.outbox_events SET (autovacuum_enabled = off)", "SET session_replication_role = replica",
        f"{insert} FROM generate_series(1, {count}) i ORDER BY random()",
        f"SELECT setval('public.outbox_events_seq_seq', {noted} + 1000)",
        f"SELECT outbox_relay.note_progress(identity, {noted}) FROM outbox_relay.outboxes WHERE outbox = 'public.outbox_events'::regclass")
    older = place.execute("SELECT id::text FROM public.outbox_events WHERE seq = 1")[0][0]
    newer = place.insert_event(aggregate=AGGREGATE)
    relay.start()
    found = wait_until(lambda: [event for event in ids(place) if event in (older, newer)], "the first of the two")
    assert found[0] == older and not relay.events("publish.dead_rows")
    relay.kill()


def test_a_locked_row_under_load_costs_time_and_nothing_else(place):
    relay = publishing(place)
    workload = place.workload(writers=2, rate=300).start()
    wait_until(lambda: len(ids(place)) > 100, "a flow")
    for _ in range(3):
        told = len(relay.events("publish.read_refused"))
        holder = Transaction(place)
        own = holder.insert()   # which nobody else sees: a number that may still commit
        with holder.connection.cursor() as cursor:
            def lock():
                cursor.execute("SELECT 1 FROM public.outbox_events WHERE id <> %s ORDER BY seq DESC LIMIT 50 FOR UPDATE SKIP LOCKED", (own,))
                return cursor.rowcount
            wait_until(lock, "rows that the relay has not taken yet", 60, every=0.001)
        wait_until(lambda: len(relay.events("publish.read_refused")) > told, "the lock met")
        holder.end(commit=False)
    workload.stop()
    place.wait_published()
    result = place.audit()
    assert_kafka_is_right(result)
    assert len(relay.events("publish.term_started")) == 1


def test_held_rows_are_released_one_by_one_when_the_broker_refuses_one_of_them(place):
    place.servers.create_topics([f"{place.prefix}.small.events"], 1, {"max.message.bytes": "2000"})
    relay = publishing(place, publish={"on_poison": "hold_aggregate"})
    poison = place.insert_event("po st.x", aggregate=AGGREGATE)
    relay.wait(lambda: relay.metric("held_aggregates") == 1, "the aggregate is held")
    before = [place.insert_event("small.created", aggregate=AGGREGATE) for _ in range(10)]
    large = place.insert_event("small.created", aggregate=AGGREGATE, payload='{"x": "%s"}' % os.urandom(3000).hex())
    behind = [place.insert_event("small.created", aggregate=AGGREGATE) for _ in range(10)]
    place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid", poison)
    wait_ids(place, before)
    wait_until(lambda: place.execute("SELECT reason_code FROM outbox_relay.held_aggregates") == [("too_large",)],
        "held by the large one", 60)
    assert ids(place) == before
    place.execute("DELETE FROM public.outbox_events WHERE id = %s::uuid", large)
    wait_ids(place, behind)
    place.wait_published()
    assert ids(place) == before + behind and dead_letters(place) == {}


@pytest.mark.own_servers
def test_a_commit_that_hangs_on_a_synchronous_standby_doubles_nothing(fragile_place):
    place = fragile_place
    relay = publishing(place, postgres={"statement_timeout": "5s"})
    first = place.insert_event()
    wait_ids(place, [first])
    place.wait_published()
    as_admin(place, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    second = as_admin(place, "SET synchronous_commit = local",     # the writer does not wait; the relay's commits do
        "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
        "VALUES ('post', gen_random_uuid(), 'post.created', '{}') RETURNING id::text")[0][0]
    try:    # the batch's COMMIT, or that of a progress note before it
        relay.wait(lambda: relay.events("publish.term_failed"), "the hanging COMMIT is given up", 90)
    finally:
        as_admin(place, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    third = place.insert_event()
    wait_ids(place, [third], 90)
    place.wait_published()
    assert_ids(place, [first, second, third])


@pytest.mark.own_servers
def test_no_transaction_stays_open_while_kafka_is_away(fragile_place):
    place = fragile_place
    relay = publishing(place, breaker={"failures": "2", "open": "5s"})
    first = place.insert_event()
    wait_ids(place, [first])
    place.servers.pause("kafka")
    events = [place.insert_event() for _ in range(20)]
    wait_until(lambda: open_transactions(place) > 0, "a batch is open", every=0.02)
    wait_until(lambda: open_transactions(place) == 0, "its transaction was rolled back", 120)
    assert place.outbox_rows() == 20
    place.servers.resume("kafka")
    wait_ids(place, events, 120)
    place.wait_published()
    assert_ids(place, [first] + events)
    relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "ok", "health ok", 60)


def test_a_look_at_the_table_that_is_refused_is_not_repeated_before_each_batch(place):
    """Somebody holds the table of the outboxes (VACUUM FULL, DDL in an open transaction): no batch needs it."""
    relay = publishing(place)

    def noted():    # the first one has a foreign key to look up
        wait_ids(place, [place.insert_event()])
        return place.execute("SELECT count(*) FROM outbox_relay.progress")[0][0] == 1
    wait_until(noted, "the progress is noted")
    holder = psycopg2.connect(place.admin_dsn)
    holder.cursor().execute("LOCK TABLE outbox_relay.outboxes IN ACCESS EXCLUSIVE MODE")

    def refused():
        return relay.events("publish.chore_refused")
    relay.wait(refused, "the first look is refused")
    published = 0
    while len(refused()) == 1:  # the next line counts those between, if there are any
        wait_ids(place, [place.insert_event()])
        published += 1
    holder.close()
    # One that waits for the lock's whole timeout is followed by nine times as long without any.
    assert refused()[1].get("repeated", 0) + 2 < published, "a look for each batch"
    assert len(relay.events("publish.term_started")) == 1


def test_a_probe_of_a_quiet_outbox_that_is_refused_ends_no_term(place):
    """A DBA cancels it; somebody's DDL holds the table for longer than a statement waits for it."""
    relay = publishing(place)
    first = place.insert_event()
    wait_ids(place, [first])
    place.wait_published()
    holder = psycopg2.connect(place.admin_dsn)

    def waits():
        return place.execute("SELECT l.pid, l.mode FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND "
            "l.relation = 'public.outbox_events'::regclass AND a.application_name LIKE 'outbox-relay-publish-%'")

    def probed():   # and not, as after a chore, read
        holder.rollback()
        holder.cursor().execute("LOCK TABLE public.outbox_events IN ACCESS EXCLUSIVE MODE")
        return wait_until(waits, "somebody meets the lock", 60)[0][1] == "AccessShareLock"
    wait_until(probed, "a probe meets the lock", 120)

    def cancelled():
        for pid, _ in waits():
            as_admin(place, f"SELECT pg_cancel_backend({pid})")
        told = relay.events("publish.read_refused") + relay.events("publish.term_failed")
        return any("SQLSTATE 57014" in event["error"] for event in told)
    wait_until(cancelled, "a statement is cancelled", 60)

    def publish():
        return relay.health()["checks"]["publish"]
    relay.wait(lambda: "SQLSTATE 55P03" in publish().get("reason", ""), "a later one has waited in vain", 60)
    assert relay.events("publish.term_failed") == []
    assert publish()["status"] == "degraded"
    holder.close()
    relay.wait(lambda: publish()["status"] == "ok", "health as before, without an event", 60)
    second = place.insert_event()
    wait_ids(place, [second])
    place.wait_published()
    assert_ids(place, [first, second])
    assert len(relay.events("publish.term_started")) == 1


@pytest.mark.parametrize("parked", [False, True], ids=["alone", "beside_a_parked_topic"])
def test_rows_that_a_trigger_keeps_are_told_and_not_asked_for_at_full_speed(place, parked):
    """Soft deletion: UPDATE ... SET deleted_at, and the row stays."""
    relay = publishing(place)
    if parked:
        place.insert_event("late.created")
        relay.wait(lambda: relay.metric("parked_topics") == 1, "a topic is parked")
    as_admin(place, "CREATE SEQUENCE public.kept",
        "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "$$BEGIN PERFORM nextval('public.kept'); RETURN NULL; END$$",
        "CREATE TRIGGER keep BEFORE DELETE ON public.outbox_events FOR EACH ROW EXECUTE FUNCTION public.keep()")
    event = place.insert_event()
    relay.wait(lambda: "cannot be taken out" in relay.health()["checks"]["publish"].get("reason", ""), "it says why")
    assert len(relay.events("publish.rows_kept")) == 1
    tried = [0]

    def slowly():
        tried.append(as_admin(place, "SELECT last_value FROM public.kept")[0][0])
        return tried[-1] - tried[-2] < 10
    wait_until(slowly, "it pauses between its readings", every=1)
    as_admin(place, "DROP TRIGGER keep ON public.outbox_events")
    assert wait_ids(place, [event]) == [event]
    relay.wait(lambda: "cannot be taken out" not in relay.health()["checks"]["publish"].get("reason", ""), "health as before")


def test_rows_of_a_released_topic_that_a_trigger_keeps_hold_up_no_others(place):
    relay = publishing(place, outbox={"batch_rows": 2})
    kept = [place.insert_event("late.created") for _ in range(4)]
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    as_admin(place, "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$",
        "CREATE TRIGGER keep BEFORE DELETE ON public.outbox_events FOR EACH ROW WHEN (OLD.event_type = 'late.created') "
        "EXECUTE FUNCTION public.keep()")
    place.servers.create_topics([f"{place.prefix}.late.events"], 1)
    relay.wait(lambda: relay.events("publish.rows_kept"), "it says why")
    others = [place.insert_event() for _ in range(3)]
    assert sorted(wait_ids(place, others)) == sorted(others)
    as_admin(place, "DROP TRIGGER keep ON public.outbox_events")
    assert sorted(wait_ids(place, others + kept)) == sorted(others + kept)
    relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "ok", "health ok")
