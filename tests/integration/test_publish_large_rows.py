# SPDX-License-Identifier: Apache-2.0
"""Rows that are larger than the relay's memory: they are judged where they lie, and nothing else stops for them."""
import resource

import pytest

from benchmark.machine import memory_mib
from publishing import Transaction, as_admin, assert_order, dead_letters, publishing, wait_ids
from relaytools.relay import wait_until

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
