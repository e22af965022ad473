# SPDX-License-Identifier: Apache-2.0
"""Tables with materialized views: an INSERT that loses its sender leaves no view behind."""
import signal
import threading

import pytest

from inserting import (Sender, committed, counts, dead_letters, fnv, group_of, inserting, paused, post, run_under, settle, wait_counts,
    wait_pause_reason)
from publishing import crash_at, use_test_points
from relaytools.proxy import TO_SERVER, Proxy
from relaytools.relay import wait_until

EVENTS = 100000  # one INSERT of more rows than the blocks in which ClickHouse reads


def one_batch(count):
    """So many rows are one INSERT, which goes when all of them are there, however late the last ones are read."""
    return {"batch_rows": str(count), "batch_bytes": "64MiB", "linger": "15s"}


def make_views(place, trouble):
    """A view that is no trouble, and one that is until the switch has a row; both fill tables that would show doubles."""
    place.clickhouse("CREATE TABLE {db}.switch (x UInt8) ENGINE = TinyLog")
    for name, column in (("smooth", "0"), ("rough", trouble)):
        place.clickhouse(f"CREATE TABLE {{db}}.{name} (seq UInt64, part UInt8, zero UInt8) ENGINE = MergeTree PARTITION BY part "
            "ORDER BY seq SETTINGS non_replicated_deduplication_window = 1000")
        place.clickhouse(f"CREATE MATERIALIZED VIEW {{db}}.{name}_view TO {{db}}.{name} AS "
            f"SELECT seq, seq % 3 AS part, {column} AS zero FROM {{db}}.outbox_events")
    # Whoever does not know the INSERT takes a table that was altered in the second of its note for one that may have forgotten it.
    wait_until(lambda: place.clickhouse("SELECT now() > max(metadata_modification_time) FROM system.tables WHERE database = '{db}'") == "1\n",
               "a second begins in which no table was made")


FAILS = "throwIf(seq = 7 AND (SELECT count() FROM {db}.switch) = 0, 'a view of the user fails')"
LASTS = "(SELECT sum(sleepEachRow(0.1)) FROM numbers(1000) WHERE (SELECT max(x) FROM {db}.switch) = 2 SETTINGS max_block_size = 1)"
SLEEPS = "if((SELECT count() FROM {db}.switch) = 0, sleep(3), 0)"


def repair(place):
    place.clickhouse("INSERT INTO {db}.switch VALUES (1)")


def view_counts(place):
    return [tuple(int(number) for number in place.clickhouse(f"SELECT count(), uniqExact(seq) FROM {{db}}.{name}").split())
        for name in ("smooth", "rough")]


def wait_whole(place, count):
    wait_counts(place, count)
    wait_until(lambda: view_counts(place) == [(count, count)] * 2, "the views whole")


def all_committed(place, count):
    wait_until(lambda: sum(committed(place, post(place), 4).values()) == count, "all committed")


def left_behind(place, relay, count):
    """The rows are stored, a view has refused them, and their sender is dead."""
    Sender(place).events(post(place), count).flush()
    relay.start()
    relay.wait(lambda: paused(relay), "the table paused", 60)
    relay.kill()
    assert counts(place) == (count, count)
    assert view_counts(place)[1] == (0, 0)


def test_the_next_owner_completes_a_view_that_a_killed_one_left_behind(place):
    make_views(place, FAILS)
    relay = inserting(place, start=False, insert=one_batch(EVENTS))
    left_behind(place, relay, EVENTS)
    repair(place)
    relay.start()
    wait_whole(place, EVENTS)
    all_committed(place, EVENTS)
    assert relay.events("insert.views_completed") and not relay.events("insert.views_behind")
    Sender(place).events(post(place), 1000, number=EVENTS + 1).flush()
    wait_counts(place, EVENTS + 1000)
    assert relay.stop() == 0


def refused_by_a_new_view(place):
    """The table was read before the view was made, whose first version fails."""
    relay = inserting(place, insert=one_batch(20))
    # Not a multiple of the batch: behind a full one the rest would go at once, and the next rows in more than one INSERT.
    Sender(place).events(post(place), 93, number=1000).flush()
    wait_counts(place, 93)
    make_views(place, FAILS)
    Sender(place).events(post(place), 20).flush()
    relay.wait(lambda: len(relay.events("insert.table_paused")) >= 2, "the table paused, and tried again", 60)
    assert counts(place) == (113, 113) and view_counts(place)[1] == (0, 0)
    return relay


def test_the_first_insert_that_a_new_view_refuses_is_repeated_for_it(place):
    relay = refused_by_a_new_view(place)
    repair(place)
    wait_until(lambda: view_counts(place) == [(20, 20)] * 2, "the views whole", 60)
    all_committed(place, 113)
    assert counts(place) == (113, 113)
    assert not relay.events("insert.views_behind") and relay.series("views_behind_total", table="outbox_events") == [0]
    assert relay.stop() == 0


def test_the_next_owner_completes_a_new_view(place):
    relay = refused_by_a_new_view(place)
    relay.kill()
    repair(place)
    relay.start()
    wait_until(lambda: view_counts(place) == [(20, 20)] * 2, "the views whole", 60)
    all_committed(place, 113)
    assert counts(place) == (113, 113)
    assert relay.events("insert.views_completed") and not relay.events("insert.views_behind")
    assert relay.stop() == 0


def test_a_profile_that_deduplicates_nothing_and_ignores_failing_views_changes_nothing(place):
    """Neither what is repeated while the view fails, nor what the next owner repeats for it, is doubled or left out."""
    make_views(place, FAILS)
    relay = inserting(place, start=False, insert=one_batch(4000), clickhouse={"user": place.servers.env["CLICKHOUSE_ODD_USER"]})
    Sender(place).events(post(place), 4000).flush()
    relay.start()
    relay.wait(lambda: len(relay.events("insert.table_paused")) >= 2, "the table paused, and tried again", 120)
    relay.kill()
    assert counts(place) == (4000, 4000)
    repair(place)
    relay.start()
    wait_whole(place, 4000)
    all_committed(place, 4000)
    assert relay.events("insert.views_completed") and not relay.events("insert.views_behind")
    assert relay.stop() == 0


def test_a_relay_that_stops_leaves_no_repetition_running(place):
    make_views(place, f"{FAILS} + {LASTS}")
    relay = inserting(place, start=False, insert=one_batch(4000))
    left_behind(place, relay, 4000)
    place.clickhouse("INSERT INTO {db}.switch VALUES (2)")
    relay.start()

    def running():
        return place.clickhouse("SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO `{db}`.`outbox_events`%SELECT%FROM `{db}`%'")
    wait_until(lambda: running() == "1\n", "the repetition under way", 60)
    assert relay.stop() == 0
    wait_until(lambda: running() == "0\n", "it killed", 20)
    place.clickhouse("INSERT INTO {db}.switch VALUES (3)")
    relay.start()
    wait_whole(place, 4000)
    all_committed(place, 4000)
    assert relay.events("insert.views_completed") and not relay.events("insert.views_behind")
    assert relay.stop() == 0


def test_two_owners_of_its_partitions_complete_it_once(place):
    make_views(place, FAILS)
    relay = inserting(place, start=False, insert=one_batch(4000))
    left_behind(place, relay, 4000)
    repair(place)
    owners = [inserting(place, name, insert=one_batch(4000)) for name in ("one", "two")]
    wait_whole(place, 4000)
    all_committed(place, 4000)
    assert any(owner.events("insert.views_completed") for owner in owners)
    assert not any(owner.events("insert.views_behind") for owner in owners)
    assert [owner.stop() for owner in owners] == [0, 0]


def test_who_has_lost_the_partition_repeats_nothing(place):
    """A note of an INSERT that was never sent. Its first reader loses the partition before it has looked for the rows; those that it
    finds then are the next owner's, under another token."""
    make_views(place, "0")
    sender = inserting(place, start=False, insert=one_batch(1000))
    use_test_points(sender)
    Sender(place).events(post(place), 1000, partition=0).flush()
    crash_at(sender, "insert.after_note")
    assert counts(place) == (0, 0)

    query_id = f"outbox-relay-{fnv(group_of(place)):08x}-{fnv(place.name + '.outbox_events'):08x}-former-owner"
    former = threading.Thread(target=run_under, args=(place, query_id, "SELECT sleepEachRow(0.5) FROM numbers(1000)"))
    former.start()
    wait_until(lambda: place.clickhouse(f"SELECT count() FROM system.processes WHERE query_id = '{query_id}'") == "1\n", "it runs")
    host, port = place.servers.clickhouse_url.split("//")[1].split(":")
    proxy = Proxy((host, int(port)), kind="http")
    try:
        first = inserting(place, "first", insert=one_batch(1000), clickhouse={"url": f"http://127.0.0.1:{proxy.port}"})
        first.wait(lambda: first.events("insert.assigned"), "it owns the partition", 60)
        before = proxy.moved[TO_SERVER]
        wait_until(lambda: proxy.moved[TO_SERVER] > before + 20000, "it asks again and again whether that still runs", 60)
        first.signal(signal.SIGSTOP)
        other = inserting(place, "other", insert=one_batch(1000), clickhouse={"request_timeout": "2s"})
        wait_whole(place, 1000)
        first.signal(signal.SIGCONT)
        first.wait(lambda: first.events("insert.revoked"), "it learns that it has lost the partition", 60)
        settle(3)
        wait_whole(place, 1000)
        all_committed(place, 1000)
        assert not first.events("insert.views_completed")
        assert first.stop() == 0 and other.stop() == 0
    finally:
        proxy.close()
        former.join()


def test_a_note_is_of_no_use_when_the_views_are_gone(place):
    """Its INSERT was never sent, the views were dropped, and the rows that are there are the next owner's, which needs no note."""
    make_views(place, "0")
    relay = inserting(place, start=False, insert=one_batch(1000))
    use_test_points(relay)
    Sender(place).events(post(place), 1000, partition=0).flush()
    crash_at(relay, "insert.after_note")
    for name in ("smooth", "rough"):
        place.clickhouse(f"DROP VIEW {{db}}.{name}_view")
    crash_at(relay, "insert.after_rows")
    assert counts(place) == (1000, 1000)
    relay.start()
    all_committed(place, 1000)
    assert counts(place) == (1000, 1000)
    assert not relay.events("insert.views_completed")
    assert relay.stop() == 0


def test_the_next_owner_pauses_while_the_view_still_fails(place):
    make_views(place, FAILS)
    relay = inserting(place, start=False, insert=one_batch(4000))
    left_behind(place, relay, 4000)
    for _ in range(2):  # the note outlives owners that cannot do it
        relay.start()
        relay.wait(lambda: paused(relay), "the table paused")
        relay.kill()
    repair(place)
    relay.start()
    wait_whole(place, 4000)
    all_committed(place, 4000)
    assert relay.stop() == 0


def test_a_rebalance_while_the_view_fails(place):
    """The paused INSERT has rows of partitions that go to another member, which must do it as well as the one that stays."""
    make_views(place, FAILS)
    relay = inserting(place, insert=one_batch(4000))
    Sender(place).events(post(place), 4000).flush()
    relay.wait(lambda: paused(relay), "the table paused")
    other = inserting(place, "other", insert=one_batch(4000))
    relay.wait(lambda: other.events("insert.assigned") and relay.events("insert.revoked"), "the partitions shared", 60)
    repair(place)
    wait_whole(place, 4000)
    all_committed(place, 4000)
    assert relay.stop() == 0 and other.stop() == 0


@pytest.mark.parametrize("widened", (False, True))
def test_a_token_that_may_be_forgotten_is_not_sent_again(place, widened):
    make_views(place, FAILS)
    relay = inserting(place, start=False, insert=one_batch(4000))
    left_behind(place, relay, 4000)
    repair(place)
    place.clickhouse("ALTER TABLE {db}.outbox_events MODIFY SETTING non_replicated_deduplication_window = 1")
    if widened:     # nothing tells by now that it was small, and has forgotten
        place.clickhouse("INSERT INTO {db}.outbox_events (event_type, kafka_topic) VALUES ('by.hand', 'none')")
        place.clickhouse("ALTER TABLE {db}.outbox_events MODIFY SETTING non_replicated_deduplication_window = 1000")
    before = counts(place), view_counts(place)
    relay.start()
    all_committed(place, 4000)
    assert (counts(place), view_counts(place)) == before
    told = relay.events("insert.views_behind")
    assert told and "outbox_events" in told[0]["why"] and "forgotten" in told[0]["why"]
    relay.wait(lambda: relay.metric("views_behind_total", table="outbox_events") > 0, "it is counted")
    assert relay.stop() == 0


def fill(place, table, blocks):
    """By hand, each row as a block of its own."""
    place.clickhouse(f"INSERT INTO {{db}}.{table} (seq) SELECT 1000000 + number FROM numbers({blocks}) SETTINGS max_block_size = 1, "
        "min_insert_block_size_rows = 1, min_insert_block_size_bytes = 1, max_threads = 1, max_insert_threads = 1, "
        "optimize_trivial_insert_select = 0")


def test_blocks_from_before_an_insert_do_not_count(place):
    """A merge has made them one part with the INSERT's own."""
    make_views(place, FAILS)
    place.clickhouse("ALTER TABLE {db}.smooth MODIFY SETTING non_replicated_deduplication_window = 100")
    fill(place, "smooth", 150)
    assert int(place.clickhouse("SELECT max(max_block_number) FROM system.parts WHERE database = '{db}' AND table = 'smooth'")) >= 150
    relay = inserting(place, insert=one_batch(4000))
    Sender(place).events(post(place), 4000).flush()
    relay.wait(lambda: len(relay.events("insert.table_paused")) >= 2, "the table paused, and tried again", 60)
    place.clickhouse("OPTIMIZE TABLE {db}.smooth FINAL")
    repair(place)
    wait_counts(place, 4000)
    wait_until(lambda: view_counts(place) == [(4150, 4150), (4000, 4000)], "the views whole", 60)
    all_committed(place, 4000)
    assert not relay.events("insert.views_behind") and relay.series("views_behind_total", table="outbox_events") == [0]
    assert relay.stop() == 0


def test_a_relay_that_lives_does_not_repeat_what_may_be_forgotten_either(place):
    """Nor does it feed the view that may still fail: the table stays paused."""
    make_views(place, FAILS)
    place.clickhouse("ALTER TABLE {db}.outbox_events MODIFY SETTING non_replicated_deduplication_window = 10")
    relay = inserting(place, insert=one_batch(4000))
    Sender(place).events(post(place), 4000).flush()
    relay.wait(lambda: len(relay.events("insert.table_paused")) >= 2, "the table paused, and tried again", 60)
    assert all("a view of the user fails" in event["error"] for event in relay.events("insert.table_paused"))
    for number in range(4):
        place.clickhouse("INSERT INTO {db}.outbox_events (seq, event_type, kafka_topic) "
            f"VALUES ({4000 + number}, 'by.hand', 'none')")
    Sender(place).events(post(place), 1000, number=4101).flush()
    relay.wait(lambda: len([event for event in relay.events("insert.table_paused") if "forgotten" in event["error"]]) >= 2,
        "the table paused since it may be forgotten", 60)
    assert counts(place) == (4004, 4001)
    assert view_counts(place) == [(4004, 4004), (4, 4)]
    repair(place)
    relay.kill()
    relay.start()
    all_committed(place, 5000)
    assert counts(place) == (5004, 5001)
    assert [rows for rows, _ in view_counts(place)] == [5004, 1004]
    told = relay.events("insert.views_behind")
    assert told and "outbox_events" in told[0]["why"] and "forgotten" in told[0]["why"]
    assert relay.stop() == 0


def test_a_row_that_the_table_refuses_is_no_matter_of_its_views(place):
    """It becomes a dead letter, as in a table without any; a view that fails as well pauses the table all the same."""
    make_views(place, FAILS)
    place.clickhouse("ALTER TABLE {db}.outbox_events ADD CONSTRAINT small CHECK seq < 1000000")
    relay = inserting(place)
    sender = Sender(place)
    for number in range(300):
        sender.event(post(place), 5000000 + number if number in (100, 101, 250) else number)
    sender.flush()
    relay.wait(lambda: any("a view of the user fails" in event["error"] for event in relay.events("insert.table_paused")),
        "the table paused for its view", 60)
    repair(place)
    wait_whole(place, 297)
    wait_until(lambda: dead_letters(place, "reason, code") == [("rejected", "469")] * 3, "the dead letters", 60)
    all_committed(place, 300)
    assert not relay.events("insert.views_behind")
    assert relay.stop() == 0


@pytest.mark.own_servers
def test_relay_and_server_killed_in_the_same_insert(fragile_place):
    place = fragile_place
    make_views(place, SLEEPS)
    relay = inserting(place, start=False, insert=one_batch(4000))
    Sender(place).events(post(place), 4000).flush()
    relay.start()
    wait_until(lambda: place.clickhouse_rows() == 4000, "the rows stored, the view asleep", every=0.02)
    place.servers.kill_at_once("clickhouse")    # the view does not sleep for as long as a tool may take to start
    relay.kill()
    place.servers.start("clickhouse")
    assert counts(place) == (4000, 4000)
    assert view_counts(place)[1] == (0, 0)
    repair(place)
    relay.start()
    wait_whole(place, 4000)
    all_committed(place, 4000)
    assert relay.events("insert.views_completed")
    assert relay.stop() == 0


def test_a_paused_table_is_called_paused_until_an_insert_succeeds(place):
    """It is opened, read back and tried now and then; the attempt takes a second here, and is no sign of health."""
    make_views(place, f"{SLEEPS} + {FAILS}")
    relay = inserting(place, insert=one_batch(1000))
    Sender(place).events(post(place), 1000).flush()
    relay.wait(lambda: paused(relay), "the table paused")
    wait_pause_reason(relay, "a view of the user fails")    # on the board after the metric
    seen = []

    def look():
        table = relay.health()["checks"]["insert"]["instances"]["outbox_events"]
        seen.append((paused(relay), table["status"], "a view of the user fails" in table["reason"]))
        return len(relay.events("insert.table_paused")) >= 3
    relay.wait(look, "two more attempts", 60)
    assert set(seen) == {(True, "down", True)}
    repair(place)
    relay.wait(lambda: not paused(relay), "the table open", 60)
    wait_whole(place, 1000)
    assert relay.stop() == 0
