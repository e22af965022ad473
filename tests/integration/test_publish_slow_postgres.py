# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL that is slow, not down: batches become smaller, Kafka is not blamed, and nothing is read again and again."""
import pytest

from publishing import Transaction, as_admin, assert_ids, backlog, ids, publishing, wait_ids
from relaytools.relay import wait_until

# What the sleeps below exceed, and a busy machine should not.
KAFKA_LIMIT = 10000
KAFKA = {"transaction.timeout.ms": KAFKA_LIMIT, "message.timeout.ms": KAFKA_LIMIT, "socket.timeout.ms": KAFKA_LIMIT // 2}
ROWS = 100


def sleep_for_each_row(place, trigger):
    """A batch of ROWS takes a second longer than Kafka's limit."""
    seconds = (KAFKA_LIMIT / 1000 + 1) / ROWS
    place.execute("CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS "
                  f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN OLD; END $$; "
                  f"CREATE {trigger} FOR EACH ROW EXECUTE FUNCTION public.slowly()")


def too_late(relay):
    """Terms that ended because a batch ran out of Kafka's time. (On a busy machine one may end for another reason.)"""
    texts = [one["error"] for one in relay.events("publish.term_failed")]
    return [text for text in texts if "until the deadline" in text or "transaction.timeout.ms" in text]


@pytest.mark.parametrize("guarantee", ("exactly_once", "at_least_once"))
def test_a_reading_that_takes_longer_than_kafkas_limit_is_published(place, guarantee):
    events = backlog(place, 2 * ROWS)
    sleep_for_each_row(place, "TRIGGER slowly BEFORE DELETE ON public.outbox_events")
    relay = publishing(place, publish={"guarantee": guarantee}, outbox={"batch_rows": ROWS}, kafka=KAFKA)
    place.wait_published(180)
    assert_ids(place, events)
    assert too_late(relay) == []
    slow = relay.events("publish.read_slow")
    assert [one["rows"] for one in slow] == [ROWS], "told once, though batches were halved more often"
    assert relay.metric("publish_batch_seconds_count") > 3, "smaller ones"


def test_a_transaction_whose_statements_outlast_kafkas_limit_is_made_smaller(place):
    """The deferred triggers run when the number is written, with the records in Kafka."""
    events = backlog(place, ROWS)
    sleep_for_each_row(place, "CONSTRAINT TRIGGER slowly AFTER DELETE ON public.outbox_events DEFERRABLE INITIALLY DEFERRED")
    relay = publishing(place, outbox={"batch_rows": ROWS}, kafka=KAFKA)
    place.wait_published(180)
    assert_ids(place, events)
    failed = too_late(relay)
    assert failed and all("the rest PostgreSQL" in text for text in failed), failed


def test_slow_look_ups_of_holes_make_no_batch_smaller(place):
    """Their time is that of what lies in the holes, as dead rows that a writer's snapshot keeps: of smaller batches there are more look-ups."""
    place.execute("CREATE FUNCTION public.slowly() RETURNS trigger LANGUAGE plpgsql AS "
                  f"$$ BEGIN IF current_query() LIKE '%%unnest%%' THEN PERFORM pg_sleep({KAFKA_LIMIT / 1000 + 1}); END IF; RETURN NULL; END $$; "
                  "CREATE TRIGGER slowly BEFORE DELETE ON public.outbox_events FOR EACH STATEMENT EXECUTE FUNCTION public.slowly()")
    first = backlog(place, ROWS // 2)
    writer = Transaction(place)
    writer.insert()
    events = first + backlog(place, 2 * ROWS)
    relay = publishing(place, outbox={"batch_rows": ROWS}, kafka=KAFKA)
    try:
        assert sorted(wait_ids(place, events, 120)) == sorted(events)
        assert too_late(relay) == []
        assert relay.metric("publish_batch_seconds_count") < 10
    finally:
        writer.end(commit=False)


def hanging_commit(place):
    """Whether a COMMIT has hung for longer than Kafka's limit."""
    return place.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'outbox-relay-%%' "
                         "AND query = 'COMMIT' AND clock_timestamp() - query_start > make_interval(secs => %s)", KAFKA_LIMIT / 1000 + 1)[0][0] > 0


def insert_alone(place, count):
    """One after another, so that some come just after the first one's batch was read. The writer's own COMMITs wait for no standby."""
    as_admin(place, "SET synchronous_commit = local", f"DO $$ BEGIN FOR i IN 1..{count} LOOP "
        "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
        "VALUES ('post', gen_random_uuid(), 'post.created', '{}'); COMMIT; PERFORM pg_sleep(0.003); END LOOP; END $$")


@pytest.mark.own_servers
def test_behind_slow_commits_no_batch_waits_in_kafka(fragile_place):
    place = fragile_place
    relay = publishing(place, kafka=KAFKA)
    place.insert_event()
    place.wait_published()
    counts = (1, 300)   # of the first one the relay learns that COMMIT is slow
    for count in counts:
        as_admin(place, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
        try:
            wait_until(lambda: place.execute("SHOW synchronous_standby_names")[0][0] == "nobody", "the setting is in force")
            insert_alone(place, count)
            wait_until(lambda: hanging_commit(place), "a COMMIT hangs for longer than Kafka's limit")
        finally:
            as_admin(place, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        place.wait_published()
    seen = wait_until(lambda: len(ids(place)) >= 1 + sum(counts) and ids(place), "they are in Kafka")
    assert len(seen) == len(set(seen)) == 1 + sum(counts)
    assert too_late(relay) == []
