# SPDX-License-Identifier: Apache-2.0
"""The health watch on a real PostgreSQL: figures, judgements, who watches, what happens when it cannot."""
import os
import signal

import pytest
from psycopg2.extensions import make_dsn, parse_dsn
from relaytools.proxy import Proxy, Rule
from relaytools.receiver import Receiver
from relaytools.relay import wait_until, write_config
from relaytools.sessions import another_owner, autocommitting, execute_each, stranger, take_outbox_locks
from relaytools.watch_place import EVENT, WatchPlace, outbox, recent, wait_figure


NOWHERE = {"insert": {"enabled": "true"}, "clickhouse": {"url": "http://127.0.0.1:1"}}  # Kafka is nowhere in every watch_place


@pytest.mark.tsan
def test_a_backlog_is_seen_judged_and_over(watch_place):
    relay = watch_place.relay()
    wait_figure(relay, "health", "OK")
    wait_until(lambda: outbox(relay)["status"] == "ok", "the status that follows from it")
    watch_place.write_events(3)
    wait_until(lambda: recent(relay, "outbox_backlog") == [("default", "WARNING")], "the warning")
    state = outbox(relay)
    assert state["status"] == "degraded" and "3 unpublished" in state["reason"]
    assert state["figures"]["unpublished_rows"] == 3
    assert relay.metric("outbox_health", outbox="default") == 1
    assert relay.metric("outbox_unpublished_rows", outbox="default") == 3
    watch_place.write_events(4)
    wait_until(lambda: recent(relay, "outbox_backlog")[-1] == ("default", "CRITICAL"), "the critical level")
    assert relay.metric("outbox_health", outbox="default") == 2
    watch_place.delete_events()
    wait_until(lambda: recent(relay, "outbox_backlog")[-1] == ("default", "OK"), "the end")
    wait_until(lambda: outbox(relay)["status"] == "ok", "the board shows the end")
    events = [(event["level"], event.get("instance")) for event in relay.events("alert.firing") if event["name"] == "outbox_backlog"]
    assert len(events) == 2


def test_one_event_is_told_by_its_age(watch_place):
    relay = watch_place.relay(health={"warning_age": "30s", "critical_age": "1h"})
    wait_figure(relay, "health", "OK")
    for age, level, limit in (("10 minutes", "WARNING", 30), ("2 hours", "CRITICAL", 3600)):
        watch_place.delete_events()
        execute_each(watch_place.dsn, "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, created_at) "
                     f"VALUES ('post', gen_random_uuid(), 'post.created', '{{}}', now() - interval '{age}')")
        wait_until(lambda level=level: recent(relay, "outbox_backlog")[-1:] == [("default", level)], f"the level of {age}")
        assert outbox(relay)["figures"]["message"].endswith(f" s old, more than {limit} s")
    fired = [(one["level"], one["message"]) for one in relay.events("alert.firing") if one["name"] == "outbox_backlog"]
    assert ["more than 30 s" in text for _, text in fired] == [True, False], fired


def test_one_of_two_watches_and_the_other_takes_over(watch_place):
    relays = [watch_place.relay("one"), watch_place.relay("two")]

    def watched_by(relay):
        return outbox(relay).get("figures", {}).get("watched_by", "")

    def watchers():
        return [relay for relay in relays if watched_by(relay) == "this process"]
    wait_until(lambda: sorted(watched_by(relay) for relay in relays) == ["another replica", "this process"], "one watches")
    first = watchers()[0]
    other = next(relay for relay in relays if relay is not first)
    assert "unpublished_rows" not in outbox(other)["figures"]
    relays.remove(first)
    first.kill()
    wait_until(lambda: watchers() == [other], "the other one watches")


def test_a_postgresql_far_away_is_watched_by_default(watch_place):
    """Seven round trips of 0.2 s and more are between the watch and its session."""
    target = parse_dsn(watch_place.dsn)
    proxy = Proxy((target["host"], int(target["port"])))
    try:
        proxy.add(Rule(delay=0.1))
        relay = watch_place.relay(postgres={"dsn": make_dsn(watch_place.dsn, host="127.0.0.1", port=proxy.port), "connect_timeout": "30s"})
        wait_figure(relay, "watched_by", "this process", 120)
        wait_figure(relay, "health", "OK", 120)
    finally:
        proxy.close()


def test_a_sequence_that_cannot_be_asked_is_told(watch_place):
    """After ALTER TABLE ... OWNER TO and a GRANT on the table: health could not see numbers that went back."""
    relay = watch_place.relay()
    wait_until(lambda: outbox(relay).get("status") == "ok", "all is well")
    admin_dsn = make_dsn(watch_place.servers.admin_dsn, dbname=watch_place.name)

    def alerts():
        return [level for instance, level in recent(relay, "pipeline_degraded") if instance == "outbox default"]
    with another_owner(admin_dsn, watch_place.servers.env["POSTGRES_USER"], f"{watch_place.name}_owner") as grant:
        wait_until(lambda: grant in outbox(relay)["reason"], "what to grant is told")
        assert outbox(relay)["status"] == "degraded" and outbox(relay)["figures"]["health"] == "OK"
        wait_until(lambda: alerts()[-1:] == ["WARNING"], "an alert", 120)
        execute_each(admin_dsn, grant)
        wait_until(lambda: outbox(relay)["status"] == "ok", "all is well again")
        wait_until(lambda: alerts()[-1] == "OK", "its end", 120)


def test_what_numbers_that_went_back_need_is_told_whole(watch_place):
    """It stands behind all else that health has to say, and a statement that is cut sets the sequence to another number."""
    watch_place.write_events(7)
    execute_each(watch_place.dsn,
                 "UPDATE public.outbox_events SET created_at = now() - interval '10 years'",
                 "INSERT INTO outbox_relay.parked_topics (identity, topic, lowest_seq, reason_code, reason_text) "
                 "SELECT identity, 'no.topic', 1, 'missing', 'missing' FROM outbox_relay.outboxes",
                 "SELECT outbox_relay.note_progress(identity, 4129976500000000000) FROM outbox_relay.outboxes")
    relay = watch_place.relay()
    ending = ": SELECT setval('public.outbox_events_seq_seq', 4129976500000001000)"
    wait_until(lambda: outbox(relay).get("reason", "").endswith(ending), "/health says so")
    assert outbox(relay)["figures"]["message"].endswith(ending)
    fired = relay.wait(lambda: [one for one in relay.events("alert.firing") if one["name"] == "outbox_backlog"], "the alert")
    assert fired[0]["message"].endswith(ending), fired[0]
    told, = [one for one in relay.health()["alerts"] if one["name"] == "outbox_backlog"]
    assert told["summary"].endswith(ending)


def test_outboxes_that_no_relay_owns_are_told(watch_place):
    tables = ["t42.outbox_events", "t43.outbox_events"]
    for table in tables:
        execute_each(watch_place.dsn, f"CREATE SCHEMA {table.partition('.')[0]}", f"SELECT outbox_relay.create_outbox('{table}')")
    relays = [watch_place.relay("one"), watch_place.relay("two")]
    for relay in relays:
        wait_until(lambda relay=relay: outbox(relay).get("status") == "ok", "all is well: they are empty")

    def told(relay):
        return outbox(relay, "unowned outboxes").get("reason", "")

    def alerts(event):
        return [one["level"] for relay in relays for one in relay.events(event) if one.get("instance") == "unowned outboxes"]
    with autocommitting(watch_place.dsn) as cursor:
        for count, table in zip((2, 1), tables):
            cursor.execute(EVENT.replace("public.outbox_events", table), (count,))
        for relay in relays:
            wait_until(lambda relay=relay: "outbox t42.outbox_events: 2 events wait there" in told(relay) and told(relay).endswith("; and of 1 more outboxes"),
                       "both are told")
            assert relay.metric("unowned_outboxes") == 2
        wait_until(lambda: alerts("alert.firing"), "an alert")
        # One that cannot be judged, as it was renamed half, hides none of the others.
        execute_each(watch_place.dsn, f"ALTER TABLE {tables[0]} RENAME seq TO number")
        for relay in relays:
            wait_until(lambda relay=relay: told(relay).startswith("outbox t42.outbox_events: ") and "cannot be told" in told(relay), "that it cannot be judged")
            assert relay.metric("unowned_outboxes") == 2
        execute_each(watch_place.dsn, f"ALTER TABLE {tables[0]} RENAME number TO seq")
        # The watcher of another deployment, whose relay publishes nothing for a while, tells why.
        with autocommitting(watch_place.dsn) as watcher:
            take_outbox_locks(watcher, 3, table=tables[0])
            for relay in relays:
                wait_until(lambda relay=relay: relay.metric("unowned_outboxes") == 1, "one is watched")
        for relay in relays:
            wait_until(lambda relay=relay: relay.metric("unowned_outboxes") == 2, "it is no longer watched")
        take_outbox_locks(cursor, 1, table=tables[0])  # as the owner of another deployment does
        for relay in relays:
            wait_until(lambda relay=relay: told(relay).startswith("outbox t43.outbox_events: 1 events") and relay.metric("unowned_outboxes") == 1, "one has an owner")
        execute_each(watch_place.dsn, f"DELETE FROM {tables[1]}")
        for relay in relays:
            wait_until(lambda relay=relay: not told(relay) and relay.metric("unowned_outboxes") == 0, "nothing is left")
    wait_until(lambda: alerts("alert.resolved"), "the alert's end")
    assert len(alerts("alert.firing")) == 1, "one replica speaks for all"


def assert_the_stranger_is_told(place, relay, pid):
    def publish():
        return relay.health()["checks"]["publish"].get("instances", {}).get("default", {})
    wait_until(lambda: publish().get("status") == "down" and f"session {pid} of role" in publish()["reason"], "publish tells who holds the lock")
    wait_until(lambda: relay.get("/ready")[0] == 503, "it is not ready")
    place.write_events(6)
    wait_until(lambda: recent(relay, "outbox_backlog")[-1:] == [("default", "CRITICAL")], "the backlog is told")
    wait_until(lambda: ("outbox default", "WARNING") in recent(relay, "pipeline_degraded"), "the watch lock is told")
    # Waited for: the alert may stand from an earlier look, and a look between deletion and writing sees nothing.
    wait_until(lambda: outbox(relay).get("figures", {}).get("unpublished_rows") == 6, "the rows are counted")
    assert any(event["reason"].startswith(f"session {pid}") for event in relay.events("publish.lock_taken"))


def test_a_login_without_rights_that_holds_the_locks_silences_no_replica(watch_place):
    oid = execute_each(watch_place.dsn, "SELECT 'public.outbox_events'::regclass::oid::int8")[0][0]
    with stranger(watch_place.servers.admin_dsn, watch_place.dsn, watch_place.name,
                  application_name=f"outbox-relay-publish-{oid}-aaaaaaaaaaaa") as cursor:
        pid = take_outbox_locks(cursor, 1, 3)
        relays = [watch_place.relay(name, run={"lease": "2s"}, **NOWHERE) for name in ("one", "two")]
        for relay in relays:
            assert_the_stranger_is_told(watch_place, relay, pid)
            wait_until(lambda relay=relay: recent(relay, "clickhouse_down")[-1:] == [("", "CRITICAL")], "ClickHouse is told by each")
            watch_place.delete_events()
    wait_until(lambda: sorted(outbox(relay).get("figures", {}).get("watched_by", "") for relay in relays)
               == ["another replica", "this process"], "one watches again")
    for relay in relays:
        wait_until(lambda relay=relay: recent(relay, "pipeline_degraded")[-1:] and ("outbox default", "OK") in recent(relay, "pipeline_degraded"),
                   "the end is told")


def test_a_forgotten_session_of_the_relays_own_login_is_told(watch_place):
    with autocommitting(watch_place.dsn, application_name="psql") as cursor:
        pid = take_outbox_locks(cursor, 2, 3)
        relay = watch_place.relay(run={"lease": "2s"})
        assert_the_stranger_is_told(watch_place, relay, pid)
        wait_until(lambda: [level for part, level in recent(relay, "pipeline_degraded") if part.startswith("publish default")][-1:] == ["CRITICAL"],
                   "the outbox that nobody publishes is told")


def test_a_table_that_is_not_migrated_is_said(watch_servers):
    place = WatchPlace(watch_servers, "wnotmigrated", migrate=False)
    try:
        relay = place.relay()
        wait_until(lambda: "outbox-relay migrate postgres" in outbox(relay).get("reason", ""), "the reason")
        wait_until(lambda: outbox(relay)["status"] == "degraded", "the status")
        wait_until(lambda: ("outbox default", "WARNING") in recent(relay, "pipeline_degraded"), "the alert")
    finally:
        place.close()


def test_one_answer_that_is_late_is_no_alert_and_two_are(watch_place):
    # The function's first answer, and its third and fourth, are those of a statement that took too long.
    execute_each(watch_place.dsn, "CREATE SEQUENCE public.asked", """DO $do$
        DECLARE given oid := 'outbox_relay.check_outbox_health'::regproc; head text := format('(%s) RETURNS %s',
            pg_get_function_arguments(given), pg_get_function_result(given));
        BEGIN
            ALTER FUNCTION outbox_relay.check_outbox_health RENAME TO in_time;
            EXECUTE 'CREATE FUNCTION outbox_relay.check_outbox_health' || head || $f$ LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('public.asked') IN (1, 3, 4) THEN
                    RAISE SQLSTATE '57014';
                END IF;
                RETURN QUERY SELECT * FROM outbox_relay.in_time($1, $2, $3, $4, $5);
            END $$ $f$;
        END $do$""")
    relay = watch_place.relay()
    with autocommitting(watch_place.dsn) as cursor:
        def asked():
            cursor.execute("SELECT last_value FROM public.asked")
            return cursor.fetchone()[0]
        wait_until(lambda: asked() >= 6, "the figures are asked for again and again")
    wait_figure(relay, "health", "OK")
    told = [one for one in recent(relay, "pipeline_degraded") if one[0] == "outbox default"]
    assert told == [("outbox default", "WARNING"), ("outbox default", "OK")]


def test_an_outbox_that_cannot_be_watched_silences_nobody(watch_servers):
    place = WatchPlace(watch_servers, "wsilent", migrate=False)
    try:
        relay = place.relay(**NOWHERE)
        wait_until(lambda: {"kafka_down", "clickhouse_down"} <= {event["name"] for event in relay.events("alert.firing")}, "both are told")
    finally:
        place.close()


@pytest.mark.own_servers
def test_kafka_and_clickhouse_are_told_of_while_postgresql_is_down(watch_place, watch_servers):
    hooks = [Receiver(), Receiver()]
    try:
        relays = [watch_place.relay(f"relay{number}", alert={"webhook_url": hook.url}, health={"interval": "10m"}, **NOWHERE)
                  for number, hook in enumerate(hooks)]
        wait_until(lambda: sorted(outbox(relay).get("figures", {}).get("watched_by", "") for relay in relays)
                   == ["another replica", "this process"], "one watches")
        speaker, other = sorted(range(2), key=lambda number: outbox(relays[number])["figures"]["watched_by"], reverse=True)
        wait_until(lambda: hooks[speaker].alerts("kafka_down") and hooks[speaker].alerts("clickhouse_down"), "the one that watches tells")
        wait_until(lambda: recent(relays[other], "kafka_down") and recent(relays[other], "clickhouse_down"), "the other one knows")
        assert not hooks[other].alerts("kafka_down") and not hooks[other].alerts("clickhouse_down")
        watch_servers.kill("postgres")
        relays[speaker].kill()  # nobody else is left, and the next judgement is minutes away
        wait_until(lambda: hooks[other].alerts("kafka_down") and hooks[other].alerts("clickhouse_down"), "the other one tells")
    finally:
        watch_servers.start("postgres")
        for hook in hooks:
            hook.close()


@pytest.mark.tsan
def test_thresholds_change_by_a_reload(watch_place):
    relay = watch_place.relay()
    watch_place.write_events(3)
    wait_figure(relay, "health", "WARNING")
    write_config(relay.config, watch_place.sections(health={"warning_rows": "100", "critical_rows": "1000"}))
    relay.signal(signal.SIGHUP)
    wait_figure(relay, "health", "OK")


def test_a_shorter_interval_does_not_wait_for_the_longer_one(watch_place):
    def watcher():
        with autocommitting(watch_place.dsn) as cursor:
            cursor.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 3 AND objsubid = 2 "
                           "AND classid = 'public.outbox_events'::regclass::oid")
            return cursor.fetchall()
    relay = watch_place.relay(health={"interval": "1h"})
    before = wait_until(watcher, "the watch lock")
    write_config(relay.config, watch_place.sections(health={"interval": "2s"}))
    relay.signal(signal.SIGHUP)
    wait_until(lambda: watcher() not in ([], before), "another session holds the watch lock")
    watch_place.write_events(3)
    wait_figure(relay, "health", "WARNING")


@pytest.mark.own_servers
def test_a_server_that_hangs_is_told_by_every_replica_and_fools_nobody(watch_place, watch_servers):
    relays = [watch_place.relay(name, postgres={"statement_timeout": "5s"}) for name in ("one", "two")]
    wait_until(lambda: any(outbox(relay).get("figures", {}).get("watched_by") == "this process" for relay in relays), "a watcher")
    watch_servers.pause("postgres")
    try:
        for relay in relays:
            wait_until(lambda: recent(relay, "postgres_down")[-1:] == [("", "CRITICAL")], "postgres_down", seconds=90)
            assert relay.get("/live")[0] == 200
    finally:
        watch_servers.resume("postgres")
    for relay in relays:
        wait_until(lambda: recent(relay, "postgres_down")[-1] == ("", "OK"), "the end of postgres_down", seconds=90)


WATCHED = ("outbox_health", "outbox_unpublished_rows", "outbox_oldest_age_seconds")


@pytest.mark.own_servers
def test_a_server_that_dies_comes_back(watch_place, watch_servers):
    relay = watch_place.relay()
    watch_place.write_events(3)
    wait_until(lambda: recent(relay, "outbox_backlog") == [("default", "WARNING")], "the warning")
    watch_servers.kill("postgres")
    try:
        wait_until(lambda: recent(relay, "postgres_down")[-1:] == [("", "CRITICAL")], "postgres_down", seconds=90)
        assert relay.get("/live")[0] == 200
        wait_until(lambda: outbox(relay)["status"] == "degraded" and "PostgreSQL" in outbox(relay)["figures"]["watched_by"], "nobody watches")
        assert "unpublished_rows" not in outbox(relay)["figures"]
        assert [relay.series(name) for name in WATCHED] == [[], [], []]
        assert recent(relay, "outbox_backlog") == [("default", "WARNING")]  # it is not over because it cannot be counted
    finally:
        watch_servers.start("postgres")
    wait_until(lambda: recent(relay, "postgres_down")[-1] == ("", "OK"), "the end of postgres_down", seconds=90)
    wait_until(lambda: relay.metric("breaker_state", dependency="postgres") == 0, "the breaker is closed again", seconds=90)
    wait_until(lambda: [relay.series(name) for name in WATCHED[:2]] == [[1], [3]], "the figures are back", seconds=90)
    watch_place.delete_events()
    wait_until(lambda: recent(relay, "outbox_backlog")[-1] == ("default", "OK"), "the end of the backlog", seconds=90)
    assert os.path.exists(f"/proc/{relay.process.pid}")


def test_brokers_that_cannot_be_reached_are_named_while_they_are_waited_for(watch_place):
    relay = watch_place.relay()

    def reason(check, instance):
        return relay.health()["checks"][check].get("instances", {}).get(instance, {}).get("reason", "")
    wait_until(lambda: "127.0.0.1:1" in reason("publish", "default") and "Connection refused" in reason("publish", "default"),
               "the publish stage names the broker and what is wrong")
    wait_until(lambda: "Connection refused" in reason("kafka", "publish"), "the board shows it for Kafka")
    assert relay.get("/ready")[0] == 503  # it owns the outbox, and cannot publish it
    relay.kill()


def test_the_insert_stage_names_the_broker_that_it_cannot_reach(watch_place):
    relay = watch_place.relay(publish={"enabled": "false"}, **NOWHERE)

    def reason():
        return relay.health()["checks"]["kafka"].get("instances", {}).get("insert", {}).get("reason", "")
    wait_until(lambda: all(words in reason() for words in ("brokers are down", "127.0.0.1:1", "Connection refused")),
               "the insert stage has lost all brokers, and names one and what is wrong")
