# SPDX-License-Identifier: Apache-2.0
"""replay: kept events are published once more, a table is refilled from Kafka."""
import contextlib
import datetime
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid

import pytest

from inserting import Sender, dead_letters, event_headers, fnv, post, run_under
from publishing import Transaction, as_admin
from relaytools.proxy import Proxy, Rule
from relaytools.relay import command, program, wait_until, write_config
from relaytools.servers import ROOT

MARK = {"outbox": {"disposition": "mark"}}
EXAMPLE = os.path.join(ROOT, "schemas/kafka/examples/consume.py")


def run(place, *arguments, seconds=120, **changes):
    config = write_config(os.path.join(place.folder, "replay.ini"), place.sections(**changes))
    return command("replay", *arguments, config=config, binary=place.binary, seconds=seconds)


def published(place, count):
    wait_until(lambda: len(place.records()) >= count, f"{count} records", 60)
    return place.records()


def consumed_by_the_example(place, count):
    """What the example of a consumer prints of the first so many messages."""
    path = os.path.join(place.folder, "consumed")
    arguments = [place.servers.bootstrap, place.name, post(place), os.path.join(place.folder, "consumer.db")]
    with open(path, "w", encoding="utf-8") as output, open(path, encoding="utf-8") as lines, \
            subprocess.Popen([sys.executable, "-B", EXAMPLE, *arguments], stdout=output) as consumer:
        printed = []
        try:
            wait_until(lambda: printed.extend(lines) or len(printed) >= count or consumer.poll() is not None, f"{count} messages")
        finally:
            consumer.kill()
        return [line.rstrip() for line in printed]


def only_in_kafka(place, count):
    """So many events that have been published and inserted, and that ClickHouse has lost since."""
    relay = place.relay()
    for _ in range(count):
        place.insert_event()
    place.wait_published()
    place.wait_inserted(count)
    assert relay.stop() == 0  # commits what it has inserted
    place.clickhouse("TRUNCATE TABLE {db}.outbox_events")


def test_who_replays_is_in_the_servers_log(place):
    relay = place.relay(**MARK)
    aggregate = str(uuid.uuid4())
    place.insert_event("post.created", "{}", aggregate)
    place.wait_published()
    assert run(place, "--since", "1h", "--dry-run", **MARK).returncode == 0
    assert run(place, "--since", "1h", "--aggregate-id", aggregate, **MARK).returncode == 0
    wait_until(lambda: place.postgres_log(f"aggregate '{aggregate}' (replay)"), "the line of the replay")
    line, = place.postgres_log(f"aggregate '{aggregate}' (replay)")
    assert "1 events of public.outbox_events are published again, created from 20" in line and " to now, type any, " in line, line
    # With a schema of before file 021, too.
    place.wait_published()
    place.execute("DROP FUNCTION outbox_relay.note_decision(text)")
    done = run(place, "--since", "1h", **MARK)
    assert done.returncode == 0 and "1 events are in outbox default again" in done.stdout, done.stderr
    assert relay.stop() == 0


@pytest.mark.postgres_versions
def test_marked_events_come_again_in_their_order_with_new_numbers(place):
    relay = place.relay(**MARK)
    aggregate = str(uuid.uuid4())
    events = [place.insert_event("post.created", f'{{"n": {n}}}', aggregate) for n in range(5)]
    other = place.insert_event("comment.created")
    place.wait_published()
    first = published(place, 6)
    numbers = {record[0]: int(record[5]["seq"]) for record in first}

    counted = run(place, "--since", "1h", "--dry-run", **MARK)
    assert counted.returncode == 0 and "would publish 6 events again" in counted.stdout, counted.stderr
    assert "5 events of type post.created" in counted.stdout
    nothing = run(place, "--from", "2h", "--to", "1h", **MARK)
    assert nothing.returncode == 0 and "no published event" in nothing.stdout

    again = run(place, "--since", "1h", "--event-type", "post.created", "--aggregate-id", aggregate, **MARK)
    assert again.returncode == 0 and "5 events are in outbox default again" in again.stdout, again.stderr
    place.wait_published()
    records = published(place, 11)
    assert len(records) == 11
    new = [record for record in records if int(record[5]["seq"]) > max(numbers.values())]
    assert [record[0] for record in sorted(new, key=lambda record: int(record[5]["seq"]))] == events
    assert other not in {record[0] for record in new}
    assert relay.stop() == 0
    assert consumed_by_the_example(place, 10) == [f"applied post.created {event}" for event in events] + [f"seen before {event}" for event in events]
    with contextlib.closing(sqlite3.connect(os.path.join(place.folder, "consumer.db"))) as database:
        assert database.execute("SELECT aggregate_id, value FROM state").fetchall() == [(aggregate, '{"n": 4}')]


def test_the_example_keeps_what_was_written_last_not_what_began_last(place):
    """created_at is the time at which a transaction began. The one that began first may be the last to lock the aggregate's row."""
    first, second = Transaction(place), Transaction(place)
    first.begin()
    older = second.insert(payload='{"n": 1}')
    second.end()
    newer = first.insert(payload='{"n": 2}')
    first.end()
    created_at = dict(place.execute("SELECT id::text, created_at FROM public.outbox_events"))
    assert created_at[newer] < created_at[older]

    relay = place.relay()
    place.wait_published()
    published(place, 2)
    assert relay.stop() == 0
    assert consumed_by_the_example(place, 2) == [f"applied post.created {event}" for event in (older, newer)]
    with contextlib.closing(sqlite3.connect(os.path.join(place.folder, "consumer.db"))) as database:
        assert database.execute("SELECT value FROM state").fetchall() == [('{"n": 2}',)]


def test_an_id_of_an_extensions_type_is_found_by_its_own_operator(place):
    as_admin(place, "CREATE EXTENSION ltree")
    place.execute("ALTER TABLE outbox_events ALTER COLUMN id DROP DEFAULT, ALTER COLUMN id TYPE public.ltree USING id::text::public.ltree; "
                  "INSERT INTO outbox_events (id, aggregate_type, aggregate_id, event_type, payload, published_at) "
                  "SELECT ('a.b' || n)::public.ltree, 'post', gen_random_uuid(), 'post.created', '{}', now() FROM generate_series(1, 3) n")
    again = run(place, "--since", "1h", **MARK)
    assert again.returncode == 0 and "3 events are in outbox default again" in again.stdout, again.stdout + again.stderr
    assert place.execute("SELECT id::text, seq FROM outbox_events WHERE published_at IS NULL ORDER BY seq") == [("a.b1", 4), ("a.b2", 5), ("a.b3", 6)]


def test_rows_without_an_id_are_found_by_their_number(place):
    """Where an index leads with it, as an attached table's may. Without one they are told, and the others are replayed."""
    place.execute("CREATE TABLE public.own (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, owner text, kind text NOT NULL, "
                  "body jsonb, born timestamptz DEFAULT now(), published_at timestamptz)")
    place.execute("SELECT outbox_relay.attach_outbox('public.own', 'n', 'n')")
    own = {"outbox": {"table": "public.own", "disposition": "mark", "column.seq": "n", "column.id": "name", "column.key": "owner",
                      "column.type": "kind", "column.aggregate_type": "none", "column.payload": "body", "column.metadata": "none",
                      "column.created_at": "born"}}
    place.execute("INSERT INTO public.own (name, kind, published_at) VALUES ('a', 'x', now()), (NULL, 'x', now()), ('c', 'x', now())")
    again = run(place, "--since", "1h", **own)
    assert again.returncode == 0 and "3 events are in outbox default again" in again.stdout, again.stdout + again.stderr
    assert "no index" not in again.stdout
    assert place.execute("SELECT name FROM public.own WHERE published_at IS NULL ORDER BY n") == [("a",), (None,), ("c",)]

    place.execute("UPDATE public.own SET published_at = now()")
    place.execute("ALTER TABLE public.own DROP CONSTRAINT own_pkey")
    again = run(place, "--since", "1h", **own)
    assert again.returncode == 1 and "2 events are in outbox default again" in again.stdout, again.stdout + again.stderr
    assert "no index of public.own begins with its number" in again.stdout and "1 published events have no id" in again.stderr
    assert place.execute("SELECT name FROM public.own WHERE published_at IS NULL ORDER BY n") == [("a",), ("c",)]


def test_numbers_that_are_no_time_do_not_keep_the_other_rows_from_coming_again(place):
    """As the relay reads them: a bigint is milliseconds, one beyond all timestamps is NULL, and a domain is what it is made of."""
    place.execute("CREATE DOMAIN public.millis AS bigint")
    place.execute("CREATE TABLE public.own (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, kind text NOT NULL, body jsonb, "
                  "born bigint, published_at timestamptz)")
    place.execute("SELECT outbox_relay.attach_outbox('public.own', 'n', 'born')")
    own = {"outbox": {"table": "public.own", "disposition": "mark", "column.seq": "n", "column.id": "name", "column.key": "name",
                      "column.type": "kind", "column.aggregate_type": "none", "column.payload": "body", "column.metadata": "none",
                      "column.created_at": "born"}}
    place.execute("INSERT INTO public.own (name, kind, born, published_at) SELECT name, 'x', "
                  "CASE name WHEN 'd' THEN 9223372036854775807 ELSE extract(epoch FROM now()) * 1000 END, now() "
                  "FROM unnest(ARRAY['a', 'b', 'c', 'd']) name")
    for born in ("bigint", "public.millis"):
        place.execute(f"UPDATE public.own SET published_at = now(); ALTER TABLE public.own ALTER born TYPE {born}")
        again = run(place, "--since", "1h", **own)
        assert again.returncode == 0 and "3 events are in outbox default again" in again.stdout, again.stdout + again.stderr
        assert place.execute("SELECT name FROM public.own WHERE published_at IS NULL ORDER BY n") == [("a",), ("b",), ("c",)]


def test_an_outbox_that_deletes_has_nothing_to_replay(place):
    result = run(place, "--since", "1h")
    assert result.returncode == 0 and "no published event" in result.stdout and "disposition = delete nothing is kept" in result.stdout
    place.execute("ALTER TABLE outbox_events DROP COLUMN published_at CASCADE")
    result = run(place, "--since", "1h")
    assert result.returncode == 1 and "--into" in result.stderr


def test_a_table_is_refilled_without_doubles(place):
    relay = place.relay()
    for n in range(300):
        place.insert_event("post.created" if n % 3 else "comment.created", f'{{"n": {n}}}')
    place.wait_published()
    place.wait_inserted(300)
    assert relay.stop() == 0  # commits what it has inserted
    place.clickhouse("ALTER TABLE {db}.outbox_events DELETE WHERE seq % 2 = 0 SETTINGS mutations_sync = 1")
    left = place.clickhouse_rows()
    assert 0 < left < 300
    counted = run(place, "--into", "outbox_events", "--since", "1h", "--dry-run")
    assert counted.returncode == 0 and "would read up to" in counted.stdout, counted.stderr
    assert place.clickhouse_rows() == left

    result = run(place, "--into", "outbox_events", "--since", "1h", "--event-type", "comment.created")
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(place.clickhouse("SELECT count() FROM {db}.outbox_events WHERE event_type = 'comment.created'")) == 100

    result = run(place, "--into", "outbox_events", "--since", "1h")
    assert result.returncode == 0 and "300 messages read" in result.stdout, result.stdout + result.stderr
    assert place.clickhouse("SELECT count(), uniqExact(event_id) FROM {db}.outbox_events").split() == ["300", "300"]
    result = run(place, "--into", "outbox_events", "--since", "1h")
    assert "0 rows written" in result.stdout and "300 were there already" in result.stdout

    # The same block as before, whose rows are gone: it is written all the same.
    place.clickhouse("TRUNCATE TABLE {db}.outbox_events")
    assert "300 rows written" in run(place, "--into", "outbox_events", "--since", "1h").stdout
    assert place.clickhouse_rows() == 300

    place.clickhouse("CREATE TABLE {db}.other AS {db}.outbox_events")
    result = run(place, "--into", "other", "--since", "1h", "--rate", "100")
    assert result.returncode == 0 and place.clickhouse_rows("other") == 300, result.stdout + result.stderr
    later = run(place, "--into", "other", "--from", "2020-01-01", "--to", "2020-01-02")
    assert later.returncode == 0 and " 0 rows written" in later.stdout
    place.clickhouse("TRUNCATE TABLE {db}.other")
    for first in ("1970-01-01", "1969-12-31T23:59:59.999Z"):
        early = run(place, "--into", "other", "--since", first)
        assert early.returncode == 0 and "300 messages read" in early.stdout, early.stdout + early.stderr


def test_what_was_created_in_time_and_published_late_is_filled_in(place):
    """A transaction that committed late, an aggregate that was held: older messages stand behind newer ones."""
    hour = 3600 * 1000
    began = int(time.time() * 1000) - 4 * hour
    sender = Sender(place)
    for number, at in enumerate((began, began + 2 * hour, began + hour, began + 3 * hour)):
        sender.event(post(place), headers=event_headers(number), partition=0, timestamp=at)
    sender.flush()
    place.clickhouse("CREATE TABLE {db}.late AS {db}.outbox_events")
    upto = datetime.datetime.fromtimestamp((began + 1.5 * hour) / 1000, datetime.timezone.utc).isoformat()
    result = run(place, "--into", "late", "--since", "5h")
    assert result.returncode == 0 and "4 rows written" in result.stdout, result.stdout + result.stderr
    place.clickhouse("TRUNCATE TABLE {db}.late")
    result = run(place, "--into", "late", "--from", "5h", "--to", upto)
    assert result.returncode == 0 and "2 rows written" in result.stdout, result.stdout + result.stderr
    assert place.clickhouse("SELECT kafka_offset FROM {db}.late ORDER BY 1").split() == ["0", "2"]


OFFSETS = "kafka_topic String, kafka_partition Int32, kafka_offset Int64"


def test_a_table_that_has_merged_rows_away_is_not_filled_again(place):
    """By its offsets it lacks what is in the sum."""
    place.clickhouse(f"CREATE TABLE {{db}}.likes (name String, likes UInt64, {OFFSETS}) ENGINE = SummingMergeTree(likes) ORDER BY name")
    route = {"route__default": {"enabled": "false"},
             "route__likes": {"topics": f"{place.prefix}.post.events", "table": "likes", "name": "$.name", "likes": "$.likes"}}
    relay = place.relay(**route)
    for likes in (1, 2):
        place.insert_event(payload=f'{{"name": "a", "likes": {likes}}}')
    place.wait_published()
    wait_until(lambda: place.clickhouse("SELECT sum(likes) FROM {db}.likes").strip() == "3", "both", 60)
    assert relay.stop() == 0  # commits what it has inserted
    place.clickhouse("OPTIMIZE TABLE {db}.likes FINAL")
    into = ("--into", "likes", "--since", "1h")
    for arguments in (into, (*into, "--dry-run")):
        refused = run(place, *arguments, **route)
        assert refused.returncode == 1 and refused.stderr.startswith(f"outbox-relay replay: table {place.name}.likes merges rows away"), refused.stderr
        assert "written" not in refused.stdout
    assert place.clickhouse("SELECT sum(likes) FROM {db}.likes").strip() == "3"

    place.clickhouse("TRUNCATE TABLE {db}.likes")
    filled = run(place, *into, **route)
    assert filled.returncode == 0 and "2 rows written" in filled.stdout, filled.stdout + filled.stderr
    place.clickhouse("OPTIMIZE TABLE {db}.likes FINAL")
    wanted = run(place, *into, "--allow-doubles", **route)
    assert wanted.returncode == 0 and "1 rows written" in wanted.stdout, wanted.stdout + wanted.stderr


def test_a_table_that_merges_rows_is_made_anew_as_the_runbook_says(place):
    """What comes while the insert stage is stopped is left to it, by a configuration that names the copy."""
    def likes(table="likes"):
        return place.clickhouse(f"SELECT sum(likes) FROM {{db}}.{table}").strip()

    def route(table):
        return {"route__default": {"enabled": "false"},
                "route__likes": {"topics": post(place), "table": table, "name": "$.name", "likes": "$.likes"}}

    for table, key in (("likes", "name"), ("likes_new", "(name, kafka_topic)")):
        place.clickhouse(f"CREATE TABLE {{db}}.{table} (name String, likes UInt64, {OFFSETS}) ENGINE = SummingMergeTree(likes) ORDER BY {key}")
    sender = Sender(place)
    for number in (1, 2):
        sender.event(post(place), value=b'{"name": "a", "likes": %d}' % number)
    sender.flush()
    relay = place.relay(**route("likes"))
    wait_until(lambda: likes() == "3", "both", 60)
    assert relay.stop() == 0  # commits what it has inserted
    sender.event(post(place), value=b'{"name": "a", "likes": 4}')
    sender.flush()
    filled = run(place, "--into", "likes_new", "--since", "1h", **route("likes_new"))
    assert filled.returncode == 0 and "2 rows written" in filled.stdout, filled.stdout + filled.stderr
    place.clickhouse("OPTIMIZE TABLE {db}.likes_new FINAL")
    place.clickhouse("EXCHANGE TABLES {db}.likes_new AND {db}.likes")
    relay.start()
    wait_until(lambda: likes() == "7", "the third", 60)
    assert relay.stop() == 0
    assert (likes(), likes("likes_new")) == ("7", "3")


def test_rows_that_a_ttl_has_removed_are_not_counted_again_by_views(place):
    place.clickhouse(f"CREATE TABLE {{db}}.landing (n Int32, at DateTime64(3), {OFFSETS}) ENGINE = MergeTree ORDER BY n TTL toDateTime(at) + INTERVAL 1 DAY")
    place.clickhouse("CREATE MATERIALIZED VIEW {db}.sums ENGINE = SummingMergeTree ORDER BY tuple() AS SELECT toInt64(n) AS n FROM {db}.landing")
    sender = Sender(place)
    sender.event(post(place), value=b'{"n": 5}', timestamp=int(time.time() * 1000) - 3 * 86400 * 1000)
    sender.flush()
    route = {"route__default": {"enabled": "false"},
             "route__landing": {"topics": f"{place.prefix}.post.events", "table": "landing", "n": "$.n", "at": "kafka.timestamp"}}
    relay = place.relay(**route)
    wait_until(lambda: place.clickhouse("SELECT sum(n) FROM {db}.sums").strip() == "5", "the view", 60)
    assert relay.stop() == 0  # commits what it has inserted
    place.clickhouse("OPTIMIZE TABLE {db}.landing FINAL")
    assert place.clickhouse_rows("landing") == 0
    into = ("--into", "landing", "--since", "4d")
    refused = run(place, *into, **route)
    assert refused.returncode == 1 and "a TTL removes rows" in refused.stderr and "--allow-doubles" in refused.stderr, refused.stdout + refused.stderr
    assert place.clickhouse("SELECT sum(n) FROM {db}.sums").strip() == "5"
    wanted = run(place, *into, "--allow-doubles", **route)
    assert wanted.returncode == 0 and "1 rows written" in wanted.stdout, wanted.stdout + wanted.stderr
    place.clickhouse("DROP TABLE {db}.sums")
    alone = run(place, *into, **route)
    assert alone.returncode == 0, alone.stdout + alone.stderr


def test_each_route_that_fills_the_table_is_gone_over(place):
    """Topics of their own and columns of their own, the table's name with the database and without."""
    place.clickhouse("CREATE TABLE {db}.numbers (n Int32, kafka_topic String, kafka_partition Int32, kafka_offset Int64) "
                     "ENGINE = MergeTree ORDER BY n")
    routes = {"route__default": {"enabled": "false"},
              "route__posts": {"topics": f"{place.prefix}.post.events", "table": "numbers", "n": "$.n"},
              "route__others": {"topics": f"^{place.prefix}\\.(comment|like)\\.events$", "table": f"{place.name}.numbers", "n": "$.m"}}
    relay = place.relay(**routes)
    for n in range(10):
        place.insert_event("post.created", f'{{"n": {n}}}')
        place.insert_event("comment.created", f'{{"m": {10 + n}}}')
    place.wait_published()
    place.wait_inserted(20, table="numbers")
    assert relay.stop() == 0  # commits what it has inserted
    place.clickhouse("TRUNCATE TABLE {db}.numbers")
    for table in ("numbers", f"{place.name}.numbers"):
        counted = run(place, "--into", table, "--since", "1h", "--dry-run", **routes)
        assert counted.returncode == 0 and "by route posts" in counted.stdout and "by route others" in counted.stdout, counted.stdout + counted.stderr
    one = run(place, "--into", "numbers", "--since", "1h", "--route", "others", **routes)
    assert one.returncode == 0 and "10 rows written" in one.stdout and "posts" not in one.stdout, one.stdout + one.stderr
    absent = dict(routes, route__posts=dict(routes["route__posts"], topics=f"{place.prefix}.post.events, {place.prefix}.absent"))
    result = run(place, "--into", "numbers", "--since", "1h", **absent)
    assert result.returncode == 1 and result.stderr == f"topic {place.prefix}.absent is not there, or not visible to us: nothing of it is read\n"
    assert place.clickhouse("SELECT n FROM {db}.numbers ORDER BY n").split() == [str(n) for n in range(20)]
    assert run(place, "--into", "numbers", "--since", "1h", **routes).returncode == 0


def test_the_rate_is_that_of_the_events_that_are_wanted(place):
    """Those that the filter passes over are only read: at their number the pause of this rate would be minutes."""
    sender = Sender(place)
    sender.events(post(place), 1000, headers=event_headers(1)).event(post(place), headers=event_headers(2, event_type="post.deleted"))
    sender.flush()
    place.clickhouse("CREATE TABLE {db}.deleted AS {db}.outbox_events")
    result = run(place, "--into", "deleted", "--since", "1h", "--event-type", "post.deleted", "--rate", "2", seconds=60)
    assert result.returncode == 0 and "1001 messages read" in result.stdout and "1 rows written" in result.stdout, result.stdout + result.stderr


def fetch_settings(text):
    """What bounds the memory of a consumer, of those settings that librdkafka tells of a client with debug = conf."""
    names = (r"queued\.max\.messages\.kbytes", r"queued\.min\.messages", r"fetch\.message\.max\.bytes", r"fetch\.max\.bytes",
             r"receive\.message\.max\.bytes", r"fetch\.queue\.backoff\.ms")
    return dict(re.findall(rf"\b({'|'.join(names)}) = (\d+)", text))


def test_a_refill_fetches_no_more_ahead_than_the_daemon(place):
    """It often runs beside the daemon, within one limit of memory."""
    told = {"kafka": {"debug": "conf"}, "log": {"level": "debug", "format": "json"}, "insert": {"memory_limit": "512MiB"}}
    relay = place.relay(**told)
    place.insert_event()
    place.wait_inserted(1)
    assert relay.stop() == 0
    member = fetch_settings("\n".join(line for line in relay.log() if "outbox-relay-insert-" in line))
    done = run(place, "--into", "outbox_events", "--since", "1h", **told)
    assert done.returncode == 0, done.stderr
    ours = fetch_settings("\n".join(line for line in done.stderr.splitlines() if "outbox-relay-replay-" in line))
    assert len(member) == 6 and ours == member, (member, ours)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_refill_that_is_ended_during_its_insert_doubles_nothing(place, number):
    relay = place.relay()
    for _ in range(50):
        place.insert_event()
    place.wait_published()
    place.wait_inserted(50)
    assert relay.stop() == 0  # commits what it has inserted
    place.clickhouse("CREATE TABLE {db}.copy AS {db}.outbox_events ENGINE = MergeTree ORDER BY seq")
    place.clickhouse("ALTER TABLE {db}.copy ADD COLUMN slow UInt8 MATERIALIZED sleepEachRow(0.059) + sleepEachRow(0.058) + sleepEachRow(0.057)")
    config = write_config(os.path.join(place.folder, "replay.ini"), place.sections())
    with subprocess.Popen([program(place.binary), "replay", "--into", "copy", "--since", "1h", "--config", config]) as first:
        wait_until(lambda: int(place.clickhouse("SELECT count() FROM system.processes WHERE startsWith(query_id, 'outbox-relay-refill-') "
                                                "AND current_database = '{db}'")) > 0, "its INSERT under way")
        first.send_signal(number)
        assert first.wait(60) != 0
    result = run(place, "--into", "copy", "--since", "1h")
    assert result.returncode == 0, result.stdout + result.stderr
    assert place.clickhouse("SELECT count(), uniqExact(event_id) FROM {db}.copy").split() == ["50", "50"]


def test_an_insert_of_a_refill_that_arrives_late_is_refused(place):
    """Its connection is cut, its bytes lie in a proxy: before the table is asked again the server must refuse them."""
    only_in_kafka(place, 50)
    host, port = place.servers.clickhouse_url.split("//")[1].split(":")
    proxy = Proxy((host, int(port)), kind="http")
    rule = proxy.add(Rule(http="late", match=b"query=INSERT", hang_up=True))
    result = run(place, "--into", "outbox_events", "--since", "1h", clickhouse={"url": f"http://127.0.0.1:{proxy.port}"})
    assert rule.hits == 1 and result.returncode == 0, result.stdout + result.stderr
    assert place.clickhouse_rows() == 50
    proxy.lift(rule)
    wait_until(lambda: rule.late_answers == 1, "ClickHouse has answered the late one")
    assert place.clickhouse_rows() == 50
    proxy.close()


def test_a_refill_whose_inserts_outlast_request_timeout_sends_smaller_ones(place):
    """All 5,000 rows in one INSERT take more than 7 s."""
    Sender(place).events(post(place), 5000, headers=event_headers(1)).flush()
    place.clickhouse("CREATE TABLE {db}.slow AS {db}.outbox_events")
    for n in range(3):  # a block may sleep 3 s in each column
        place.clickhouse(f"ALTER TABLE {{db}}.slow ADD COLUMN nap{n} UInt8 MATERIALIZED sleepEachRow(0.0005{n})")
    result = run(place, "--into", "slow", "--since", "1h", seconds=300, clickhouse={"request_timeout": "4s"})
    assert result.returncode == 0 and "is sent in halves" in result.stderr, result.stdout + result.stderr
    assert place.clickhouse("SELECT count(), uniqExact(kafka_partition, kafka_offset) FROM {db}.slow").split() == ["5000", "5000"]


def test_a_refill_ends_what_an_earlier_run_has_left_and_not_again_with_each_batch(place):
    """A query under the ids of refills of this table that begins after the first batch is none that an earlier run has left."""
    only_in_kafka(place, 80)
    config = write_config(os.path.join(place.folder, "replay.ini"), place.sections())
    query_id = f"outbox-relay-refill-{fnv(place.name + '.outbox_events'):08x}-another"
    with subprocess.Popen([program(place.binary), "replay", "--into", "outbox_events", "--since", "1h", "--rate", "4", "--config", config]) as refill:
        place.wait_inserted(4)
        before = place.clickhouse_rows()
        assert run_under(place, query_id, "SELECT sleepEachRow(0.25) FROM numbers(10)"), "it was not killed"
        assert place.clickhouse_rows() > before, "there were batches meanwhile"
        assert refill.wait(120) == 0
    assert place.clickhouse_rows() == 80


@pytest.mark.parametrize("name", ["outbox_events", "`{db}`.`outbox_events`"])
def test_what_the_daemon_has_not_committed_is_left_to_it(place, name):
    name = name.format(db=place.name)
    route = {"route__default": {"table": name}}
    relay = place.relay(**route)
    place.insert_event()
    place.wait_inserted(1)
    assert relay.stop() == 0
    publisher = place.relay(insert={"enabled": "false"})
    place.insert_event()
    place.wait_published()
    assert publisher.stop() == 0
    result = run(place, "--into", name, "--since", "1h", **route)
    assert result.returncode == 0 and place.clickhouse_rows() == 1, result.stdout
    relay = place.relay(**route)
    place.wait_inserted(2)
    assert relay.stop() == 0
    assert place.clickhouse_rows() == 2


def test_messages_that_do_not_fit_are_told(place):
    relay = place.relay(insert={"enabled": "false"})
    place.insert_event(payload='{"n": 1}')
    place.insert_event(payload='{"n": "many"}')
    for n in range(2, 7):
        place.insert_event(payload=f'{{"n": {n}}}')
    place.wait_published()
    assert relay.stop() == 0
    place.clickhouse("CREATE TABLE {db}.numbers (n Int32, kafka_topic String, kafka_partition Int32, kafka_offset Int64, "
                     "CONSTRAINT small CHECK n <> 4) ENGINE = MergeTree ORDER BY n")
    route = {"route__numbers": {"topics": f"{place.prefix}.post.events", "table": "numbers", "n": "$.n"}}
    result = run(place, "--into", "numbers", "--since", "1h", **route)
    assert result.returncode == 1 and "5 rows written" in result.stdout and "2 do not fit" in result.stdout, result.stdout + result.stderr
    assert "column n" in result.stderr and re.search(r"\[\d+\] offset \d+: .*ClickHouse code 469", result.stderr)
    assert place.clickhouse("SELECT n FROM {db}.numbers ORDER BY n").split() == ["1", "2", "3", "5", "6"]

    # The table has the block before its views have it, so the next run would find nothing to do.
    place.clickhouse("TRUNCATE TABLE {db}.numbers")
    place.clickhouse("CREATE MATERIALIZED VIEW {db}.sums ENGINE = SummingMergeTree ORDER BY n AS SELECT n, throwIf(n = 5) AS thrown FROM {db}.numbers")
    failed = run(place, "--into", "numbers", "--since", "1h", **route)
    assert failed.returncode == 1 and "may lack rows" in failed.stderr and "note: materialized views of" in failed.stderr, failed.stdout + failed.stderr
    assert place.clickhouse("SELECT count() FROM {db}.numbers WHERE n = 5").split() == ["1"]


def test_messages_that_do_not_fit_become_letters_once_where_that_is_asked_for(place):
    place.clickhouse("ALTER TABLE {db}.outbox_events ADD CONSTRAINT small CHECK payload NOT LIKE '%many%'")
    relay = place.relay()
    for payload in ('{"n": 1}', '{"n": "many"}', '{"n": 3}'):
        place.insert_event(payload=payload)
    place.wait_inserted(2)
    wait_until(lambda: len(dead_letters(place)) == 1, "the letter")
    assert relay.stop() == 0
    columns = "target, kafka_topic, kafka_partition, kafka_offset, key, value, headers, reason, code, kafka_timestamp"
    letter = dead_letters(place, columns)
    place.clickhouse("TRUNCATE TABLE {db}.outbox_events")
    there = run(place, "--into", "outbox_events", "--since", "1h", "--dead-letters")
    assert there.returncode == 1 and "1 do not fit\n0 of these are new dead letters" in there.stdout, there.stdout + there.stderr
    place.clickhouse("TRUNCATE TABLE {db}.outbox_relay_dead_letters")
    without = run(place, "--into", "outbox_events", "--since", "1h")
    assert "1 do not fit" in without.stdout and dead_letters(place) == []
    for new in ("1", "0"):
        result = run(place, "--into", "outbox_events", "--since", "1h", "--dead-letters")
        assert result.returncode == 1 and f"1 do not fit\n{new} of these are new dead letters" in result.stdout, result.stdout + result.stderr
    assert dead_letters(place, columns) == letter, "as the daemon wrote it"
    place.clickhouse("DROP TABLE {db}.outbox_relay_dead_letters")
    missing = run(place, "--into", "outbox_events", "--since", "1h", "--dead-letters")
    assert missing.returncode == 1 and "outbox_relay_dead_letters: it does not exist: run" in missing.stderr, missing.stderr
    place.clickhouse("CREATE TABLE {db}.other AS {db}.outbox_events")
    refused = run(place, "--into", "other", "--route", "default", "--since", "1h", "--dead-letters")
    assert refused.returncode == 2 and "does not fill" in refused.stderr, refused.stderr


def test_bad_usage_is_told(no_place):
    for arguments, words in (([], "--since"), (["--since", "soon"], "no time"), (["--from", "1h", "--to", "2h"], "not after"),
                             (["--since", "1h", "--rate", "0"], "--rate"), (["--since", "1h", "--route", "x"], "--into"),
                             (["--since", "1h", "--allow-doubles"], "--into"), (["--since", "1h", "--dead-letters"], "--into"),
                             (["--since", "1h", "--from", "2h"], "same"), (["--since", "1h", "--outbox", "nobody"], "no outbox nobody")):
        result = run(no_place, *arguments)
        assert result.returncode == 2 and words in result.stderr, (arguments, result.stderr)


def test_a_dropped_table_is_brought_back_as_the_runbook_says(place):
    """With UNDROP TABLE, else made anew and filled from Kafka; a relay runs meanwhile."""
    def lost():
        place.clickhouse("DROP TABLE {db}.outbox_events")
        place.insert_event()
        relay.wait(lambda: relay.health()["checks"]["insert"]["instances"]["outbox_events"]["status"] == "down", "the table paused")
        assert place.clickhouse("EXISTS TABLE {db}.outbox_events").strip() == "0"

    relay = place.relay()
    for _ in range(3):
        place.insert_event()
    place.wait_inserted(3)
    lost()
    place.clickhouse("UNDROP TABLE {db}.outbox_events")
    place.wait_inserted(4)
    lost()
    made = command("migrate", "clickhouse", "up", config=write_config(os.path.join(place.folder, "migrate.ini"), place.sections()), binary=place.binary)
    assert made.returncode == 0 and "up   001_outbox_events" in made.stdout, made.stdout + made.stderr
    place.wait_inserted(1)
    assert relay.stop() == 0  # commits what it has inserted, which bounds replay
    filled = run(place, "--into", "outbox_events", "--since", "1d")
    assert filled.returncode == 0, filled.stdout + filled.stderr
    assert place.clickhouse("SELECT count(), uniqExact(kafka_partition, kafka_offset) FROM {db}.outbox_events").split() == ["5", "5"]
