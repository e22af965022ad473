# SPDX-License-Identifier: Apache-2.0
"""Rows that are larger than the relay's memory: they are judged where they lie, and nothing else stops for them."""
import resource

import pytest

from benchmark.machine import memory_mib
from publishing import Transaction, as_admin, assert_order, dead_letters, publishing, wait_ids
from relaytools.relay import command, wait_until

AGGREGATE = "44444444-4444-4444-4444-444444444444"
# Of the process: what it has and 250 MB more do not fit.
MEMORY = 400 << 20
# Above batch_bytes and eight times message.max.bytes.
LARGE = 20000000


def insert_large(place, size=LARGE, column="payload", table="public.outbox_events"):
    """Made by the server; it compresses well, as a document of a tenant may."""
    payload = f"jsonb_build_object('a', repeat('x', {size}))"
    columns = {"payload": "'{}'", "metadata": "NULL", column: payload}
    return place.execute(f"INSERT INTO {table} (aggregate_type, aggregate_id, event_type, payload, metadata) "
                         f"SELECT 'post', %s, 'post.updated', {columns['payload']}, {columns['metadata']} RETURNING id::text", AGGREGATE)[0][0]


def wait_dead(place, wanted, seconds=120):
    """They are dead letters, and were not read."""
    wait_until(lambda: set(dead_letters(place)) == set(wanted), "the dead letters", seconds)
    for code, text in dead_letters(place).values():
        assert code == "too_large" and "is not read" in text


@pytest.mark.parametrize("guarantee, disposition", (("exactly_once", "delete"), ("at_least_once", "mark")))
def test_a_row_that_is_larger_than_the_relays_memory_stops_nobody(place, guarantee, disposition):
    place.execute("SELECT outbox_relay.create_outbox('public.second')")
    relay = publishing(place, publish={"guarantee": guarantee}, outbox={"disposition": disposition}, outbox__second={"table": "public.second"})
    wait_ids(place, [place.insert_event(), place.insert_event(table="public.second")])
    resource.prlimit(relay.process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
    small = [place.insert_event()]
    large = insert_large(place, 250000000)
    small += [place.insert_event() for _ in range(3)]
    wait_ids(place, small, 240)
    wait_ids(place, [place.insert_event(table="public.second")])
    wait_dead(place, [large], 240)
    wait_ids(place, [place.insert_event()])
    assert memory_mib(relay.process.pid) < 200
    assert not relay.events("publish.term_failed")
    assert not relay.events("publish.rows_kept")


@pytest.mark.postgres_versions
@pytest.mark.parametrize("kind", ("text", "bytea", "json", "jsonb"))
def test_no_column_of_any_type_brings_a_large_row_into_memory(place, kind):
    place.execute(f"CREATE TABLE public.own (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, owner text, kind text NOT NULL, body {kind},"
                  f" note {kind}, extra text, published_at timestamptz)")
    place.execute("SELECT outbox_relay.attach_outbox('public.own', 'n', 'n')")
    quote = '"' if kind.startswith("json") else ""
    value = f"'{quote}' || repeat('x', {LARGE}) || '{quote}'"
    small = "'{}'"
    for name, column in (("body", "body"), ("note", "note"), ("owner", "owner"), ("kind", "kind"), ("extra", "extra")):
        of_kind = column in ("body", "note")
        large = f"({value})::{kind}" if of_kind and kind != "bytea" else f"convert_to({value}, 'UTF8')" if of_kind else f"repeat('x', {LARGE})"
        columns = {"owner": "NULL", "kind": "'post.created'", "body": small, "note": "NULL", "extra": "NULL", column: large}
        place.execute(f"INSERT INTO public.own (name, {', '.join(columns)}) SELECT 'before ' || '{name}', NULL, 'post.created', '{{}}', NULL, NULL")
        place.execute(f"INSERT INTO public.own (name, {', '.join(columns)}) SELECT '{name}', {', '.join(columns.values())}")
    place.execute("INSERT INTO public.own (name, owner, kind, body, note, extra) VALUES ('last', repeat('o', 5000), 'post.created', '{}', NULL, 'e')")
    relay = publishing(place, publish={"additional": "extra:header"}, outbox={
        "table": "public.own", "disposition": "mark", "column.seq": "n", "column.id": "name", "column.key": "owner", "column.type": "kind",
        "column.aggregate_type": "none", "column.payload": "body", "column.metadata": "note", "column.created_at": "none"})
    numbers = {str(row[0]): row[1] for row in place.execute("SELECT n, name FROM public.own")}
    wait_ids(place, [name for name in numbers.values() if name.startswith("before") or name == "last"], 120)
    wait_until(lambda: place.execute("SELECT count(*) FROM public.outbox_dead_letters")[0][0] == 5, "the dead letters", 120)
    assert {row[0] for row in place.execute("SELECT event->>'name' FROM public.outbox_dead_letters")} == {"body", "note", "owner", "kind", "extra"}
    assert all("is not read" in text for _, text in dead_letters(place).values())
    assert memory_mib(relay.process.pid) < 200


def test_a_large_row_that_commits_late_is_judged_in_its_place(place):
    relay = publishing(place)
    late = Transaction(place)
    first = late.insert(aggregate=AGGREGATE)
    with late.connection.cursor() as cursor:
        cursor.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, metadata) "
                       f"SELECT 'post', %s, 'post.updated', '{{}}', jsonb_build_object('a', repeat('x', {LARGE})) RETURNING id::text", (AGGREGATE,))
        large = cursor.fetchone()[0]
    second = late.insert(aggregate=AGGREGATE)
    wait_ids(place, [place.insert_event()])
    relay.wait(lambda: relay.metric("outbox_holes") > 0, "their numbers are missed")
    late.end()
    wait_dead(place, [large])
    assert_order(place, [first, second])


def test_many_large_rows_are_judged_while_the_others_go_on(place):
    publishing(place, publish={"prefix": place.prefix})
    wanted, small = [], []
    for _ in range(12):
        wanted.append(insert_large(place, column="metadata"))
        small.append(place.insert_event(aggregate=AGGREGATE))
    wait_ids(place, small, 120)
    wait_dead(place, wanted)


def test_an_aggregate_waits_behind_its_large_row(place):
    relay = publishing(place, publish={"on_poison": "hold_aggregate"})
    large = insert_large(place)
    behind = place.insert_event(aggregate=AGGREGATE)
    wait_ids(place, [place.insert_event()])
    relay.wait(lambda: relay.metric("held_aggregates") == 1, "it is held")
    assert not dead_letters(place)
    as_admin(place, f"DELETE FROM public.outbox_events WHERE id = '{large}'")
    wait_ids(place, [behind])


def test_a_large_row_stops_an_outbox_that_wants_to_be_stopped(place):
    relay = publishing(place, start=False, publish={"on_poison": "stop"})
    before = place.insert_event()
    insert_large(place)
    relay.start(ready=False)
    wait_ids(place, [before])
    relay.wait(lambda: any("on_poison = stop" in one["error"] and "is not read" in one["error"] for one in relay.events("publish.term_failed")),
               "the term ends at it")


def insert_numbers(place, count, number="1e131071", aggregate=AGGREGATE, rows=1):
    """Documents of 12 bytes a number, in PostgreSQL; each number has 131,072 digits where it is printed. Ids in the order of their numbers."""
    return [row[0] for row in place.execute(
        "WITH made AS (INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) SELECT 'post', %s, 'post.updated', "
        "(SELECT jsonb_agg(%s::jsonb) FROM generate_series(1, %s)) FROM generate_series(1, %s) RETURNING id::text, seq) SELECT id FROM made ORDER BY seq",
        aggregate, number, count, rows)]


@pytest.mark.parametrize("disposition, poison", (("delete", "dead_letter"), ("mark", "hold_aggregate")))
def test_a_row_that_is_longer_as_a_text_than_postgresql_can_make_one_stops_nobody(place, disposition, poison):
    """A gigabyte is the most."""
    relay = publishing(place, start=False, outbox={"disposition": disposition}, publish={"on_poison": poison})
    small = [place.insert_event()]
    large, = insert_numbers(place, 8200)
    behind = place.insert_event(aggregate=AGGREGATE)
    small.append(place.insert_event())
    relay.start()
    wait_ids(place, small, 240)
    assert len(relay.events("publish.term_started")) == 1 and not relay.events("publish.term_failed"), relay.log_tail(400)
    if poison == "dead_letter":
        wait_dead(place, [large])
        wait_ids(place, [behind])
        shown = command("dead-letters", "show", config=relay.config, binary=place.binary)
        assert shown.returncode == 0 and large in shown.stdout, shown.stdout + shown.stderr
        return
    relay.wait(lambda: relay.metric("held_aggregates") == 1, "it is held")
    assert place.execute("SELECT aggregate_id, reason_code FROM outbox_relay.held_aggregates") == [(AGGREGATE, "too_large")]
    assert not dead_letters(place)
    place.execute("UPDATE public.outbox_events SET payload = '[1]' WHERE id = %s::uuid", large)
    wait_ids(place, [large, behind], 90)


def test_a_row_that_is_longer_as_a_text_than_postgresql_can_make_one_stops_an_outbox_by_its_number(place):
    before = place.insert_event()
    large, = insert_numbers(place, 8200)
    seq, = place.execute("SELECT seq FROM public.outbox_events WHERE id = %s::uuid", large)[0]
    relay = publishing(place, start=False, publish={"on_poison": "stop"})
    relay.start(ready=False)
    wait_ids(place, [before], 120)
    relay.wait(lambda: any(f"row {seq} cannot be published (too_large)" in one["error"] for one in relay.events("publish.term_failed")), "the row is named")


def test_rows_that_are_far_longer_as_texts_come_one_by_one(place):
    """Together they would take more than a gigabyte."""
    relay = publishing(place, start=False)
    small = [place.insert_event()]
    large = insert_numbers(place, 50, rows=100)
    small.append(place.insert_event())
    larger = insert_numbers(place, 80, rows=50)
    whole = insert_numbers(place, 5, "1e100000", rows=20)
    small.append(place.insert_event())
    relay.start(ready=False)
    resource.prlimit(relay.process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
    wait_ids(place, [*small, *whole], 120)
    wait_until(lambda: set(dead_letters(place)) == {*large, *larger}, "the dead letters", 120)
    found = dead_letters(place)
    assert all(found[one][0] == "too_large" and "message.max.bytes is" in found[one][1] for one in large)
    assert all(found[one][0] == "too_large" and "is not read" in found[one][1] for one in larger)
    payloads = {record[0]: record[4] for record in place.records()}
    assert {payloads[one] for one in whole} == {b"[" + b", ".join([b"1" + b"0" * 100000] * 5) + b"]"}
    assert memory_mib(relay.process.pid) < 200
    failed, = relay.events("publish.term_failed")
    assert "the answer to a statement took more than" in failed["error"], relay.log_tail(400)


@pytest.mark.postgres_versions
def test_a_value_whose_text_is_far_longer_than_the_row_is_published_whole_whatever_its_type(place):
    place.execute("CREATE DOMAIN public.document AS jsonb")
    place.execute("CREATE TABLE public.own (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, kind text DEFAULT 'post.created', owner numeric, "
                  "body public.document, note numeric, list numeric[], doc jsonb, trace uuid DEFAULT gen_random_uuid())")
    place.execute("SELECT outbox_relay.attach_outbox('public.own', 'n', 'none')")
    for name, number in zip("1234", ("7", "1e3000", None, "1e3001")):
        place.execute("INSERT INTO public.own (name, owner, body, note, list, doc) SELECT %s, x, to_jsonb(x), x, CASE WHEN x > 0 THEN ARRAY[x, x] END, to_jsonb(x) "
                      "FROM (SELECT %s::numeric) v (x)", name, number)
    publishing(place, publish={"additional": "note:header, list:header, doc:header"}, outbox={
        "table": "public.own", "column.seq": "n", "column.id": "name", "column.key": "owner", "column.type": "kind", "column.aggregate_type": "none",
        "column.payload": "body", "column.metadata": "trace", "column.created_at": "none"})
    wait_ids(place, ["1", "2", "3", "4"])
    texts = dict(zip("1234", (b"7", b"1" + b"0" * 3000, None, b"1" + b"0" * 3001)))
    found = {record[0]: (record[6], record[4], record[5].get("note"), record[5].get("list"), record[5].get("doc")) for record in place.records()}
    assert found == {one: (text, text if text else b"null", text, b"{%s,%s}" % (text, text) if text else None, text) for one, text in texts.items()}
