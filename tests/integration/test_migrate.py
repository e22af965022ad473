# SPDX-License-Identifier: Apache-2.0
"""migrate: both servers, up and down, resumed, concurrent, interrupted; the tables of the configuration."""
import glob
import os
import signal
import struct
import subprocess
import unittest.mock

from psycopg2.extensions import make_dsn
import pytest

from checking import findings, warns
from migrating import config_of, own_schemas, run, states
from pooling import left_in_sessions, needs_pgbouncer, pooler
from publishing import publishing, wait_ids
from relaytools.proxy import TO_CLIENT, Proxy, _Connection
from relaytools.relay import command, program, wait_until
from relaytools.servers import ROOT
from relaytools.sessions import autocommitting

FILES = sorted(name[:-7] for name in os.listdir(os.path.join(ROOT, "schemas/postgres")) if name.endswith(".up.sql"))


def started(place, *arguments, **changes):
    return subprocess.Popen([program(place.binary), "migrate",
                             *arguments, "--config", config_of(place, **changes)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def recorded(place):
    return [name for name, in place.execute("SELECT name FROM outbox_relay.schema_migrations ORDER BY name")]


@pytest.mark.postgres_versions
def test_postgres_up_down_and_up_again(place):
    assert recorded(place) == FILES
    status = run(place, "postgres", "status")
    assert status.returncode == 0 and states(status.stdout) == ["applied"] * len(FILES)
    assert "nothing to do" in run(place, "postgres").stdout

    one = run(place, "postgres", "down")
    assert one.returncode == 0, one.stderr
    assert recorded(place) == FILES[:-1]
    assert run(place, "postgres", "down", "--to", "5").returncode == 0
    assert recorded(place) == [name for name in FILES if int(name[:3]) <= 5]
    assert run(place, "postgres", "up", "--to", "7").returncode == 0
    assert recorded(place) == [name for name in FILES if int(name[:3]) <= 7]

    assert run(place, "postgres", "down", "--to", "0").returncode == 0
    assert place.execute("SELECT to_regnamespace('outbox_relay'), to_regclass('public.outbox_events')") == [(None, None)]
    assert states(run(place, "postgres", "status").stdout) == ["pending"] * len(FILES)
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        dry = run(place, "postgres", "up", "--dry-run").stdout
        assert 0 < dry.find("WARNING: tables of the relay are in publication everything: a subscriber") < dry.find("would run"), dry
        cursor.execute("DROP PUBLICATION everything")
    dry = run(place, "postgres", "up", "--dry-run")
    assert "publication" not in dry.stdout
    assert dry.returncode == 0 and dry.stdout.count("would run") == len(FILES) and "outside a transaction" in dry.stdout
    assert place.execute("SELECT to_regnamespace('outbox_relay')") == [(None,)]
    assert run(place, "postgres").returncode == 0
    assert recorded(place) == FILES


def test_a_file_that_fails_is_named_undone_and_taken_up_again(place):
    folder = own_schemas(place, **{"900_first__up": "CREATE TABLE public.first (n integer);\n",
                                   "901_bad__up": "CREATE TABLE public.half (n integer);\n\nSELECT 'a;b' FROM public.nowhere;\n"})
    failed = run(place, "postgres", "--schemas", folder)
    assert failed.returncode == 1
    assert "901_bad.up.sql, statement at line 3" in failed.stderr and 'relation "public.nowhere" does not exist' in failed.stderr
    assert recorded(place)[-1] == "900_first"
    assert place.execute("SELECT to_regclass('public.half')") == [(None,)]
    own_schemas(place, **{"901_bad__up": "CREATE TABLE public.half (n integer);\n"})
    assert run(place, "postgres", "--schemas", folder).returncode == 0
    assert recorded(place)[-1] == "901_bad"


def test_a_file_outside_a_transaction_is_split_properly(place):
    folder = own_schemas(place, **{"900_index__up": "-- relay:no-transaction\n/* ; */ CREATE TABLE public.many (n text DEFAULT ';');\n"
                                   "DO $$ BEGIN RAISE NOTICE 'half; way'; END $$;\n"
                                   "CREATE INDEX CONCURRENTLY many_n ON public.many (n);\nVACUUM public.many"})
    done = run(place, "postgres", "--schemas", folder)
    assert done.returncode == 0, done.stderr
    assert "NOTICE: half; way" in done.stdout
    assert place.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'public.many_n'::regclass") == [(True,)]


def test_a_changed_file_is_reported_and_not_run_again(place):
    folder = own_schemas(place)
    with open(os.path.join(folder, "postgres/002_wakeup.up.sql"), "a", encoding="utf-8") as file:
        file.write("-- changed\n")
    os.remove(os.path.join(folder, "postgres/009_health.up.sql"))
    os.remove(os.path.join(folder, "postgres/009_health.down.sql"))
    status = run(place, "postgres", "status", "--schemas", folder)
    assert status.returncode == 0
    assert "CHANGED  002_wakeup" in status.stdout and "NO FILE  009_health" in status.stdout
    again = run(place, "postgres", "--schemas", folder)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert "002_wakeup has changed since" in again.stderr and "009_health was applied" in again.stderr


def test_two_at_the_same_time_wait_for_each_other(place):
    assert run(place, "postgres", "down").returncode == 0
    other = place.connect()
    other.autocommit = True
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(122550254464888)")
    waiting = started(place, "postgres")
    try:
        lines = [waiting.stdout.readline(), waiting.stdout.readline()]
        assert "another migrate is running (process" in lines[1], lines
        # It waits outside of any statement: nothing of it is active while the index of somebody else is built.
        assert place.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == [(0,)]
        other.close()
        rest, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, rest
    finally:
        waiting.kill()
    assert recorded(place) == FILES


def test_a_locked_table_is_tried_again(place):
    folder = own_schemas(place, **{"900_column__up": "ALTER TABLE public.outbox_events ADD COLUMN extra integer;\n"})
    writer = place.connect()
    with writer.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM outbox_events")
    waiting = started(place, "postgres", "--schemas", folder)
    try:
        wait_until(lambda: place.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' "
                                         "AND relation = 'public.outbox_events'::regclass")[0][0], "the migration waits")
        # It gives the lock's queue up after a second, so that a writer behind it goes on.
        wait_until(lambda: not place.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0], "the queue is free again")
        writer.rollback()
        output, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, output
    finally:
        waiting.kill()
        writer.close()
    assert place.execute("SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.outbox_events'::regclass AND attname = 'extra'") == [(1,)]


def test_a_table_that_is_attached_does_not_make_its_writers_queue(place):
    place.execute("CREATE TABLE public.orders_outbox (seq bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY, id uuid, aggregate_id text, "
                  "aggregate_type text, event_type text, payload jsonb, created_at timestamptz)")
    writer = place.connect()
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO public.orders_outbox (event_type) VALUES ('a')")
    waiting = started(place, "postgres", outbox__orders={"table": "public.orders_outbox"})
    locks = ("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareRowExclusiveLock' "
             "AND relation = 'public.orders_outbox'::regclass")
    try:
        for _ in range(2):
            wait_until(lambda: place.execute(locks)[0][0], "it waits for the writer", every=0.02)
            wait_until(lambda: not place.execute(locks)[0][0], "the queue is free again", every=0.02)
        writer.commit()
        output, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 0 and "public.orders_outbox attached" in output, output
    finally:
        waiting.kill()
        writer.close()


def test_an_interrupted_migration_leaves_nothing_running(place):
    folder = own_schemas(place, **{"900_slow__up": "CREATE TABLE public.slow (n integer);\nSELECT pg_sleep(600);\n"})
    running = started(place, "postgres", "--schemas", folder)
    try:
        wait_until(lambda: place.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")[0][0], "the slow file runs")
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=60)
        assert running.returncode == 1, output
    finally:
        running.kill()
    wait_until(lambda: not place.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")[0][0], "the statement is gone")
    assert place.execute("SELECT to_regclass('public.slow')") == [(None,)]


def claiming(victim):
    """A proxy's delivery that says this backend's number to the client where the server says that of the session: as after a restart of the
    server, or a change to another host, where the number is somebody else's."""
    deliver = _Connection._deliver

    async def falsified(self, direction, data):
        if direction == TO_CLIENT:
            at = data.find(b"K\0\0\0\x0c")
            if at >= 0:
                self.own = b"%d" % struct.unpack(">i", data[at + 5:at + 9])
                data = data[:at + 5] + struct.pack(">i", victim) + data[at + 9:]
            elif hasattr(self, "own"):
                data = data.replace(self.own, (b"%d" % victim).rjust(len(self.own), b"0"))
        await deliver(self, direction, data)
    return falsified


def test_another_session_of_the_same_number_is_not_ended(place):
    folder = own_schemas(place, **{"900_slow__up": "SELECT pg_sleep(600);\n"})
    sleeping = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    victim = place.connect()
    victim.autocommit = True
    with victim.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid(), inet_server_port()")
        number, port = cursor.fetchone()
        proxy = Proxy(("127.0.0.1", port))
        with unittest.mock.patch.object(_Connection, "_deliver", claiming(number)):
            dsn = make_dsn(place.dsn, host="127.0.0.1", port=proxy.port, sslmode="disable", gssencmode="disable")
            running = started(place, "postgres", "--schemas", folder, postgres={"dsn": dsn})
            try:
                wait_until(lambda: place.execute(f"SELECT count(*) {sleeping}")[0][0], "the slow file runs")
                running.send_signal(signal.SIGINT)
                output, _ = running.communicate(timeout=60)
                assert running.returncode == 1, output
            finally:
                running.kill()
                left = place.execute(f"SELECT pg_terminate_backend(pid) {sleeping}")
                proxy.close()
        cursor.execute("SELECT 1")
        assert left == [(True,)], "what was known by another number is not found"


@pytest.mark.postgres_versions
def test_timeouts_of_the_role_do_not_end_a_migration(place):
    """idle_session_timeout while another migrate is waited for, transaction_timeout while a file runs."""
    folder = own_schemas(place, **{"900_slow__up": "SELECT pg_sleep(3);\n"})
    other = place.connect()
    other.autocommit = True
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(122550254464888)")
    names = [name for name, since in (("idle_session_timeout", 140000), ("transaction_timeout", 170000)) if other.server_version >= since]
    # As if the role had them, but for migrate alone: the sessions of the test have none.
    dsn = make_dsn(place.dsn, options=" ".join(f"-c {name}=2s" for name in names))
    waiting = started(place, "postgres", "--schemas", folder, postgres={"dsn": dsn})
    try:
        lines = [waiting.stdout.readline(), waiting.stdout.readline()]
        assert "another migrate is running (process" in lines[1], lines
        # By itself it asks for the lock every half a second.
        waiting.send_signal(signal.SIGSTOP)
        idle = ("SELECT coalesce(min(now() - state_change) > '2100ms', true) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name LIKE 'outbox-relay-migrate%'")   # or its session is gone, which is the mistake
        wait_until(lambda: place.execute(idle)[0][0], "it has been idle for longer")
        waiting.send_signal(signal.SIGCONT)
        other.close()
        rest, _ = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, rest
    finally:
        waiting.kill()


@pytest.mark.postgres_versions
def test_an_existing_table_is_adopted(place):
    assert run(place, "postgres", "down", "--to", "0").returncode == 0
    place.execute("CREATE TABLE public.outbox_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregate_type varchar(255) NOT NULL, "
                  "aggregate_id uuid NOT NULL, event_type varchar(255) NOT NULL, payload jsonb NOT NULL, metadata jsonb, "
                  "created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz, retry_count integer NOT NULL DEFAULT 0, last_error text)")
    place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                  "SELECT 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, 12000)")
    done = run(place, "postgres")
    assert done.returncode == 0, done.stdout + done.stderr
    assert place.execute("SELECT count(DISTINCT seq), min(seq) FROM public.outbox_events") == [(12000, 1)]
    assert place.execute("SELECT adopted FROM outbox_relay.outboxes") == [(True,)]


def test_a_table_that_autovacuum_works_on_is_adopted(place):
    """It gives way to a request for a lock only once that has waited for a second: longer than a writer should have to queue."""
    assert run(place, "postgres", "down", "--to", "0").returncode == 0
    place.execute("CREATE TABLE public.outbox_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregate_type text, aggregate_id uuid, event_type text, "
                  "payload jsonb, metadata jsonb, created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz) "
                  "WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0, autovacuum_analyze_threshold = 1000000000, "
                  "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)")
    place.execute("INSERT INTO public.outbox_events (event_type, payload) SELECT 'post.created', to_jsonb(repeat('x', 500)) FROM generate_series(1, 40000)")
    place.execute("UPDATE public.outbox_events SET published_at = now() WHERE id < '20000000-0000-0000-0000-000000000000'")
    with autocommitting(place.admin_dsn) as cursor:
        def is_vacuumed():
            cursor.execute("SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'public.outbox_events'::regclass")
            return cursor.fetchone()[0]
        cursor.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            for step in (("--to", "7"), ()):
                wait_until(is_vacuumed, "autovacuum works on the table", 120)
                done = run(place, "postgres", "up", *step)   # ends within less than its 600 tries, and than this vacuum
                assert done.returncode == 0, done.stdout + done.stderr
        finally:
            cursor.execute("ALTER SYSTEM RESET autovacuum_naptime")
            cursor.execute("SELECT pg_reload_conf()")
    assert recorded(place) == FILES
    assert place.execute("SELECT count(DISTINCT seq) FROM public.outbox_events") == [(40000,)]
    assert place.execute("SELECT prosrc LIKE '%%SHARE UPDATE EXCLUSIVE%%' FROM pg_proc WHERE proname = 'run_short_step'") == [(True,)], "the older form is back"


def test_a_table_whose_id_is_not_each_rows_own_is_not_touched(place):
    assert run(place, "postgres", "down", "--to", "0").returncode == 0
    for form in ("uuid", "uuid NOT NULL", "uuid UNIQUE"):
        place.execute("DROP TABLE IF EXISTS public.outbox_events")
        place.execute(f"CREATE TABLE public.outbox_events (id {form}, aggregate_type text, aggregate_id uuid, event_type text, payload jsonb, metadata jsonb, "
                      "created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz)")
        done = run(place, "postgres")
        assert done.returncode == 1 and "cannot adopt public.outbox_events: its column id is not unique and NOT NULL" in done.stderr, done.stderr
        assert place.execute("SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.outbox_events'::regclass AND attname = 'seq'") == [(0,)], form
    place.execute("ALTER TABLE public.outbox_events ADD PRIMARY KEY (id)")
    done = run(place, "postgres")
    assert done.returncode == 0, done.stderr


def by_psql(place, *names):
    """What an operator does who has no outbox-relay at hand."""
    files = [word for name in names for word in ("-f", os.path.join(ROOT, f"schemas/postgres/{name}.up.sql"))]
    subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", place.dsn, *files], check=True, capture_output=True, text=True,
                   timeout=120)


def refused(place, words, *options):
    result = run(place, "postgres", "up", "--baseline", *options)
    assert result.returncode == 1 and words in result.stderr, result.stdout + result.stderr
    assert place.execute("SELECT to_regclass('outbox_relay.schema_migrations')") == [(None,)], "something was recorded"
    assert place.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'baseline%%'") == [(0,)]
    return result


@pytest.fixture
def empty_place(place):
    assert run(place, "postgres", "down", "--to", "0").returncode == 0
    return place


@pytest.mark.postgres_versions
def test_a_schema_that_psql_put_in_place_is_taken_over(empty_place):
    place = empty_place
    refused(place, "nothing of these files is in the database")
    by_psql(place, *FILES)
    event = place.insert_event()
    dry = run(place, "postgres", "--baseline", "--dry-run")
    assert dry.returncode == 0 and dry.stdout.count("would record") == len(FILES), dry.stdout + dry.stderr
    assert place.execute("SELECT to_regclass('outbox_relay.schema_migrations')") == [(None,)]
    done = run(place, "postgres", "--baseline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert recorded(place) == FILES
    assert states(run(place, "postgres", "status").stdout) == ["applied"] * len(FILES)
    assert "nothing to do" in run(place, "postgres").stdout and "nothing to do" in run(place, "postgres", "--baseline").stdout
    assert place.execute("SELECT id::text FROM public.outbox_events") == [(event,)]
    assert run(place, "postgres", "down", "--to", "8").returncode == 0  # what was recorded can be taken back


@pytest.mark.postgres_versions
def test_a_schema_without_its_rows_is_taken_over_and_the_table_attached_by_the_next_up(place):
    """As pg_dump --schema-only brings it, for a move by logical replication."""
    place.execute("TRUNCATE outbox_relay.schema_migrations, outbox_relay.outboxes, outbox_relay.batch_numbers CASCADE")
    event = place.insert_event()
    for options in (), ("--dry-run",):
        told = run(place, "postgres", "up", *options)
        assert told.returncode == 1 and "run `outbox-relay migrate postgres up --baseline`" in told.stderr, told.stdout + told.stderr
        assert "001_relay_schema" not in told.stdout and recorded(place) == []
    assert warns(place, "outbox-relay migrate postgres up --baseline") == 1     # the table is not attached
    done = run(place, "postgres", "--baseline")
    assert done.returncode == 0 and "run `outbox-relay migrate postgres up` next" in done.stdout, done.stdout + done.stderr
    assert recorded(place) == FILES
    done = run(place, "postgres")
    assert done.returncode == 0 and "table public.outbox_events attached" in done.stdout, done.stdout + done.stderr
    assert findings(place, "FAIL") == (0, [])
    publishing(place)
    wait_ids(place, [event])


def test_part_of_the_schema_is_taken_over_and_the_rest_is_run(empty_place):
    place = empty_place
    by_psql(place, *FILES[:3])
    refused(place, "missing")
    assert run(place, "postgres", "--baseline", "--to", "3").returncode == 0
    assert recorded(place) == FILES[:3]
    assert run(place, "postgres").returncode == 0
    assert recorded(place) == FILES


def test_a_table_that_psql_adopted_is_taken_over_when_it_is_complete(empty_place):
    place = empty_place
    place.execute("CREATE TABLE public.outbox_events (id uuid PRIMARY KEY, aggregate_type text, aggregate_id uuid, event_type text, payload jsonb, "
                  "metadata jsonb, created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz)")
    by_psql(place, *FILES[:5])
    by_psql(place, *FILES[8:])
    refused(place, "is not registered")
    by_psql(place, *FILES[5:8])
    assert run(place, "postgres", "--baseline").returncode == 0
    assert recorded(place) == FILES


@pytest.mark.parametrize("change, words", [
    ("CREATE OR REPLACE FUNCTION outbox_relay.note_progress(outbox_identity uuid, settled bigint) RETURNS void LANGUAGE sql AS 'SELECT'",
     "differs: function outbox_relay.note_progress(uuid,bigint)"),
    ("DROP FUNCTION outbox_relay.accept_system(regclass)", "missing: function outbox_relay.accept_system(regclass)"),
    ("GRANT EXECUTE ON FUNCTION outbox_relay.accept_system(regclass) TO PUBLIC", "differs: function outbox_relay.accept_system(regclass)"),
    ("ALTER TABLE outbox_relay.outboxes ALTER COLUMN adopted DROP NOT NULL", "differs: table outbox_relay.outboxes"),
    ("ALTER TABLE outbox_relay.progress DROP CONSTRAINT progress_identity_fkey", "differs: table outbox_relay.progress"),
    ("DROP INDEX public.outbox_dead_letters_event_id_idx", "missing: index public.outbox_dead_letters_event_id_idx"),
    ("CREATE OR REPLACE VIEW public.outbox_status AS SELECT 1::bigint AS total_events, 2::bigint AS unpublished_events, 3::bigint AS failed_events, "
     "now() AS oldest_unpublished, now() AS newest_event, 4::bigint AS oldest_age_seconds", "differs: view public.outbox_status"),
    ("DROP TRIGGER outbox_relay_wakeup ON public.outbox_events", "no trigger that wakes the relay"),
    ("ALTER TABLE public.outbox_events ENABLE REPLICA TRIGGER outbox_relay_wakeup", "ENABLE TRIGGER outbox_relay_wakeup"),
    ("ALTER TABLE public.outbox_events DISABLE TRIGGER outbox_relay_wakeup", "ENABLE TRIGGER outbox_relay_wakeup"),
    ("DROP INDEX public.outbox_events_unpublished_seq_idx; CREATE UNIQUE INDEX ON public.outbox_events (seq) WHERE retry_count = 0",
     "no identity column with a valid unique index"),
])
def test_a_schema_that_differs_is_not_taken_over(empty_place, change, words):
    by_psql(empty_place, *FILES)
    empty_place.execute(change)
    refused(empty_place, words)


def test_tables_of_the_configuration_are_created_and_attached(place):
    place.execute("CREATE TABLE public.orders_outbox (number bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY, id uuid, aggregateid text, "
                  "aggregatetype text, type text, payload jsonb)")
    outboxes = {"outbox__billing": {"table": "public.billing_outbox"},
                "outbox__orders": {"table": "public.orders_outbox", "layout": "debezium", "column.seq": "number"}}
    assert "would create table public.billing_outbox" in run(place, "postgres", "--dry-run", **outboxes).stdout
    done = run(place, "postgres", **outboxes)
    assert done.returncode == 0, done.stderr
    assert "public.billing_outbox created" in done.stdout and "public.orders_outbox attached" in done.stdout
    known = place.execute("SELECT outbox::text, seq_column::text FROM outbox_relay.outboxes ORDER BY 1")
    assert known == [("billing_outbox", "seq"), ("orders_outbox", "number"), ("outbox_events", "seq")]
    place.execute("CREATE TABLE public.bare (id uuid PRIMARY KEY, created_at timestamptz, published_at timestamptz)")
    unfit = run(place, "postgres", **outboxes, outbox__bare={"table": "public.bare"}, outbox__gone={"table": "nowhere.gone"},
                outbox__theirs={"table": "public.theirs", "layout": "debezium"})
    assert unfit.returncode == 1
    assert "outbox bare:" in unfit.stderr and "adopt_outbox" in unfit.stderr
    assert 'schema "nowhere" does not exist' in unfit.stderr
    assert "outbox theirs: table public.theirs does not exist" in unfit.stderr and "create it" in unfit.stderr


@pytest.mark.parametrize("rename, name", [("RENAME TO events", "public.events"), ("SET SCHEMA finance", "finance.outbox_events")])
def test_a_default_table_that_was_renamed_is_not_made_anew(place, rename, name):
    place.execute("CREATE SCHEMA finance")
    place.execute(f"ALTER TABLE public.outbox_events {rename}")
    for arguments in ("up",), ("up", "--dry-run"):
        refused = run(place, "postgres", *arguments)
        assert refused.returncode == 1 and f"table public.outbox_events was renamed to {name}" in refused.stderr, refused.stdout + refused.stderr
    assert place.execute("SELECT to_regclass('public.outbox_events')") == [(None,)]
    renamed = run(place, "postgres", outbox={"table": name})
    assert renamed.returncode == 0, renamed.stderr


def test_a_default_table_of_another_form_is_attached_and_a_strangers_is_left_alone(place):
    """Neither is one to be adopted, which the files of that number would do."""
    assert run(place, "postgres", "down", "--to", "0").returncode == 0
    place.execute("CREATE TABLE public.outbox_events (number bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY, id uuid, aggregateid text, "
                  "aggregatetype text, type text, payload jsonb)")
    here = {"outbox": {"table": "public.outbox_events", "layout": "debezium", "column.seq": "number"}}
    done = run(place, "postgres", **here)
    assert done.returncode == 0 and done.stdout.count("not run: no [outbox] is") == 3, done.stdout + done.stderr
    assert place.execute("SELECT outbox::text, seq_column::text FROM outbox_relay.outboxes") == [("outbox_events", "number")]
    assert run(place, "postgres", "down", "--to", "0", **here).returncode == 0

    place.execute("DROP TABLE public.outbox_events")
    place.execute("CREATE TABLE public.outbox_events (id uuid PRIMARY KEY, created_at timestamptz, published_at timestamptz)")
    done = run(place, "postgres", outbox={"table": "public.billing_outbox"})
    assert done.returncode == 0 and "public.billing_outbox created" in done.stdout, done.stdout + done.stderr
    assert place.execute("SELECT outbox::text FROM outbox_relay.outboxes") == [("billing_outbox",)]
    assert place.execute("SELECT count(*) FROM pg_catalog.pg_attribute WHERE attrelid = 'public.outbox_events'::regclass AND attnum > 0") == [(3,)]


def test_a_default_table_that_the_application_made_whole_is_attached(place):
    """With a seq of its own there is nothing to adopt, so that no file registers it."""
    assert run(place, "postgres", "down", "--to", "0").returncode == 0
    place.execute("CREATE TABLE public.outbox_events (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregate_type text NOT NULL, "
                  "aggregate_id bigint NOT NULL, event_type text NOT NULL, payload jsonb NOT NULL, metadata jsonb, "
                  "created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz, "
                  "seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1))")
    place.execute("CREATE UNIQUE INDEX outbox_events_unpublished_seq_idx ON public.outbox_events (seq) WHERE published_at IS NULL")
    here = {"outbox": {"table": "public.outbox_events"}}
    dry = run(place, "postgres", "up", "--dry-run", **here)
    assert dry.returncode == 0 and "would attach" not in dry.stdout, dry.stderr
    done = run(place, "postgres", **here)
    assert done.returncode == 0 and "table public.outbox_events attached" in done.stdout, done.stdout + done.stderr
    assert place.execute("SELECT count(*) FROM outbox_relay.outboxes WHERE outbox = 'public.outbox_events'::regclass") == [(1,)]
    assert "outbox_events attached" not in run(place, "postgres", **here).stdout

    # Taken back is what the relay has made; this table it has not.
    place.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, published_at) VALUES ('a', 1, 't', '{}', now())")
    down = run(place, "postgres", "down", "--to", "0", **here)
    assert down.returncode == 0 and "has not made public.outbox_events" in down.stdout, down.stdout + down.stderr
    assert place.execute("SELECT count(*), pg_catalog.to_regnamespace('outbox_relay') FROM public.outbox_events") == [(1, None)]
    assert place.execute("SELECT 1 FROM pg_catalog.pg_trigger WHERE tgrelid = 'public.outbox_events'::regclass AND NOT tgisinternal") == []


@needs_pgbouncer
@pytest.mark.parametrize("settings", [{"default_pool_size": 1}, {"server_round_robin": 1, "min_pool_size": 4}], ids=["one", "many"])
def test_a_pooler_in_transaction_mode_is_refused_and_left_as_it_was(place, settings):
    """Its sessions are the application's, whose next transaction would find our settings, and our lock without an owner."""
    with pooler(place, "transaction", **settings) as dsn:
        for action in (("up",), ("status",), ("up", "--dry-run")):
            done = run(place, "postgres", *action, postgres={"dsn": dsn})
            assert done.returncode == 1 and "transaction mode" in done.stderr, done.stdout + done.stderr
            assert left_in_sessions(dsn) == []


@needs_pgbouncer
def test_a_pooler_in_session_mode_is_passed_through(place):
    assert run(place, "postgres", "down").returncode == 0
    with pooler(place, "session") as dsn:
        done = run(place, "postgres", postgres={"dsn": dsn})
        assert done.returncode == 0, done.stdout + done.stderr
    assert recorded(place) == FILES


def test_clickhouse_up_down_and_status(place):
    assert states(run(place, "clickhouse", "status").stdout) == ["applied", "applied", "applied"]
    assert run(place, "clickhouse", "down", "--to", "0").returncode == 0
    assert place.clickhouse("SHOW TABLES FROM {db}") == ""
    assert run(place, "clickhouse", "--dry-run").stdout.count("would run") == 3
    assert run(place, "clickhouse").returncode == 0
    assert "nothing to do" in run(place, "clickhouse").stdout
    place.clickhouse("INSERT INTO {db}.outbox_relay_dead_letters (target, kafka_topic) VALUES ('outbox_events', 't')")
    refused_down = run(place, "clickhouse", "down", "--to", "1")
    assert refused_down.returncode == 1 and "still holds messages" in refused_down.stderr, refused_down.stderr
    assert place.clickhouse("SELECT count() FROM {db}.outbox_relay_dead_letters").strip() == "1"
    place.clickhouse("TRUNCATE TABLE {db}.outbox_relay_dead_letters")
    assert run(place, "clickhouse", "down").returncode == 0
    assert states(run(place, "clickhouse", "status").stdout) == ["applied", "pending", "pending"]


def test_clickhouse_database_is_created_and_failures_are_named(place):
    name = place.name + "_new"
    section = {"clickhouse": {"database": name}}
    try:
        assert states(run(place, "clickhouse", "status", **section).stdout) == ["pending", "pending", "pending"]
        assert f"created database {name}" in run(place, "clickhouse", **section).stdout
        assert "outbox_events" in place.clickhouse(f"SHOW TABLES FROM {name}")
        folder = own_schemas(place)
        with open(os.path.join(folder, "clickhouse/900_bad.up.sql"), "w", encoding="utf-8") as file:
            file.write("-- a; comment\nSELECT 'it''s; fine';\nSELECT nonsense(1);\n")
        failed = run(place, "clickhouse", "--schemas", folder, **section)
        assert failed.returncode == 1 and "900_bad.up.sql, statement at line 3" in failed.stderr, failed.stderr
        both = {"url": place.servers.clickhouse_url + "," + place.servers.clickhouse_url.replace("127.0.0.1", "localhost"), "database": name + "2"}
        two = run(place, "clickhouse", clickhouse=both)
        assert two.returncode == 1 and "ReplicatedMergeTree" in two.stderr
        for path in glob.glob(os.path.join(folder, "clickhouse/*.up.sql")):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace("ENGINE = MergeTree", "engine=MergeTree()"))
        spelt = run(place, "clickhouse", "--schemas", folder, clickhouse=both)
        assert spelt.returncode == 1 and "ReplicatedMergeTree" in spelt.stderr, spelt.stdout + spelt.stderr
    finally:
        place.clickhouse(f"DROP DATABASE IF EXISTS {name}")
        place.clickhouse(f"DROP DATABASE IF EXISTS {name}2")


@pytest.mark.parametrize("arguments, words", [
    ((), "name the server"), (("mysql",), "mysql"), (("postgres", "sideways"), "sideways"), (("postgres", "up", "now"), "now"),
    (("postgres", "--to", "x"), "--to x"), (("postgres", "--schemas", "/nowhere"), "/nowhere/postgres"),
    (("clickhouse", "--baseline"), "--baseline"), (("postgres", "down", "--baseline"), "--baseline")])
def test_bad_usage_is_told(no_place, arguments, words):
    result = run(no_place, *arguments)
    assert result.returncode == 2 and words in result.stderr, result.stderr


def test_an_unreachable_server_is_named(no_place):
    result = run(no_place, "postgres")
    assert result.returncode == 1 and "127.0.0.1:1" in result.stderr
    result = run(no_place, "clickhouse")
    assert result.returncode == 1 and "127.0.0.1:1" in result.stderr


def stranger(place, name, arguments, returns="integer"):
    place.execute(f"CREATE FUNCTION public.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS "
                  "$$ BEGIN RAISE EXCEPTION 'a stranger was called'; END $$")


@pytest.mark.postgres_versions
def test_nothing_of_a_stranger_is_called(place):
    """Where everybody may create in schema public, as PostgreSQL 13 and 14 come, an operator or a function that fits better than PostgreSQL's own
    would run with the rights of the migrator and of the relay."""
    for number, (name, left, right, returns) in enumerate((
            ("=", "oid", "regclass", "boolean"), ("=", "regclass", "regclass", "boolean"), ("=", "oid", "integer", "boolean"), ("=", "oid", "bigint", "boolean"),
            ("=", "oid", "regnamespace", "boolean"), ("=", "oid", "regtype", "boolean"), ("||", "bigint", "bigint", "text"))):
        stranger(place, f"stranger{number}", f"{left}, {right}", returns)
        place.execute(f"CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.stranger{number})")
    for arguments in (("down", "--to", "0"), ("up",)):
        done = run(place, "postgres", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    for name, arguments, returns in (("pg_column_size", "jsonb", "integer"), ("pg_column_size", "jsonb[]", "integer"), ("pg_column_compression", "jsonb", "text"),
                                     ("pg_partition_tree", "integer", "TABLE (relid regclass)"), ("convert_to", "text, text", "bytea")):
        stranger(place, name, arguments, returns)
    for words in (("check",), ("status",), ("dead-letters", "list"), ("replay", "--since", "1h", "--dry-run")):
        told = command(*words, config=config_of(place), binary=place.binary)
        assert "a stranger was called" not in told.stdout + told.stderr, told.stdout + told.stderr
    relay = publishing(place, publish={"on_poison": "hold_aggregate"})
    place.insert_event("po st.x")
    relay.wait(lambda: relay.metric("held_aggregates") == 1, "the aggregate is held")
    place.insert_event("late.created")
    relay.wait(lambda: relay.metric("parked_topics") == 1, "the topic is parked")
    event = place.insert_event()
    assert wait_ids(place, [event]) == [event]
    assert "a stranger was called" not in relay.log_tail(1000)


BEFORE_US = {
    "the outbox": ("CREATE TABLE public.outbox_events (id uuid PRIMARY KEY, aggregate_type text, aggregate_id uuid, event_type text, payload jsonb, metadata jsonb, "
                   "created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz)",
                   "INSERT INTO public.outbox_events (id) VALUES ('00000000-0000-0000-0000-000000000001')",
                   "CREATE TRIGGER t BEFORE UPDATE ON public.outbox_events FOR EACH ROW EXECUTE FUNCTION public.tell()"),
    "the records": ("CREATE SCHEMA outbox_relay",
                    "CREATE TABLE outbox_relay.schema_migrations (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(), "
                    "applied_by text NOT NULL DEFAULT session_user, relay_version text NOT NULL)",
                    "CREATE TRIGGER t BEFORE INSERT ON outbox_relay.schema_migrations FOR EACH ROW EXECUTE FUNCTION public.tell()"),
    "a view of records": ("CREATE SCHEMA outbox_relay",
                          "CREATE FUNCTION public.told() RETURNS text LANGUAGE sql AS $$ INSERT INTO public.ran VALUES (current_user) RETURNING who $$",
                          "CREATE VIEW outbox_relay.schema_migrations AS SELECT public.told() AS name, '' AS checksum, now() AS applied_at, '' AS applied_by")}


@pytest.mark.postgres_versions
@pytest.mark.parametrize("made", BEFORE_US)
def test_what_another_login_made_before_us_does_not_run_with_a_superusers_rights(empty_place, made):
    place, other = empty_place, empty_place.name[:50] + "_other"
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute(f"CREATE ROLE {other}; CREATE TABLE public.ran (who text); GRANT INSERT, SELECT ON public.ran TO PUBLIC; "
                       f"GRANT CREATE ON DATABASE {place.name} TO {other}; GRANT CREATE, USAGE ON SCHEMA public TO {other}")
        try:
            cursor.execute(f"SET ROLE {other}")
            cursor.execute("CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS "
                           "$$ BEGIN INSERT INTO public.ran VALUES (current_user); RETURN NEW; END $$")
            for statement in BEFORE_US[made]:
                cursor.execute(statement)
            cursor.execute("RESET ROLE")
            for action in (("up",), ("up", "--dry-run"), ("status",)) if made != "the outbox" else (("up",), ("up", "--dry-run")):
                done = run(place, "postgres", *action, postgres={"dsn": place.admin_dsn}, outbox={"table": "public.outbox_events"})
                assert done.returncode == 1 and f"belongs to {other}" in done.stderr, done.stdout + done.stderr
            cursor.execute("SELECT who FROM public.ran")
            assert cursor.fetchall() == []
            cursor.execute("SELECT to_regclass('outbox_relay.outboxes')")
            assert cursor.fetchone() == (None,), "something was made"
        finally:
            cursor.execute(f"RESET ROLE; DROP OWNED BY {other} CASCADE; DROP ROLE {other}")
    done = run(place, "postgres", postgres={"dsn": place.admin_dsn})
    assert done.returncode == 0, done.stdout + done.stderr
