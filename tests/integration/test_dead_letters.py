# SPDX-License-Identifier: Apache-2.0
"""dead-letters list, show, retry and drop, of both stages."""
import json
import os
import re
import socket
import subprocess
import time

import psycopg2.extensions
import pytest

from inserting import Sender, event_headers, inserting, post
from publishing import as_admin
from relaytools.relay import command, program, wait_until, write_config
from relaytools.servers import ROOT
from relaytools.sessions import autocommitting


def run(place, *arguments, stdin=None, **changes):
    config = write_config(os.path.join(place.folder, "letters.ini"), place.sections(**changes))
    return command("dead-letters", *arguments, config=config, binary=place.binary, stdin=stdin)


def listed(place, *options):
    result = run(place, "list", "--json", *options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["dead_letters"]


def put_aside(place, event_type="post.created", reason="too_large", payload='{"n": 1}', aggregate=None):
    """An event that the publish stage set aside; returns the event's id."""
    event = place.insert_event(event_type, payload, aggregate)
    seq, = place.execute("SELECT seq FROM outbox_events WHERE id = %s", event)[0]
    place.execute("SELECT outbox_relay.dead_letter('public.outbox_events', %s, %s, 'it was refused', 1)", seq, reason)
    return event


@pytest.mark.postgres_versions
def test_published_letters_are_listed_filtered_and_put_back(place):
    first = put_aside(place, "post.created", "too_large")
    second = put_aside(place, "like.created", "bad_topic", '{"n": 1, "price": 1.50}')
    assert [letter["event_id"] for letter in listed(place)] == [first, second]
    assert [letter["event_id"] for letter in listed(place, "--type", "like.created")] == [second]
    assert [letter["event_id"] for letter in listed(place, "--reason", "too_large")] == [first]
    assert [letter["event_id"] for letter in listed(place, "--limit", "1")] == [first]
    assert len(listed(place, "--since", "1h")) == 2 and listed(place, "--until", "1h") == []
    assert listed(place, "--stage", "insert") == []
    one = listed(place, "--type", "like.created")[0]["id"]
    assert [letter["event_id"] for letter in listed(place, "--id", one)] == [second]

    shown = run(place, "show", "--json", "--id", one)
    assert json.loads(shown.stdout)["dead_letters"][0]["event"]["payload"] == {"n": 1, "price": 1.5}
    shown = run(place, "show", "--id", one).stdout
    assert "event_id         " + second in shown and '"price": 1.50}' in shown, "numbers as they are"

    refused = run(place, "retry")
    assert refused.returncode == 2 and "--all" in refused.stderr
    done = run(place, "retry", "--id", one)
    assert done.returncode == 0 and "1 put back" in done.stdout, done.stderr
    assert place.execute("SELECT id::text, event_type, payload FROM outbox_events") == [(second, "like.created", {"n": 1, "price": 1.5})]
    assert [letter["event_id"] for letter in listed(place)] == [first]


def test_an_id_that_is_not_there_is_told(place):
    put_aside(place)
    there = listed(place)[0]["id"]
    for action in ("list", "show", "retry", "drop"):
        told = run(place, action, "--yes", "--id", "publish:999999")
        assert told.returncode == 1 and "1 of 1 --id match no dead letter" in told.stderr
    both = run(place, "retry", "--id", there, "--id", "publish:999999")
    assert both.returncode == 1 and "1 put back" in both.stdout and "1 of 2 --id" in both.stderr


def test_the_year_1970_is_a_time_as_any_other(place):
    put_aside(place)
    letter(place, 10, "{}")
    assert len(listed(place, "--since", "1970-01-01")) == 2
    assert listed(place, "--until", "1970-01-01") == []
    assert run(place, "list", "--until", "1970-01-01").stdout == "no dead letters that the filter takes\n"
    dropped = run(place, "drop", "--until", "1970-01-01", "--yes")
    assert dropped.returncode == 0 and "0 dropped" in dropped.stdout
    assert len(listed(place)) == 2
    turned = run(place, "list", "--since", "1h", "--until", "2h")
    assert turned.returncode == 2 and "--until is not after --since" in turned.stderr


def test_what_clickhouse_did_not_drop_is_not_counted_as_dropped(place):
    letter(place, 10, "{}")
    place.clickhouse("RENAME TABLE {db}.outbox_relay_dead_letters TO {db}.kept")
    place.clickhouse("CREATE VIEW {db}.outbox_relay_dead_letters AS SELECT * FROM {db}.kept")  # which cannot be deleted from
    refused = run(place, "drop", "--all", "--stage", "insert", "--yes")
    assert refused.returncode == 1 and "0 dropped, 1 stay" in refused.stdout, refused.stdout + refused.stderr
    assert len(listed(place)) == 1


def test_the_daemons_login_is_told_once_which_right_it_lacks(place):
    for _ in range(3):
        put_aside(place)
    role = place.name + "_login"
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hush'")
        try:
            with open(os.path.join(ROOT, "schemas/postgres/roles.sql"), encoding="utf-8") as file:
                cursor.execute(file.read())
            cursor.execute(f"GRANT outbox_relay TO {role}")
            dsn = {"postgres": {"dsn": psycopg2.extensions.make_dsn(place.dsn, user=role, password="hush")}}
            for action in ("retry", "drop"):
                told = run(place, action, "--all", "--yes", "--stage", "publish", **dsn)
                assert told.returncode == 1 and told.stderr.count("GRANT outbox_operator") == 1, told.stderr
                assert "3 stay" in told.stdout and told.stderr.count("\n") == 1, told.stdout + told.stderr
        finally:
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


def test_a_letter_that_comes_back_is_published_after_newer_events_of_its_aggregate(place):
    """As the documents say: a consumer that keeps the latest state must know."""
    aggregate = "6f1c0a52-8f0e-4f1e-9d1f-2a8f3b6c7d10"
    event = put_aside(place, aggregate=aggregate)
    relay = place.relay()
    newer = place.insert_event(aggregate=aggregate)
    place.wait_published()
    assert run(place, "retry", "--all", "--stage", "publish").returncode == 0
    place.wait_published()
    place.wait_inserted(2)
    assert [record[0] for record in place.records()] == [newer, event]
    assert place.clickhouse("SELECT event_id FROM {db}.outbox_events ORDER BY seq").split() == [newer, event], "its seq is the higher one"
    assert relay.stop() == 0


def test_a_table_that_is_not_there_is_named_with_what_makes_it(place):
    place.clickhouse("DROP TABLE {db}.outbox_relay_dead_letters")
    told = run(place, "list", "--stage", "insert")
    assert told.returncode == 1
    assert told.stderr == ("outbox-relay dead-letters: insert stage: table outbox_relay_dead_letters does not exist: "
                           "run `outbox-relay migrate clickhouse up`\n")


def test_drop_asks_first(place):
    put_aside(place)
    asked = run(place, "drop", "--all", stdin="n\n")
    assert asked.returncode == 1 and "Delete 1 dead letter for good?" in asked.stderr and "nothing was deleted" in asked.stderr
    assert len(listed(place)) == 1
    none = run(place, "drop", "--reason", "out_of_range", stdin="")
    assert none.returncode == 0 and "Delete" not in none.stderr and "0 dropped" in none.stdout
    assert run(place, "drop", "--all", stdin="").returncode == 1
    done = run(place, "drop", "--all", stdin="y\n")
    assert done.returncode == 0 and "1 dropped" in done.stdout
    put_aside(place)
    assert run(place, "drop", "--all", "--yes").returncode == 0
    assert listed(place) == []


def test_who_drops_is_in_the_servers_log(place):
    event = put_aside(place)
    assert run(place, "drop", "--all", "--yes").returncode == 0
    written = f"event '{event}' of public.outbox_events, is dropped"
    wait_until(lambda: place.postgres_log(written), "the line of the dead letter")
    line, = place.postgres_log(written)
    assert "application 'outbox-relay-dead-letters-" in line and f"decision of {place.execute('SELECT session_user')[0][0]} " in line, line
    # With a schema of before file 021, too.
    put_aside(place)
    place.execute("DROP FUNCTION outbox_relay.drop_dead_letter(bigint, regclass)")
    done = run(place, "drop", "--all", "--yes")
    assert done.returncode == 0 and "1 dropped, 0 stay" in done.stdout, done.stderr
    assert listed(place) == []


def test_drop_deletes_no_more_than_it_has_asked_for(place):
    for _ in range(3):
        put_aside(place)
        letter(place, len(listed(place, "--stage", "insert")), "{}")
    config = write_config(os.path.join(place.folder, "letters.ini"), place.sections())
    with subprocess.Popen([program(place.binary), "dead-letters", "drop", "--all", "--config", config], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as drop:
        asked = b""
        while not asked.endswith(b"[y/N] "):
            asked += drop.stderr.read(1) or pytest.fail(f"it ended: {asked}")
        assert b"Delete 6 dead letters" in asked
        later = put_aside(place)
        letter(place, 7, "{}")
        out, _ = drop.communicate(b"y\n", timeout=60)
        assert drop.returncode == 0 and out == b"6 dropped, 0 stay\n"
    left = listed(place)
    assert [left[0]["event_id"], left[1]["id"]] == [later, "insert:orders:orders:3:7"] and len(left) == 2


def test_retry_ends_where_letters_come_back_at_once(place):
    """As a relay whose verdict has not changed sets them aside anew."""
    as_admin(place, """
        CREATE FUNCTION put_aside() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM outbox_relay.dead_letter('public.outbox_events', NEW.seq, 'too_large', 'it was refused', 1);
            RETURN NULL;
        END $$;
        CREATE TRIGGER again AFTER INSERT ON outbox_events FOR EACH ROW EXECUTE FUNCTION put_aside();
        INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload)
            SELECT 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, 250)""")
    done = run(place, "retry", "--all", "--stage", "publish")
    assert done.returncode == 0 and "250 put back" in done.stdout, done.stdout + done.stderr
    assert place.execute("SELECT count(*), min(dead_letter_id) FROM outbox_dead_letters") == [(250, 251)]


ROUTE = {"route__orders": {"topics": "orders", "table": "orders", "id": "$.id", "amount": "$.amount", "event_id": "header.event_id?",
                           "at": "kafka.timestamp?"}}


def orders(place):
    place.clickhouse("CREATE TABLE {db}.orders (id Int64, amount Int8, event_id String, at DateTime64(3, 'UTC'), "
                     "kafka_topic String, kafka_partition Int32, kafka_offset Int64, INDEX o kafka_offset TYPE minmax GRANULARITY 1) "
                     "ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100")


def letter(place, offset, value, target="orders", headers="[('event_type', 'order.created'), ('event_id', 'e'), ('created_at', "
           "'2026-03-01T12:34:56.123456Z'), ('none', NULL)]"):
    place.clickhouse("INSERT INTO {db}.outbox_relay_dead_letters (target, kafka_topic, kafka_partition, kafka_offset, key, value, headers, "
                     f"reason, code, text) VALUES ('{target}', 'orders', 3, {offset}, 'k', '{value}', {headers}, 'out_of_range', '', "
                     "'amount is too large')")


def test_inserted_letters_go_into_their_table_once(place):
    orders(place)
    letter(place, 10, '{"id": 1, "amount": 100}')
    letter(place, 11, '{"id": 2, "amount": 1000}')  # too large for Int8
    letter(place, 12, '{"id": 3, "amount": 3}')
    letter(place, 12, '{"id": 3, "amount": 3}')  # the same one twice
    letter(place, 13, '{"id": 4, "amount": 4}', target="gone")
    letter(place, 1, "{}", target="absent")  # whose route is there, whose table is not
    for offset in range(14, 20):
        letter(place, offset, f'{{"id": {offset}, "amount": {99 if offset == 16 else 5}}}')
    place.clickhouse("ALTER TABLE {db}.orders ADD CONSTRAINT c CHECK amount <> 99")  # which the server refuses, with its neighbours
    # A run that died between the insert and the delete has left this row.
    place.clickhouse("INSERT INTO {db}.orders (id, amount, kafka_topic, kafka_partition, kafka_offset) VALUES (1, 100, 'orders', 3, 10)")

    all_of_them = run(place, "list", "--stage", "insert", "--json", **ROUTE)
    letters = json.loads(all_of_them.stdout)["dead_letters"]
    assert [found["id"] for found in letters] == ["insert:absent:orders:3:1", "insert:gone:orders:3:13"] + [f"insert:orders:orders:3:{n}" for n in (10, 11, 12, *range(14, 20))]
    assert {found["event_type"] for found in letters} == {"order.created"}

    result = run(place, "retry", "--all", "--stage", "insert", **ROUTE, route__absent={"topics": "orders", "table": "absent", "id": "$.id"})
    assert result.returncode == 1
    assert "6 put back, 1 were there already, 4 stay" in result.stdout, result.stdout + result.stderr
    assert "1 dead letters of absent stay: table absent" in result.stderr
    assert "amount" in result.stderr and "no enabled route fills" in result.stderr
    assert re.search(r"insert:orders:orders:3:16 stays: .*ClickHouse code 469", result.stderr), result.stderr
    rows = place.clickhouse("SELECT id, amount, event_id, at, kafka_offset FROM {db}.orders ORDER BY id").splitlines()
    assert [row.split("\t")[0] for row in rows] == ["1", "3", "14", "15", "17", "18", "19"]
    assert rows[1].split("\t")[2:] == ["e", "2026-03-01 12:34:56.123", "12"]
    left = place.clickhouse("SELECT target, kafka_offset FROM {db}.outbox_relay_dead_letters ORDER BY kafka_offset").split()
    assert left == ["absent", "1", "orders", "11", "gone", "13", "orders", "16"]

    place.clickhouse("ALTER TABLE {db}.orders MODIFY COLUMN amount Int32 SETTINGS mutations_sync = 1")
    full = {"route__orders": dict(ROUTE["route__orders"], table=f"{place.name}.orders")}     # the same table
    again = run(place, "retry", "--id", "insert:orders:orders:3:11", "--id", "insert:orders:orders:3:11", **full)
    assert again.returncode == 0 and "1 put back" in again.stdout, again.stdout + again.stderr
    dropped = run(place, "drop", "--yes", "--reason", "out_of_range", "--stage", "insert", **ROUTE)
    assert dropped.returncode == 0 and "3 dropped" in dropped.stdout
    assert place.clickhouse_rows("orders") == 8 and place.clickhouse_rows("outbox_relay_dead_letters") == 0


def test_a_retried_message_has_the_timestamp_that_it_had(place):
    """Whatever its headers say. A letter of before file 003 has none; there the header created_at stands for it."""
    place.clickhouse("CREATE TABLE {db}.seen (n Int32, at DateTime64(3, 'UTC'), kafka_topic String, kafka_partition Int32, kafka_offset Int64) "
                     "ENGINE = MergeTree ORDER BY n")
    topic = post(place)
    route = {"route__default": {"enabled": "false"}, "route__seen": {"topics": topic, "table": "seen", "n": "$.n", "at": "kafka.timestamp"}}
    began = int(time.time() * 1000) - 3600 * 1000
    sender = Sender(place)
    sender.event(topic, value=b'{"m": 1}', headers=[], partition=0, timestamp=began)
    sender.event(topic, value=b'{"m": 2}', headers=event_headers(2), partition=0, timestamp=began + 1)
    sender.flush()
    relay = inserting(place, **route)
    wait_until(lambda: place.clickhouse_rows("outbox_relay_dead_letters") == 2, "the letters", 60)
    assert relay.stop() == 0
    route["route__seen"]["n"] = "$.m"
    done = run(place, "retry", "--all", "--stage", "insert", **route)
    assert done.returncode == 0 and "2 put back" in done.stdout, done.stdout + done.stderr
    assert place.clickhouse("SELECT n, toUnixTimestamp64Milli(at) FROM {db}.seen ORDER BY n").split() == ["1", str(began), "2", str(began + 1)]

    # A table that lacks the column: letters are set aside as before, and check says what they lack.
    place.clickhouse("ALTER TABLE {db}.outbox_relay_dead_letters DROP COLUMN kafka_timestamp")
    route["route__seen"]["n"] = "$.n"
    sender.event(topic, value=b'{"m": 3}', headers=[], partition=0)
    sender.event(topic, value=b'{"m": 4}', headers=event_headers(4), partition=0)
    sender.flush()
    relay = inserting(place, **route)
    wait_until(lambda: place.clickhouse_rows("outbox_relay_dead_letters") == 2, "the letters", 60)
    assert relay.stop() == 0
    route["route__seen"]["n"] = "$.m"
    some = run(place, "retry", "--all", "--stage", "insert", **route)
    assert some.returncode == 1 and "1 put back" in some.stdout and "from kafka.timestamp" in some.stderr, some.stdout + some.stderr
    assert place.clickhouse("SELECT at FROM {db}.seen WHERE n = 4").strip() == "2026-03-01 12:34:56.123"
    checked = command("check", config=write_config(os.path.join(place.folder, "check.ini"), place.sections(**route)), binary=place.binary)
    assert "outbox_relay_dead_letters has no column kafka_timestamp" in checked.stdout, checked.stdout


def test_many_letters_are_deleted_by_few_statements(place):
    """Each is a mutation, which has its price however few it takes."""
    def set_aside():
        place.clickhouse("TRUNCATE TABLE {db}.outbox_relay_dead_letters")
        place.clickhouse("INSERT INTO {db}.outbox_relay_dead_letters (target, kafka_topic, kafka_partition, kafka_offset, value, reason) "
                         "SELECT 'orders', 'orders', 3, number, concat('{\"id\": ', toString(number), ', \"amount\": 1}'), 'bad_json' FROM numbers(450)")

    def one_mutation():
        """Whether rows are only marked by it."""
        assert place.clickhouse_rows("outbox_relay_dead_letters") == 0
        command, = place.clickhouse("SELECT left(command, 30) FROM system.mutations WHERE database = '{db}' AND table = 'outbox_relay_dead_letters'").splitlines()
        return "_row_exists" in command

    orders(place)
    set_aside()
    done = run(place, "retry", "--all", "--stage", "insert", **ROUTE)
    assert done.returncode == 0 and "450 put back" in done.stdout, done.stdout + done.stderr
    assert place.clickhouse("SELECT count(), uniqExact(kafka_offset) FROM {db}.orders").split() == ["450", "450"]
    assert one_mutation()
    set_aside()
    dropped = run(place, "drop", "--reason", "bad_json", "--yes", "--stage", "insert")
    assert dropped.returncode == 0 and "450 dropped" in dropped.stdout, dropped.stdout + dropped.stderr
    assert not one_mutation()
    # Where a table refuses the light form of DELETE.
    place.clickhouse("ALTER TABLE {db}.outbox_relay_dead_letters ADD PROJECTION p (SELECT reason, count() GROUP BY reason)")
    set_aside()
    done = run(place, "retry", "--all", "--stage", "insert", **ROUTE)
    assert done.returncode == 0 and "450 were there already" in done.stdout, done.stdout + done.stderr
    assert not one_mutation()


@pytest.mark.parametrize("options", (("--reason", "bad_json"), ("--all", "--limit", "2")), ids=("filter", "limit"))
def test_what_is_dropped_is_gone_from_the_disk(place, options):
    """DELETE marks rows, and a quiet table is never merged."""
    place.clickhouse("INSERT INTO {db}.outbox_relay_dead_letters (target, kafka_topic, kafka_partition, kafka_offset, value, reason) "
                     "SELECT 'orders', 'orders', 3, number, '{}', if(number < 2, 'bad_json', 'wrong_kind') FROM numbers(3)")
    asked = run(place, "drop", *options, "--stage", "insert", stdin="n\n")
    assert "Delete 2 dead letters for good? Kafka may still have their messages. [y/N]" in asked.stderr
    dropped = run(place, "drop", *options, "--yes", "--stage", "insert")
    assert dropped.returncode == 0 and dropped.stdout == "2 dropped, 0 stay\n", dropped.stdout + dropped.stderr
    rows, marked = place.clickhouse("SELECT sum(rows), sum(has_lightweight_delete) FROM system.parts WHERE active "
                                    "AND database = '{db}' AND table = 'outbox_relay_dead_letters'").split()
    assert (rows, marked) == ("1", "0")


def test_bytes_that_are_no_text_survive(place):
    orders(place)
    place.clickhouse("ALTER TABLE {db}.orders ADD COLUMN raw String SETTINGS mutations_sync = 1")
    place.clickhouse("INSERT INTO {db}.outbox_relay_dead_letters (target, kafka_topic, kafka_partition, kafka_offset, key, value, headers, "
                     "reason, code, text) VALUES ('orders', 'orders', 0, 1, NULL, unhex('00ff0a5c09'), [('h', unhex('00fe'))], 'bad_utf8', '', 'x')")
    raw = {"route__orders": {"topics": "orders", "table": "orders", "id": "'7'", "amount": "'1'", "event_id": "header.h", "raw": "kafka.value"}}
    shown = run(place, "show", "--json", "--stage", "insert", **raw)
    assert json.loads(shown.stdout)["dead_letters"][0]["key"] is None
    result = run(place, "retry", "--all", "--stage", "insert", **raw)
    assert result.returncode == 0, result.stdout + result.stderr
    assert place.clickhouse("SELECT hex(raw), hex(event_id) FROM {db}.orders").split() == ["00FF0A5C09", "00FE"]


def test_headers_that_are_no_text_can_be_listed_and_command_no_terminal(place):
    orders(place)
    letter(place, 1, '{"id": 1, "amount": 1}', headers="[('event_type', unhex('ff1b5d')), ('event_id', unhex('1b5d303b780a07c29b'))]")
    letter(place, 2, '{"id": 2, "amount": 2}')
    found = run(place, "list", "--json", "--stage", "insert", **ROUTE)
    assert found.returncode == 0, found.stderr
    first, second = json.loads(found.stdout)["dead_letters"]
    assert first["event_type"] == "hex:ff1b5d" and first["event_id"] == "\x1b]0;x\n\x07\x9b"
    assert second["event_type"] == "order.created"
    lines = run(place, "list", "--stage", "insert", **ROUTE).stdout.splitlines()
    assert len(lines) == 2 and "hex:ff1b5d" in lines[0]
    shown = run(place, "show", "--stage", "insert", "--id", first["id"], **ROUTE).stdout
    assert not set(shown) & {"\x1b", "\x07", "\x9b"} and r"event_id         \u001b]0;x\n\u0007\u009b" in shown.splitlines(), shown
    done = run(place, "retry", "--all", "--stage", "insert", **ROUTE)
    assert done.returncode == 0 and "2 put back" in done.stdout, done.stdout + done.stderr


def test_a_letter_with_what_its_table_has_no_column_for_any_more_stays(place):
    put_aside(place)
    letter, = listed(place)
    number = letter["id"].partition(":")[2]
    as_admin(place, "ALTER TABLE public.outbox_events RENAME payload TO body")
    result = run(place, "retry", "--all", "--stage", "publish")
    assert result.returncode == 1 and listed(place) == [letter]
    assert f"dead letter {number} has what table public.outbox_events has no column for: payload" in result.stderr, result.stderr
    statements = re.findall("UPDATE [^;]*;", result.stderr)
    assert len(statements) == 2 and all(f"WHERE dead_letter_id = {number};" in statement for statement in statements), result.stderr
    as_admin(place, statements[0].replace("new_name", "body"))
    assert run(place, "retry", "--all", "--stage", "publish").returncode == 0
    assert place.execute("SELECT body FROM outbox_events") == [({"n": 1},)]


def test_a_value_that_does_not_fit_any_more_is_not_quoted(place):
    put_aside(place)
    as_admin(place, "UPDATE public.outbox_dead_letters SET event = jsonb_set(event, '{aggregate_id}', to_jsonb(e'\\x1b]0;title\\x07somebody@example.com'::text))")
    result = run(place, "retry", "--all", "--stage", "publish")
    assert result.returncode == 1
    assert "stays: " in result.stderr and "invalid input syntax for type uuid: ..." in result.stderr
    assert "\x1b" not in result.stderr and "example.com" not in result.stderr


def test_a_table_of_an_odd_name_takes_the_letters(place):
    place.clickhouse("CREATE TABLE {db}.`my letters` AS {db}.outbox_relay_dead_letters")
    place.clickhouse("CREATE TABLE {db}.`my numbers` (n Int32, kafka_topic String, kafka_partition Int32, kafka_offset Int64) "
                     "ENGINE = MergeTree ORDER BY kafka_offset")
    odd = {"insert": {"dead_letter_table": "`my letters`"},
           "route__numbers": {"topics": f"{place.prefix}.post.events", "table": "`my numbers`", "n": "$.n"}}
    relay = place.relay(**odd)
    place.insert_event(payload='{"n": "many"}')
    place.insert_event(payload='{"n": 1}')
    relay.wait(lambda: place.clickhouse_rows("`my letters`") == 1, "a dead letter", 60)
    relay.wait(lambda: place.clickhouse_rows("`my numbers`") == 1, "a row", 60)
    assert relay.stop() == 0
    found = run(place, "list", "--json", "--stage", "insert", **odd)
    assert [one["place"] for one in json.loads(found.stdout)["dead_letters"]] == ["my numbers"], found.stderr
    config = write_config(os.path.join(place.folder, "letters.ini"), place.sections(**odd))
    status = json.loads(command("status", "--json", config=config, binary=place.binary).stdout)
    assert [one["events"] for one in status["dead_letters"] if one["stage"] == "insert"] == [1]
    assert {"table": "my numbers", "rows": 1} in status["tables"]
    place.clickhouse("ALTER TABLE {db}.`my numbers` MODIFY COLUMN n String SETTINGS mutations_sync = 1")
    done = run(place, "retry", "--all", "--stage", "insert", **odd)
    assert done.returncode == 0 and "1 put back" in done.stdout, done.stdout + done.stderr
    assert place.clickhouse_rows("`my numbers`") == 2 and place.clickhouse_rows("`my letters`") == 0


def test_a_stage_that_is_down_does_not_hide_the_other(place):
    event = put_aside(place)
    result = run(place, "list", "--json", clickhouse={"url": "http://127.0.0.1:1"})
    assert result.returncode == 1 and "insert stage" in result.stderr
    assert [found["event_id"] for found in json.loads(result.stdout)["dead_letters"]] == [event]


def test_a_server_that_does_not_answer_is_waited_for_as_long_as_configured(no_place):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} dbname=x user=y"
        result = run(no_place, "list", "--stage", "publish", postgres={"dsn": dsn, "acquire_timeout": "50ms", "connect_timeout": "5m"})
        assert result.returncode == 1 and "acquire_timeout" in result.stderr


def test_bad_usage_is_told(no_place):
    for arguments, words in ((["list", "--id", "17"], "no dead letter's id"), (["list", "--since", "soon"], "no time"),
                             (["list", "--stage", "both"], "--stage"), (["forget"], "forget"), ([], "list, show, retry"),
                             (["list", "--limit", "0"], "--limit")):
        result = run(no_place, *arguments)
        assert result.returncode == 2 and words in result.stderr, (arguments, result.stderr)
