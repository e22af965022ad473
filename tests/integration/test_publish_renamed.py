# SPDX-License-Identifier: Apache-2.0
"""Columns that a migration of the application renames or drops under the relay."""
import pytest

from checking import fails
from migrating import run
from publishing import assert_ids, publishing, wait_ids

KEPT = "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload, published_at) " \
       "SELECT 'post', gen_random_uuid(), 'post.created', '{}', now() + interval '1 minute' FROM generate_series(1, 50)"


def failures(relay):
    return [one["error"] for one in relay.events("publish.term_failed")]


LOST = "table public.outbox_events had a column published_at when it was attached, and has none"
OTHER = LOST.replace("none", "another one")


def told_what_is_lost(relay, lost=LOST):
    return sum(lost in error and "SELECT outbox_relay.accept_unmarked('public.outbox_events')" in error for error in failures(relay))


def says_what_is_lost(relay, times=1, lost=LOST):
    relay.wait(lambda: told_what_is_lost(relay, lost) >= times, "the outbox is stopped, and says why")


@pytest.mark.postgres_versions
@pytest.mark.parametrize("disposition", ["delete", "mark"])
@pytest.mark.parametrize("change", ["RENAME published_at TO sent_at", "DROP COLUMN published_at CASCADE"], ids=["renamed", "dropped"])
def test_what_was_published_stays_published_when_the_column_that_says_so_is_gone(place, change, disposition):
    """Also where the index is made that is missed then, and the relay is started anew."""
    place.execute(KEPT)
    relay = publishing(place, outbox={"disposition": disposition})
    events = [place.insert_event() for _ in range(5)]
    place.wait_published()
    place.execute(f"ALTER TABLE public.outbox_events {change}")
    says_what_is_lost(relay)
    waiting = place.insert_event()
    place.execute("CREATE UNIQUE INDEX ON public.outbox_events (seq)")
    assert relay.stop() == 0
    told = told_what_is_lost(relay)
    relay.start(ready=False)
    says_what_is_lost(relay, told + 1)
    assert_ids(place, events)
    kept = 50 if disposition == "delete" else 55
    assert place.execute("SELECT count(*) FROM public.outbox_events") == [(kept + 1,)]
    if "RENAME" in change:
        place.execute("ALTER TABLE public.outbox_events RENAME sent_at TO published_at")
    elif disposition == "delete":
        place.execute("DELETE FROM public.outbox_events WHERE id <> %s::uuid", waiting)
        place.execute("SELECT outbox_relay.accept_unmarked('public.outbox_events')")
    else:
        return
    wait_ids(place, [waiting])
    assert_ids(place, events + [waiting])


@pytest.mark.postgres_versions
def test_what_was_published_stays_published_when_the_column_that_says_so_is_made_anew(place):
    """In one transaction, as migrations do to change a type: no statement misses it. Also where the relay is started anew."""
    place.execute(KEPT)
    relay = publishing(place)
    events = [place.insert_event() for _ in range(5)]
    place.wait_published()
    place.execute("ALTER TABLE public.outbox_events DROP COLUMN published_at CASCADE, ADD COLUMN published_at timestamptz; "
                  "CREATE UNIQUE INDEX ON public.outbox_events (seq) WHERE published_at IS NULL")
    waiting = place.insert_event()
    says_what_is_lost(relay, lost=OTHER)
    assert relay.stop() == 0
    told = told_what_is_lost(relay, OTHER)
    relay.start(ready=False)
    says_what_is_lost(relay, told + 1, OTHER)
    for arguments in ("--dry-run",), ():
        refused = run(place, "postgres", *arguments)
        assert refused.returncode == 1 and OTHER in refused.stderr, refused.stderr
    fails(place, OTHER.split("public.outbox_events ")[1])
    assert_ids(place, events)
    place.execute("UPDATE public.outbox_events SET published_at = now() + interval '1 minute' WHERE id <> %s::uuid", waiting)
    place.execute("SELECT outbox_relay.accept_unmarked('public.outbox_events')")
    wait_ids(place, [waiting])
    assert_ids(place, events + [waiting])


def test_the_time_and_the_number_of_an_outbox_are_renamed(place):
    """migrate attaches the table again; before it has run, the outbox stops for the number, and says so of the time."""
    relay = publishing(place)
    first = place.insert_event()
    wait_ids(place, [first])
    assert relay.stop() == 0
    place.execute("ALTER TABLE public.outbox_events RENAME created_at TO occurred_at")
    renamed = {"column.created_at": "occurred_at"}
    relay = publishing(place, "time", outbox=renamed)
    events = [first, place.insert_event()]
    wait_ids(place, events)
    told, = relay.events("publish.other_created_at")
    assert (told["registered"], told["configured"]) == ("created_at", "occurred_at")
    assert relay.stop() == 0
    place.execute("ALTER TABLE public.outbox_events RENAME seq TO number")
    renamed["column.seq"] = "number"
    relay = publishing(place, "number", start=False, outbox=renamed)
    relay.start(ready=False)
    relay.wait(lambda: any("attach_outbox('public.outbox_events', 'number', 'occurred_at')" in error for error in failures(relay)), "it stops", 60)
    events.append(place.insert_event())
    assert "would attach table public.outbox_events of outbox default again" in run(place, "postgres", "--dry-run", outbox=renamed).stdout
    done = run(place, "postgres", outbox=renamed)
    assert done.returncode == 0 and "outbox default: table public.outbox_events attached again" in done.stdout, done.stdout + done.stderr
    assert "roles.sql" not in done.stdout
    assert sorted(wait_ids(place, events)) == sorted(events)
    assert relay.events("publish.other_created_at") == []
    again = run(place, "postgres", outbox=renamed)
    assert again.returncode == 0 and "attached" not in again.stdout, again.stdout
    place.execute("ALTER TABLE public.outbox_events RENAME published_at TO sent_at")
    for arguments in ("--dry-run",), ():
        refused = run(place, "postgres", *arguments, outbox=renamed)
        assert refused.returncode == 1 and "had a column published_at when it was attached, and has none" in refused.stderr, refused.stderr


def test_a_relay_publishes_from_the_schema_before(place):
    """Which has no word of it whether a table marks."""
    assert run(place, "postgres", "down", "--to", "21").returncode == 0
    relay = publishing(place)
    assert "would attach" not in run(place, "postgres", "--dry-run").stdout
    events = [place.insert_event() for _ in range(5)]
    assert sorted(wait_ids(place, events)) == sorted(events)
    place.wait_published()
    assert relay.events("publish.other_created_at") == [] and failures(relay) == []
