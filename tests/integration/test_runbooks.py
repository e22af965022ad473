# SPDX-License-Identifier: Apache-2.0
"""Steps of README.md, of docs/runbooks.md and docs/operations.md, and of docs/configuration.md behind a pooler, for the day on which a server was lost, or is held up, with the SQL that stands there."""
import contextlib
import os
import re
import secrets
import subprocess
import threading

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from inserting import Sender, admin, dead_letters, delete_group, expire, inserting, post, set_committed
from pooling import needs_pgbouncer, pooler
from publishing import publishing, wait_ids
from relaytools.relay import command, wait_until, write_config
from relaytools.servers import ROOT
from relaytools.sessions import autocommitting, execute_each


def documented(place, heading, number=0, document="runbooks"):
    """The statements of the first piece of SQL, or that many later, under the heading that begins so, with the names of this place."""
    with open(os.path.join(ROOT, f"docs/{document}.md"), encoding="utf-8") as file:
        _, found, text = file.read().partition(f"\n### {heading}")
    assert found, f"the document has another name for {heading}"
    text = re.findall(r"^ *```sql\n(.*?)^ *```$", text, re.M | re.S)[number]
    text = re.sub(r" *--.*", "", text).replace("'shop'", f"'{place.name}'").replace("shop.post.events", post(place))
    text = re.sub(r"\bshop\.", place.name + ".", text)
    return [statement.strip() for statement in text.split(";") if statement.strip()]


def run(place, *arguments, environment=None, **changes):
    config = write_config(os.path.join(place.folder, "runbook.ini"), place.sections(**changes))
    return command(*arguments, config=config, binary=place.binary, environment=environment)


def retry(place, topic=None, **changes):
    named = {"OUTBOX_RELAY_ROUTE_DEFAULT_TOPICS": topic} if topic else {}
    return run(place, "dead-letters", "retry", "--all", "--stage", "insert", environment=named, **changes)


def begin_anew(place):
    """The topic is lost with all that was in it, and made again."""
    topic, kafka = post(place), admin(place)
    kafka.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in kafka.list_topics(timeout=10).topics, "the topic is gone")
    place.servers.create_topics([topic], 4)


def mutate(place, rename, pending):
    place.clickhouse(rename)
    wait_until(lambda: place.clickhouse(pending).strip() == "0", "the rows have their new name")


def one_row_and_one_letter(place):
    """Messages 0 and 1 of a partition. The second fits once the constraint has gone."""
    place.clickhouse("ALTER TABLE {db}.outbox_events ADD CONSTRAINT small CHECK seq <> 1")
    relay = inserting(place)
    Sender(place).events(post(place), 2, partition=0).flush()
    place.wait_inserted(1)
    wait_until(lambda: len(dead_letters(place)) == 1, "the letter")
    assert relay.stop() == 0
    return relay


def test_the_first_steps_leave_no_password_in_the_log_of_postgresql(place):
    """With log_statement = ddl, and when they are repeated: an error is logged with its statement."""
    password, login = secrets.token_hex(24), f"{place.name}_login"
    file = os.path.join(place.folder, "postgres_password")
    with open(file, "w", encoding="ascii") as out:
        out.write(password + "\n")
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as text:
        step = text.read().partition("\n4. Create least-privilege roles")[2].partition("```sh\n")[2].partition("export CLICKHOUSE_USER")[0]
    script = re.sub("^   ", "", step, flags=re.M).replace("-h db1 -d app", '-X -d "$DSN"').replace("/usr/local/share/outbox-relay", ROOT)
    script = script.replace("/etc/outbox-relay/secrets/postgres_password", file).replace("outbox_relay_login", login)
    script = script.replace("my_service", login).replace("my_admin", login)
    execute_each(place.admin_dsn, f"ALTER DATABASE {place.name} SET log_statement = 'ddl'")
    for _ in range(2):      # without a terminal psql asks on its standard streams
        done = subprocess.run(["bash", "-euc", script], input=f"{password}\n{password}\n", text=True, capture_output=True, timeout=120, check=False,
                              env={**os.environ, "DSN": place.admin_dsn}, start_new_session=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert execute_each(make_dsn(place.dsn, user=login, password=password), "SELECT 1") == [(1,)], "the login has that password"
    with open(place.servers.env["POSTGRES_LOG"], encoding="utf-8", errors="replace") as log:
        text = log.read()
    assert f"CREATE ROLE {login} LOGIN" in text and f'role "{login}" already exists' in text, "statements and errors are logged"
    assert password not in text


def test_a_letter_of_a_wiped_kafka_is_retried_before_and_after_the_topics_are_called_otherwise(place):
    one_row_and_one_letter(place)
    begin_anew(place)
    other = {"publish": {"prefix": "other"}}
    assert "1 stay" in retry(place).stdout, "the constraint"
    place.clickhouse("ALTER TABLE {db}.outbox_events DROP CONSTRAINT small")
    lost = retry(place, **other)
    assert lost.returncode == 1 and "no enabled route fills it from there" in lost.stderr, lost.stdout + lost.stderr
    done = retry(place, post(place), **other)
    assert done.returncode == 0 and dead_letters(place) == [], done.stdout + done.stderr
    place.wait_inserted(2)


def test_a_letter_of_a_wiped_kafka_survives_topics_that_keep_their_names(place):
    relay = one_row_and_one_letter(place)
    begin_anew(place)
    mutate(place, *documented(place, "Kafka was wiped"))
    for statement in documented(place, "Kafka was wiped", 1):
        place.clickhouse(statement)
    assert dead_letters(place, "kafka_topic") == [(f"old1.{post(place)}",)]
    delete_group(place)

    sender = Sender(place)
    sender.sent = 10
    sender.events(post(place), 2, partition=0).flush()
    relay.start()
    place.wait_inserted(3)  # both new ones, where the old ones were
    place.clickhouse("ALTER TABLE {db}.outbox_events DROP CONSTRAINT small")
    done = retry(place, f"old1.{post(place)}")
    assert done.returncode == 0 and dead_letters(place) == [], done.stdout + done.stderr
    assert place.clickhouse("SELECT seq FROM {db}.outbox_events ORDER BY seq").split() == ["0", "1", "10", "11"]
    assert relay.stop() == 0


def test_a_topic_that_was_deleted_and_created_by_mistake_is_inserted_after_its_old_rows_are_renamed(place):
    relay = inserting(place)
    sender = Sender(place).events(post(place), 50, partition=0).flush()
    place.wait_inserted(50)
    assert relay.stop() == 0
    begin_anew(place)
    delete_group(place)
    sender.events(post(place), 10, partition=0).flush()
    relay.start()
    relay.wait(lambda: relay.events("insert.offset_not_in_log"), "the partition stands")
    assert relay.stop() == 0
    mutate(place, *documented(place, "Kafka was wiped"))
    set_committed(place, post(place), {0: 0})
    relay.start()
    place.wait_inserted(60)
    assert place.clickhouse("SELECT kafka_topic, count() FROM {db}.outbox_events GROUP BY ALL ORDER BY 2").split() == [
        post(place), "10", f"old1.{post(place)}", "50"]
    assert relay.stop() == 0


def test_an_erased_row_comes_back_while_kafka_has_its_message_and_no_longer(place):
    """Where the group's offsets are lost. The page says therefore: first Kafka."""
    with open(os.path.join(ROOT, "docs/operations.md"), encoding="utf-8") as file:
        section = file.read().partition("\n## Personal data\n")[2].partition("\n## ")[0]
    erase = re.search(r"`ALTER TABLE (outbox_events DELETE WHERE aggregate_id = )'...'`", section).group(1)
    erase = f"ALTER TABLE {{db}}.{erase}'1' SETTINGS mutations_sync = 1"
    sender, topic = Sender(place), post(place)
    relay = inserting(place)
    sender.events(topic, 3, partition=0).flush()
    place.wait_inserted(3)
    assert relay.stop() == 0

    place.clickhouse(erase)
    assert place.clickhouse_rows("outbox_events") == 2
    delete_group(place)
    relay.start()
    place.wait_inserted(3)      # it is back
    assert relay.stop() == 0

    expire(place, topic, 0, 3)
    place.clickhouse(erase)
    delete_group(place)
    sender.events(topic, 1, partition=0).flush()
    relay.start()
    wait_until(lambda: place.clickhouse("SELECT count() FROM {db}.outbox_events WHERE seq = 3").strip() == "1", "what came later", 60)
    assert place.clickhouse("SELECT aggregate_id FROM {db}.outbox_events ORDER BY seq").split() == ["0", "2", "3"]
    assert relay.stop() == 0


def test_a_view_gets_the_rows_that_it_lacks_and_none_twice(place):
    place.clickhouse("CREATE TABLE {db}.types (event_type String, kafka_offset Int64, kafka_partition Int32, kafka_topic String) ENGINE = MergeTree ORDER BY kafka_offset")
    relay = inserting(place)
    sender = Sender(place).events(post(place), 10, partition=0).flush()
    place.wait_inserted(10)
    place.clickhouse("CREATE MATERIALIZED VIEW {db}.types_view TO {db}.types AS SELECT kafka_topic, kafka_partition, kafka_offset, event_type FROM {db}.outbox_events")
    sender.events(post(place), 10, partition=0).flush()
    place.wait_inserted(20)
    wait_until(lambda: place.clickhouse("SELECT count() FROM {db}.types").strip() == "10", "the view has what came since")
    for _ in range(2):
        for statement in documented(place, "Views may lack rows"):
            place.clickhouse(statement)
        assert place.clickhouse("SELECT count(), uniqExact(kafka_offset), any(event_type) FROM {db}.types").split() == ["20", "20", "post.created"]
    assert relay.stop() == 0


def test_a_mirror_takes_over_and_clickhouse_gets_what_it_lacked(place):
    """Other offsets, an event twice, and one that was not copied."""
    relay = inserting(place)
    Sender(place).events(post(place), 5, partition=0).flush()
    place.wait_inserted(5)
    assert relay.stop() == 0
    begin_anew(place)
    sender = Sender(place)
    for number in (3, 4, 5, 6, 6):
        sender.event(post(place), number, partition=0)
    sender.flush()
    mutate(place, *documented(place, "Kafka was wiped"))
    set_committed(place, post(place), {0: 5, 1: 0, 2: 0, 3: 0})

    about = "The Kafka cluster is lost, and a mirror takes over"
    place.clickhouse(*documented(place, about))
    filled = run(place, "replay", "--into", f"{place.name}.gap", "--route", "default", "--since", "1h")
    assert filled.returncode == 0 and "5 rows written" in filled.stdout, filled.stdout + filled.stderr
    for _ in range(2):  # it may be repeated
        insert, drop = documented(place, about, 1)
        place.clickhouse(insert)
    place.clickhouse(drop)
    relay.start()
    sender.event(post(place), 8, partition=0)
    sender.flush()
    place.wait_inserted(8)
    assert place.clickhouse("SELECT seq FROM {db}.outbox_events ORDER BY seq").split() == ["0", "1", "2", "3", "4", "5", "6", "8"]
    assert relay.stop() == 0


def test_a_restored_clickhouse_gets_rows_letters_and_views_back(place):
    """What the view fills was gathered after its source, as in a backup that is made while rows come in."""
    place.clickhouse("CREATE TABLE {db}.by_type (event_type String, n UInt64) ENGINE = SummingMergeTree ORDER BY event_type")
    place.clickhouse("CREATE MATERIALIZED VIEW {db}.by_type_view TO {db}.by_type AS SELECT event_type, count() AS n FROM {db}.outbox_events GROUP BY event_type")
    relay = one_row_and_one_letter(place)
    place.clickhouse("TRUNCATE TABLE {db}.outbox_events")
    place.clickhouse("TRUNCATE TABLE {db}.outbox_relay_dead_letters")
    place.clickhouse("DETACH VIEW {db}.by_type_view")
    set_committed(place, post(place), {0: 0, 1: 0, 2: 0, 3: 0})
    relay.start()
    place.wait_inserted(1)
    wait_until(lambda: len(dead_letters(place)) == 1, "the letter")
    assert relay.stop() == 0
    for statement in documented(place, "ClickHouse was restored, or lost rows"):
        place.clickhouse(statement)
    relay.start()
    sender = Sender(place)
    sender.event(post(place), 2, partition=0)
    sender.flush()
    place.wait_inserted(2)
    assert relay.stop() == 0
    assert place.clickhouse("SELECT sum(n) FROM {db}.by_type").strip() == "2"
    assert len(dead_letters(place)) == 1


def test_whoever_keeps_vacuum_from_dead_rows_is_named(place):
    """A writer that is idle in READ COMMITTED has no snapshot, only its transaction's number; a prepared transaction has no session."""
    place.execute("CREATE TABLE public.other (id integer)")
    place.execute("INSERT INTO public.other VALUES (1)")
    with contextlib.closing(psycopg2.connect(place.dsn)) as idle, contextlib.closing(psycopg2.connect(place.dsn)) as prepared, \
            contextlib.closing(psycopg2.connect(place.dsn)) as reader:
        prepared.cursor().execute("INSERT INTO public.other VALUES (2)")
        prepared.cursor().execute(f"PREPARE TRANSACTION 'of {place.name}'")
        try:
            idle.cursor().execute("UPDATE public.other SET id = 3")
            reader.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM public.other")
            sessions, transactions, slots = [place.execute(statement) for statement in documented(place, "Long snapshots", document="operations")]
            pids = [row[0] for row in sessions]
            assert {idle.info.backend_pid, reader.info.backend_pid} <= set(pids), sessions
            assert [row[-1] for row in sessions] == sorted((row[-1] for row in sessions), reverse=True)
            assert [row[0] for row in transactions] == [f"of {place.name}"] and slots == []
        finally:
            prepared.rollback()
            execute_each(place.dsn, f"ROLLBACK PREPARED 'of {place.name}'")


@pytest.mark.postgres_versions
def test_whoever_keeps_events_from_being_published_is_named(place):
    """To an operator, who may not see when the transactions of others began, and not whoever else has a transaction open, as a backup has."""
    operator = place.name + "_operator"
    with contextlib.closing(psycopg2.connect(place.dsn)) as reader, contextlib.closing(psycopg2.connect(place.dsn, application_name="shop")) as writer, \
            contextlib.closing(psycopg2.connect(place.dsn)) as prepared:
        reader.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM public.outbox_events")
        relay = publishing(place)
        wait_ids(place, [place.insert_event()])
        insert = "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('post', gen_random_uuid(), 'post.created', '{}')"
        writer.cursor().execute(insert)
        with prepared.cursor() as cursor:
            cursor.execute("SET outbox_relay.notify = 'off'; " + insert)
            cursor.execute(f"PREPARE TRANSACTION 'of {place.name}'")
        try:
            with open(os.path.join(ROOT, "schemas/postgres/roles.sql"), encoding="utf-8") as file:
                execute_each(place.admin_dsn, file.read(), f"CREATE ROLE {operator} LOGIN PASSWORD 'hush' IN ROLE outbox_operator")
            statement, = documented(place, "A transaction that keeps events from being published")
            rows = execute_each(make_dsn(place.dsn, user=operator, password="hush"), statement)
            assert {(row[0], row[1], row[3]) for row in rows} == {(writer.info.backend_pid, None, "shop"), (None, f"of {place.name}", None)}, rows
        finally:
            prepared.rollback()
            execute_each(place.dsn, f"ROLLBACK PREPARED 'of {place.name}'")
            execute_each(place.admin_dsn, f"DROP ROLE IF EXISTS {operator}")
        assert relay.stop() == 0


def test_all_outboxes_go_on_after_a_blue_green_deployment(place):
    """The server that took over has another identifier, and all that was in the tables."""
    place.execute("SELECT outbox_relay.create_outbox('public.second')")
    relay = publishing(place, outbox={}, outbox__second={"table": "public.second"})
    tables = ("public.outbox_events", "public.second")
    events = [place.insert_event(table=table) for table in tables]
    wait_ids(place, events)
    place.execute("UPDATE outbox_relay.outboxes SET system_identifier = 42")
    execute_each(place.admin_dsn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'outbox-relay-%'")
    relay.wait(lambda: len({failure["outbox"] for failure in relay.events("publish.term_failed") if "registered on another" in failure["error"]}) == 2, "both stop")
    events += [place.insert_event(table=table) for table in tables]
    statement, = documented(place, "A blue/green deployment", document="operations")
    place.execute(statement)
    assert sorted(wait_ids(place, events)) == sorted(events)
    assert relay.stop() == 0


@needs_pgbouncer
def test_a_pause_of_pgbouncer_waits_for_the_relay_unless_it_has_an_entry_of_its_own(place):
    user = place.servers.env["POSTGRES_USER"]
    with pooler(place, "session", entry="relay_alone", admin_users=user) as dsn, \
         autocommitting(make_dsn(dsn, dbname="pgbouncer")) as console:
        def paused():
            console.execute("SHOW DATABASES")
            columns = [column.name for column in console.description]
            rows = [dict(zip(columns, row)) for row in console.fetchall()]
            return [str(row["paused"]) for row in rows if row["name"] == place.name] == ["1"]

        def begin_pause():
            thread = threading.Thread(target=execute_each, args=(make_dsn(dsn, dbname="pgbouncer"), f"PAUSE {place.name}"), daemon=True)
            thread.start()
            return thread
        relay = publishing(place, postgres={"dsn": make_dsn(dsn, dbname="relay_alone")})
        wait_ids(place, [place.insert_event()])
        execute_each(dsn, "SELECT 1")   # the application
        done = begin_pause()
        done.join(60)
        assert not done.is_alive()
        console.execute(f"RESUME {place.name}")     # refused if it is not paused; SHOW DATABASES leaves out an entry by "*" that has no connection
        assert relay.stop() == 0

        relay = publishing(place, postgres={"dsn": dsn})
        wait_ids(place, [place.insert_event()])
        waiting = begin_pause()
        wait_until(paused, "new transactions of the entry wait")
        assert waiting.is_alive()
        assert relay.stop() == 0
        waiting.join(60)
        assert not waiting.is_alive()
