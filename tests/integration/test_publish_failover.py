# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL's failover: the primary is killed, its streaming standby becomes the primary of a new timeline, and the relay
follows through a dsn that names both. What the standby had decides what there is to make good."""
import contextlib
import json
import os
import re
import signal
import socket
import struct
import threading

import psycopg2
import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from conftest import place_name
from publishing import assert_ids, crash_at, ids, repeat_last_receipt, use_test_points, wait_ids
from relaytools import audit
from relaytools.place import Place
from relaytools.proxy import Proxy
from relaytools.relay import command, wait_until, write_config
from relaytools.sessions import execute_each
from relaytools.servers import temporary_servers
from relaytools.standby import Standby
from relaytools.workload import Habits, settle_all_prepared

HABITS = Habits(savepoint=0.06, copy=0.06, two_phase=0.02, long=0.006, burst=0.003)
RECEIPT = struct.Struct("<4sBB16sQQQI")     # see receipt.h


class Failover:
    """A place on a primary of its own with a standby; Kafka and ClickHouse are the others'."""

    def __init__(self, shared, name):
        shared.revive()
        with contextlib.ExitStack() as stack:
            self.servers = stack.enter_context(temporary_servers("postgres"))
            self.servers.env = dict(shared.env, **self.servers.env)
            self.standby = Standby(self.servers)
            stack.callback(self.standby.remove)
            self.standby.start()
            self.place = Place(self.servers, name)
            stack.callback(self.place.close)
            self._held = stack.pop_all()

    def close(self):
        self._held.close()

    def relay(self, **changes):
        return self.place.relay(start=False, **changes)

    def fail_over(self):
        self.standby.kill_primary()
        self.standby.promote()

    def follows(self, relay):
        """Waits until the relay publishes from the new primary."""
        relay.wait(lambda: any(started["server"] == self.standby.address for started in relay.events("publish.term_started")),
            "a term on the new primary", 90)

    def insert(self, count, dsn=None):
        """Rows in one transaction; returns [(id, seq)]."""
        return self.standby.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
            f"SELECT 'post', gen_random_uuid(), 'post.created', '{{}}' FROM generate_series(1, {count}) RETURNING id::text, seq",
            dsn=dsn or self.place.admin_dsn)

    def receipts(self):
        """{number: timeline} of the visible receipts."""
        found = {}
        for _, _, _, _, value, _, _ in audit.read_topics(self.servers.bootstrap, f"{self.place.name}-receipts"):
            if value is None:   # shows where the partition ended at a term's start
                continue
            fields = RECEIPT.unpack_from(value)
            assert fields[0] == b"OBRC"
            found[fields[5]] = fields[7]
        return found

    def rows_on_the_new_one(self):
        return self.standby.execute("SELECT count(*) FROM public.outbox_events", dsn=make_dsn(self.standby.dsn, dbname=self.place.name))[0][0]

    def old_address(self):
        return f"127.0.0.1:{parse_dsn(self.standby.primary_dsn)['port']}"

    def last_number(self):
        return self.place.execute("SELECT coalesce(max(number), 0) FROM outbox_relay.batch_numbers")[0][0]


@pytest.fixture
def failover(request, servers):
    made = Failover(servers, "f" + place_name(request))
    yield made
    made.close()


def publish_validate(relay):
    return relay.health()["checks"]["publish"]


def advice(relay):
    """The statement that an operator is told to go on with."""
    statement = r"SELECT outbox_relay\.begin_generation\('[0-9a-f-]{36}', \d+\)( FROM generate_series\(1, \d+\))?"
    return wait_until(lambda: re.search(statement, publish_validate(relay)["reason"])[0], "the advice")


def stopped(relay, words, seconds):
    """Waits until publish is down and says these words."""
    relay.wait(lambda: words in publish_validate(relay).get("reason", "") and publish_validate(relay)["status"] == "down" and
               relay.get("/health")[0] == 503, f"it is stopped: {words}", seconds)


@pytest.mark.own_servers
def test_a_synchronous_standby_takes_over_under_load_and_nothing_is_lost_or_doubled(failover):
    place = failover.place
    failover.standby.make_synchronous()
    relay = failover.relay().start()
    workload = place.workload(writers=4, rate=600, habits=HABITS).start()
    wait_until(lambda: relay.metric("events_published_total") > 1000 and place.outbox_rows() > 0, "rows flow and more wait", 90)
    failover.fail_over()
    known, published = workload.committed, relay.metric("events_published_total")
    failover.follows(relay)
    wait_until(lambda: workload.committed > known + 1000 and relay.metric("events_published_total") > published + 1000,
        "they flow on", 120)
    workload.stop()
    settle_all_prepared(place.dsn)
    place.wait_published(120)
    place.wait_inserted(place.execute("SELECT count(*) FROM workload.journal")[0][0], 120)
    result = place.audit()
    assert result.ok() and result.phantoms == 0, result.text()
    assert result.committed >= workload.committed > known
    timelines = failover.receipts()
    assert timelines[failover.last_number()] == 2 and set(timelines.values()) <= {1, 2}
    relay.wait(lambda: publish_validate(relay)["status"] == "ok", "health ok")
    assert relay.stop() == 0


@pytest.mark.own_servers
def test_a_batch_in_doubt_is_finished_on_the_new_primary(failover):
    """The relay dies between the two commits, and the primary behind it: the standby still has the rows, and the receipt of
    the old timeline says that they were published."""
    place = failover.place
    failover.standby.make_synchronous()
    relay = failover.relay(insert={"enabled": "false"})
    use_test_points(relay)
    events = [event for event, _ in failover.insert(30)]
    crash_at(relay, "publish.after_kafka_commit")
    failover.fail_over()
    relay.start()
    events += [event for event, _ in failover.insert(5)]
    assert sorted(wait_ids(place, events)) == sorted(events)
    place.wait_published()
    finished = relay.events("publish.batch_finished")
    assert [(one["batches"], one["taken_out"], one["not_there"]) for one in finished] == [(1, 30, 0)]
    assert failover.receipts()[1] == 1 and failover.receipts()[failover.last_number()] == 2


@pytest.mark.own_servers
def test_what_a_cancelled_commit_has_shown_is_a_phantom_although_the_standby_was_synchronous(failover):
    """The wait for the standby is cancelled, the transaction is not: PostgreSQL shows what the standby has not."""
    place, standby = failover.place, failover.standby
    standby.make_synchronous()
    relay = failover.relay(insert={"enabled": "false"}).start()
    (first, seq), = failover.insert(1)
    wait_ids(place, [first])
    wait_until(lambda: place.execute("SELECT settled_seq FROM outbox_relay.progress") == [(seq,)], "the relay has nothing to write any more")
    standby.cut_off()
    inserted = []
    writer = threading.Thread(target=lambda: inserted.extend(failover.insert(1)), daemon=True)
    writer.start()
    wait_until(lambda: standby.on_primary("SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
        "WHERE wait_event = 'SyncRep' AND query LIKE 'INSERT INTO public.outbox_events%'"), "the writer's COMMIT waits, and is cancelled")
    writer.join(60)
    (phantom, _), = inserted
    wait_ids(place, [first, phantom])
    failover.fail_over()
    failover.follows(relay)
    (third, _), = failover.insert(1)
    assert sorted(wait_ids(place, [first, phantom, third])) == sorted([first, phantom, third])
    place.wait_published()
    assert [(one["batches"], one["taken_out"], one["not_there"]) for one in relay.events("publish.batch_finished")] == [(1, 0, 1)]


@pytest.mark.own_servers
def test_what_an_asynchronous_standby_had_not_is_made_good_from_the_old_timelines_receipts(failover):
    place, standby = failover.place, failover.standby
    back = failover.insert(30)
    standby.wait_caught_up()
    standby.cut_off()
    relay = failover.relay(health={"interval": "1s"}, insert={"enabled": "false"}, outbox={"batch_rows": "20"}).start()
    place.wait_published()      # the standby still has these rows
    phantoms = failover.insert(100)
    wait_ids(place, [event for event, _ in phantoms])
    place.wait_published()
    lost = failover.last_number()
    assert 2 <= lost < 64
    # The writers are on the new primary before the relay is, and their rows get the numbers of lost ones.
    relay.signal(signal.SIGSTOP)
    failover.fail_over()
    new = failover.insert(20)
    highest = max(seq for _, seq in phantoms)
    assert {seq for _, seq in new} & {seq for _, seq in phantoms} and max(seq for _, seq in new) < highest
    assert place.outbox_rows() == len(back) + len(new)
    relay.signal(signal.SIGCONT)
    failover.follows(relay)
    events = [event for event, _ in back + phantoms + new]
    assert sorted(wait_ids(place, events)) == sorted(events)
    place.wait_published()
    finished = relay.events("publish.batch_finished")
    assert [(one["number"], one["batches"], one["taken_out"], one["not_there"]) for one in finished] == \
        [(lost, lost, len(back), len(phantoms))]
    assert relay.metric("replays_total", stage="publish") == lost
    assert failover.receipts() == {number: 1 if number <= lost else 2 for number in range(1, failover.last_number() + 1)}
    relay.wait(lambda: publish_validate(relay)["status"] == "ok", "health ok")
    # That new events get the numbers of lost ones is said until the sequence is above them.
    statement = f"SELECT setval('public.outbox_events_seq_seq', {highest + 1000})"
    relay.wait(lambda: statement in relay.health()["checks"]["outbox"].get("reason", ""), "the numbers are told")
    place.execute(statement)
    relay.wait(lambda: relay.health()["checks"]["outbox"]["status"] == "ok", "it is over")
    assert failover.insert(1)[0][1] > highest


@pytest.mark.own_servers
def test_what_is_prepared_again_after_a_failover_is_not_published_again(failover):
    """The standby has the PREPARE of rows that were committed and published on the old primary. Their transaction manager ends
    them anew on the new one."""
    place, standby = failover.place, failover.standby

    def prepare(name, dsn):
        with contextlib.closing(psycopg2.connect(dsn)) as writer:
            writer.cursor().execute("SET outbox_relay.notify = 'off'")
            writer.cursor().execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
                                    "VALUES ('post', gen_random_uuid(), 'post.created', '{}')")
            writer.cursor().execute(f"PREPARE TRANSACTION '{name}'")

    prepare("branch one", place.dsn)
    standby.wait_caught_up()
    standby.cut_off()
    relay = failover.relay(insert={"enabled": "false"}).start()
    standby.execute("COMMIT PREPARED 'branch one'", dsn=place.dsn)
    published = wait_until(lambda: len(ids(place)) == 1 and ids(place), "it is published")
    place.wait_published()
    failover.fail_over()
    stopped(relay, "'branch one'", 90)
    # None of those that come later holds it up, however the clocks of Kafka and PostgreSQL differ, within some seconds.
    wait_until(lambda: place.execute("SELECT now() > prepared + interval '15 s' FROM pg_prepared_xacts")[0][0], "some seconds later")
    prepare("branch two", place.dsn)
    standby.execute("COMMIT PREPARED 'branch one'", dsn=place.dsn)
    failover.follows(relay)
    finished = relay.wait(lambda: relay.events("publish.batch_finished"), "it is taken out")
    assert [(one["taken_out"], one["not_there"]) for one in finished] == [(1, 0)]
    standby.execute("COMMIT PREPARED 'branch two'", dsn=place.dsn)
    event = failover.insert(1)[0][0]
    wait_ids(place, [event])
    place.wait_published()
    seen = wait_until(lambda: len(ids(place)) >= 3 and ids(place), "all are in Kafka")
    assert len(seen) == len(set(seen)) == 3 and published[0] in seen


@pytest.mark.own_servers
def test_at_least_once_publishes_again_what_comes_back(failover):
    place, standby = failover.place, failover.standby
    back = [event for event, _ in failover.insert(30)]
    aside, seq = failover.insert(1)[0]
    place.execute("SELECT outbox_relay.dead_letter('public.outbox_events', %s, 'too_large', 'it was refused', 1)", seq)
    standby.wait_caught_up()
    standby.cut_off()
    relay = failover.relay(insert={"enabled": "false"}, publish={"guarantee": "at_least_once"}).start()
    place.wait_published()

    # The commands find the primary, as the relay does, where the dsn has the standby first and no target_session_attrs.
    turned = parse_dsn(place.dsn)
    turned.update(host="127.0.0.1,127.0.0.1", port=f"{standby.port},{parse_dsn(standby.primary_dsn)['port']}")
    del turned["target_session_attrs"]
    config = write_config(os.path.join(place.folder, "turned.ini"), place.sections(postgres={"dsn": make_dsn(**turned)}))

    def run(*arguments):
        return command(*arguments, config=config, binary=place.binary)

    outbox = json.loads(run("status", "--json").stdout)["checks"]["outbox"]
    assert outbox["status"] == "ok" and outbox["instances"]["default"]["figures"]["unpublished_rows"] == 0, outbox
    assert "is a standby" not in run("check").stdout
    again = run("dead-letters", "retry", "--all", "--stage", "publish")
    assert again.returncode == 0 and "1 put back" in again.stdout, again.stdout + again.stderr
    wait_ids(place, [aside])
    place.wait_published()
    standby.kill_primary()      # the standby, which has the letter still, is read from and not written to
    assert json.loads(run("dead-letters", "list", "--json", "--stage", "publish").stdout)["dead_letters"][0]["event_id"] == aside
    refused = run("dead-letters", "retry", "--all", "--stage", "publish")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1 and "0 put back" in refused.stdout, refused.stdout + refused.stderr

    standby.promote()
    failover.follows(relay)
    new = [event for event, _ in failover.insert(5)]
    wait_ids(place, new)
    place.wait_published()
    assert_ids(place, back * 2 + [aside] + new)
    relay.wait(lambda: publish_validate(relay)["status"] == "ok", "health ok")


def more_than_the_ring(failover):
    """The standby lacks 66 transactions, more than compaction keeps receipts of. Returns what they published, and a relay."""
    place, standby = failover.place, failover.standby
    back = failover.insert(66 * 32)     # as many batches go into one transaction
    standby.wait_caught_up()
    standby.cut_off()
    relay = failover.relay(insert={"enabled": "false"}, outbox={"batch_rows": "1"}).start()
    place.wait_published(120)
    assert failover.last_number() > 64
    return back, relay


@pytest.mark.own_servers
def test_a_standby_that_lacks_more_than_the_ring_is_made_good_while_the_receipts_are_there(failover):
    place = failover.place
    back, relay = more_than_the_ring(failover)
    lost = failover.last_number()
    failover.fail_over()
    new = failover.insert(5)
    failover.follows(relay)
    events = [event for event, _ in back + new]
    wait_ids(place, events, 180)
    place.wait_published(120)
    assert_ids(place, events)
    finished = relay.events("publish.batch_finished")
    assert [(one["number"], one["batches"], one["taken_out"], one["not_there"]) for one in finished] == [(lost, lost, len(back), 0)]
    assert [one["batches"] for one in relay.events("publish.finishing_batches")] == [lost]
    relay.wait(lambda: publish_validate(relay)["status"] == "ok", "health ok")


@pytest.mark.own_servers
def test_a_standby_that_lacks_more_than_a_failover_loses_stops_the_outbox(failover):
    place = failover.place
    back, relay = more_than_the_ring(failover)
    last = failover.last_number()
    assert relay.stop() == 0
    repeat_last_receipt(place, 121)
    failover.fail_over()
    new = failover.insert(5)
    relay.start(ready=False)
    stopped(relay, f"Kafka is at batch {last} of this outbox, PostgreSQL at 0: the database went back in time", 90)
    assert_ids(place, [event for event, _ in back])
    assert place.outbox_rows() == len(back) + len(new)
    place.execute(advice(relay))
    wait_ids(place, [event for event, _ in new], 180)   # behind all that came back
    place.wait_published(120)
    assert_ids(place, [event for event, _ in back] * 2 + [event for event, _ in new])
    relay.wait(lambda: publish_validate(relay)["status"] == "ok", "health ok")


def refused_by_the_old_primary(failover, **changes):
    """A relay that finds the old primary alone, which came back and has a row of its own. Returns the relay, what was published
    and the row."""
    place, standby = failover.place, failover.standby
    relay = failover.relay(insert={"enabled": "false"}, **changes).start()
    events = [event for event, _ in failover.insert(3)]
    wait_ids(place, events)
    place.wait_published()
    standby.wait_caught_up()
    failover.fail_over()
    events += [event for event, _ in failover.insert(3)]
    wait_ids(place, events, 90)
    place.wait_published()
    assert relay.stop() == 0
    standby.stop()
    failover.servers.command("start", "postgres")   # it knows nothing of its successor
    stray = failover.insert(1)[0][0]
    relay.start(ready=False)
    relay.wait(lambda: relay.url is not None, "it answers")
    stopped(relay, "it is an old primary", 90)
    assert failover.place.outbox_rows() == 1 and sorted(ids(place)) == sorted(events)
    return relay, events, stray


@pytest.mark.own_servers
def test_an_old_primary_that_comes_back_is_not_published_from(failover):
    """Nor held on to: the relay looks for the new one while the old one, which the dsn names first, takes writes."""
    place, standby = failover.place, failover.standby
    relay, events, stray = refused_by_the_old_primary(failover)
    standby.run()
    events += [event for event, _ in failover.insert(3, make_dsn(standby.dsn, dbname=place.name))]
    failover.follows(relay)
    wait_ids(place, events, 90)
    wait_until(lambda: failover.rows_on_the_new_one() == 0, "an empty outbox on the new primary", 60)
    assert sorted(ids(place)) == sorted(events) and stray not in events
    passed_over = relay.wait(lambda: relay.events("postgres.old_primary"), "the old primary is named")
    assert {(one["old_primary"], one["server"]) for one in passed_over} == {(failover.old_address(), standby.address)}


@pytest.mark.own_servers
def test_a_relay_that_followed_a_failover_stays_with_the_new_primary(failover):
    """Nothing was published from the new one yet when the old one comes back, and a session of each kind ends."""
    place, standby = failover.place, failover.standby
    relay = failover.relay(health={"interval": "1s"}, insert={"enabled": "false"}).start()
    standby.wait_caught_up()
    failover.fail_over()
    failover.follows(relay)
    failover.servers.command("start", "postgres")   # it knows nothing of its successor
    on_new = make_dsn(standby.dsn, dbname=place.name)
    for _ in range(2):
        terms = len(relay.events("publish.term_started"))
        standby.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay-%'", dsn=on_new)
        relay.wait(lambda terms=terms: len(relay.events("publish.term_started")) > terms, "another term", 90)
    assert {one["server"] for one in relay.events("publish.term_started")[1:]} == {standby.address}
    event = failover.insert(1, on_new)[0][0]
    wait_ids(place, [event])
    roles = "SELECT DISTINCT split_part(application_name, '-', 3) FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay-%'"
    wait_until(lambda: {role for role, in standby.execute(roles, dsn=on_new)} - {"look"} == {"publish", "wake", "health"}, "all sessions on the new one", 60)
    on_old = make_dsn(standby.primary_dsn, dbname=place.name)
    wait_until(lambda: {role for role, in standby.execute(roles, dsn=on_old)} <= {"look"}, "none on the old one", 60)


@pytest.mark.own_servers
def test_two_servers_that_take_writes_are_told_to_an_idle_relay(failover):
    """Its sessions stay on the former primary, which nobody stopped, and where all is well."""
    place, standby = failover.place, failover.standby
    relay = failover.relay(health={"interval": "1s"}, insert={"enabled": "false"}).start()
    relay.wait(lambda: relay.events("publish.term_started"), "it owns the outbox")
    standby.wait_caught_up()
    standby.promote()
    event = failover.insert(1, make_dsn(standby.dsn, dbname=place.name))[0][0]

    def told():
        return relay.health()["checks"]["postgres"]["instances"].get("servers", {"status": "none"})

    def alerted(event):
        return [one for one in relay.events(event) if one["name"] == "pipeline_degraded" and one["instance"].startswith("postgres servers at")]

    relay.wait(lambda: told()["status"] == "degraded", "it is told", 120)
    assert relay.metric("postgres_primaries") == 2
    assert failover.old_address() + " (timeline 1)" in told()["reason"] and standby.address + " (timeline 2)" in told()["reason"]
    relay.wait(lambda: alerted("alert.firing"), "an alert", 60)
    standby.kill_primary()
    failover.follows(relay)
    wait_ids(place, [event], 90)
    relay.wait(lambda: alerted("alert.resolved"), "one is left", 120)
    relay.wait(lambda: told()["status"] == "none", "nothing is told of it any more", 60)
    relay.wait(lambda: relay.metric("postgres_primaries") == 1, "one primary", 60)
    standby.stop()
    relay.wait(lambda: relay.health()["checks"]["postgres"]["status"] == "down", "PostgreSQL is down as a whole", 120)
    relay.wait(lambda: relay.metric("postgres_primaries") == 0, "nobody knows", 60)


@contextlib.contextmanager
def another_cluster(failover, servers):
    """The dsn of a login that the primary lets in, and beside it a server that is nothing to it, the others' own."""
    name, password = f"{failover.place.name}guest", "guest"
    role = f"CREATE ROLE {name} LOGIN PASSWORD '{password}'"
    primary = failover.standby.primary_dsn
    execute_each(primary, role)
    execute_each(servers.admin_dsn, role, f"CREATE DATABASE {failover.place.name}")
    ports = [parse_dsn(dsn)["port"] for dsn in (primary, servers.admin_dsn)]
    try:
        yield make_dsn(failover.place.dsn, host="127.0.0.1,127.0.0.1", port=",".join(ports), user=name, password=password)
    finally:
        execute_each(servers.admin_dsn, f"DROP DATABASE {failover.place.name}", f"DROP ROLE {name}")


@pytest.mark.own_servers
def test_check_looks_at_each_host_to_which_a_failover_leads(failover, servers):
    place, standby = failover.place, failover.standby
    user = parse_dsn(place.dsn)["user"]

    def lines(dsn, address):
        """What check says of this server."""
        config = write_config(os.path.join(place.folder, "hosts.ini"), place.sections(postgres={"dsn": dsn}))
        report = command("check", "--json", config=config, binary=place.binary)
        return [(item["level"], item["text"]) for item in json.loads(report.stdout)["checks"] if item["what"] == "postgres" and address in item["text"]]

    def one_line(level, words, dsn=place.dsn, address=standby.address):
        found = lines(dsn, address)
        assert len(found) == 1 and found[0][0] == level and words in found[0][1], found

    one_line("ok", "lets the relay in: a standby of the same system")

    rules = os.path.join(standby.own.data, "pg_hba.conf")
    with open(rules, encoding="utf-8") as file:
        before = file.read()
    with open(rules, "w", encoding="utf-8") as file:
        file.write(f"host all {user} all reject\n{before}")
    standby.execute("SELECT pg_reload_conf()")
    wait_until(lambda: lines(place.dsn, standby.address)[0][0] == "FAIL", "the standby refuses the relay's login")
    one_line("FAIL", "after a failover the relay would be refused")
    with open(rules, "w", encoding="utf-8") as file:
        file.write(before)
    standby.execute("SELECT pg_reload_conf()")
    wait_until(lambda: lines(place.dsn, standby.address)[0][0] == "ok", "it lets it in")

    with another_cluster(failover, servers) as dsn:
        one_line("FAIL", "is no standby of", dsn, f"127.0.0.1:{parse_dsn(servers.admin_dsn)['port']} is")

    standby.promote()
    one_line("FAIL", "two servers take writes")
    standby.stop()
    one_line("warn", "whether the relay is let in there after a failover is not known")


@pytest.mark.own_servers
def test_an_owner_has_both_sessions_on_one_server(failover):
    """The old primary comes back ahead of the new one in the dsn, while a standby of the relay has its session on the new one."""
    place, standby = failover.place, failover.standby
    old, new = standby.primary_dsn, make_dsn(standby.dsn, dbname=place.name)
    standby.wait_caught_up()
    standby.promote()
    proxy = Proxy(("127.0.0.1", standby.port))
    relay = failover.relay(insert={"enabled": "false"}, postgres={"dsn": make_dsn(place.dsn, host="127.0.0.1", port=proxy.port)})
    with contextlib.closing(psycopg2.connect(new, application_name="outbox-relay-publish")) as owner:
        owner.cursor().execute("SELECT pg_advisory_lock('public.outbox_events'::regclass::oid::int4, 1)")
        relay.start()
        relay.wait(lambda: relay.get("/ready")[0] == 200, "it is a standby")
        proxy.target = ("127.0.0.1", int(parse_dsn(old)["port"]))
    relay.wait(lambda: relay.events("publish.term_started"), "it owns the outbox")
    failed = relay.events("publish.term_failed")
    assert len(failed) == 1 and "are on different servers" in failed[0]["error"]
    events = []
    for _ in range(2):      # the lanes take turns
        events += [event for event, _ in failover.insert(1, make_dsn(old, dbname=place.name))]
        wait_ids(place, events)
    proxy.close()


@pytest.mark.own_servers
def test_a_copy_beside_the_original_fences_it_until_it_has_an_identity_of_its_own(failover):
    """A base backup that was promoted: identity and system identifier are the original's, the timeline is a later one."""
    place, standby = failover.place, failover.standby
    original_dsn, copy_dsn = standby.primary_dsn, make_dsn(standby.dsn, dbname=place.name)

    def relay(name, dsn):
        login = parse_dsn(place.dsn)
        own = make_dsn(place.dsn, host="127.0.0.1", port=parse_dsn(dsn)["port"], password=login["password"], target_session_attrs="any")
        return place.relay(name, start=False, insert={"enabled": "false"}, postgres={"dsn": own})

    standby.wait_caught_up()
    standby.promote()
    failover.insert(1, copy_dsn)
    copy = relay("copy", copy_dsn).start()
    copy.wait(lambda: copy.events("publish.term_started"), "the copy is published from under the original's identity")
    wait_until(lambda: standby.execute("SELECT count(*) FROM public.outbox_events", dsn=copy_dsn)[0][0] == 0, "its row is out")
    original = relay("original", original_dsn).start(ready=False)
    original.wait(lambda: original.url is not None, "it answers")
    words = ("a copy is published from under its identity", "renew_identity('public.outbox_events')")
    original.wait(lambda: all(word in publish_validate(original).get("reason", "") for word in words), "it is stopped", 60)
    # On the copy, as it says; and on the original as the operator who knows what happened.
    standby.execute("SELECT outbox_relay.renew_identity('public.outbox_events')", dsn=copy_dsn)
    standby.execute(advice(original), dsn=make_dsn(original_dsn, dbname=place.name))
    events = [failover.insert(1, dsn)[0][0] for dsn in (copy_dsn, make_dsn(original_dsn, dbname=place.name))]
    wait_ids(place, events, 90)
    for each in (copy, original):
        each.wait(lambda each=each: publish_validate(each)["status"] == "ok", "both publish", 60)


@pytest.mark.own_servers
def test_an_operator_may_go_back_to_the_old_primary(failover):
    """Also while its successor's address takes longer to fail than a session may be silent."""
    relay, events, stray = refused_by_the_old_primary(failover, postgres={"connect_timeout": "8s"}, run={"lease": "5s"})
    with socket.create_server(("127.0.0.1", failover.standby.port), backlog=50):
        failover.place.execute(advice(relay))
        assert sorted(wait_ids(failover.place, events + [stray], 150)) == sorted(events + [stray])
        failover.place.wait_published()


def fenced_by_a_reload(failover, row_before):
    """The relay has followed the outbox from a primary that took no more writes from one moment on, and let its sessions live, to
    a server that had been promoted beside it. row_before: one was published just before, so that there is progress to be noted."""
    place, standby = failover.place, failover.standby
    relay = failover.relay(health={"interval": "1s"}, insert={"enabled": "false"}).start()
    other = failover.relay(name="other", insert={"enabled": "false"}).start()
    events = [failover.insert(1)[0][0]]
    wait_ids(place, events)
    place.wait_published()
    settled = "SELECT p.settled_seq = (SELECT last_value FROM public.outbox_events_seq_seq) FROM outbox_relay.progress p"
    wait_until(lambda: place.execute(settled) == [(True,)], "nothing is left to be written", 60)
    standby.wait_caught_up()
    if row_before:
        events += [failover.insert(1)[0][0]]
        place.wait_published()
        standby.wait_caught_up()
    standby.on_primary("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    standby.promote()
    events += [event for event, _ in failover.insert(3, make_dsn(standby.dsn, dbname=place.name))]
    wait_until(lambda: any(started["server"] == standby.address for each in (relay, other) for started in each.events("publish.term_started")),
        "a term on the other server", 90)
    assert sorted(wait_ids(place, events, 90)) == sorted(events)
    wait_until(lambda: standby.execute("SELECT count(*) FROM public.outbox_events", dsn=make_dsn(standby.dsn, dbname=place.name))[0][0] == 0,
        "an empty outbox there", 60)
    # Nobody's session is left where nothing can be written: neither owner's, nor standby's, nor health watch's.
    wait_until(lambda: not standby.execute("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'outbox-relay-%'",
        dsn=make_dsn(standby.primary_dsn, dbname=place.name)), "no session on the old primary", 60)
    for each in (relay, other):
        each.wait(lambda each=each: publish_validate(each)["status"] == "ok", "health ok", 60)


@pytest.mark.own_servers
def test_an_idle_owner_leaves_a_primary_that_a_reload_makes_read_only(failover):
    fenced_by_a_reload(failover, row_before=False)


@pytest.mark.own_servers
def test_progress_that_is_refused_on_a_read_only_primary_is_followed_by_a_look_for_another(failover):
    fenced_by_a_reload(failover, row_before=True)
