# SPDX-License-Identifier: Apache-2.0
"""The torture bench's workload and auditor on real servers, without the relay: the journal holds exactly what was committed,
and the auditor finds every kind of mistake planted by hand. An auditor that cannot fail proves nothing."""
import collections
import glob
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid

import confluent_kafka
import confluent_kafka.admin
import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "lib"))

from relaytools import audit as audit_module, receipts  # noqa: E402
from relaytools.bench import Bench, BenchError  # noqa: E402
from relaytools.place import Place  # noqa: E402
from relaytools.relay import Relay, wait_until  # noqa: E402
from relaytools.servers import ROOT, Servers, temporary_servers  # noqa: E402
from relaytools.view import View  # noqa: E402
from relaytools.workload import Habits, settle_all_prepared  # noqa: E402

pytestmark = pytest.mark.xdist_group("one set of servers")


class BarePlace(Place):
    """Migrated without the relay's binary, which these tests do without."""

    def migrate(self):
        for path in sorted(glob.glob(os.path.join(ROOT, "schemas/postgres/0*.up.sql"))):
            with open(path, encoding="utf-8") as file:
                alone = file.readline().startswith("-- relay:no-transaction")
            done = subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *([] if alone else ["-1"]), "-f", path, self.dsn],
                                  capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, f"{path}: {done.stderr}"
        for path in sorted(glob.glob(os.path.join(ROOT, "schemas/clickhouse/0*.up.sql"))):
            with open(path, encoding="utf-8") as file:
                text = "\n".join(line for line in file.read().splitlines() if not line.startswith("--"))
            for statement in filter(str.strip, text.split(";")):
                self.clickhouse(re.sub(r"(CREATE TABLE IF NOT EXISTS|ALTER TABLE) ", r"\1 {db}.", statement, count=1))


@pytest.fixture(scope="module")
def servers():
    with temporary_servers() as shared:
        yield shared


@pytest.fixture
def place(request, servers):
    return BarePlace(servers, "tools" + request.node.name[-40:], topics=("post",), partitions=2)


def test_the_journal_holds_exactly_what_was_committed(place):
    for table in ("public.outbox_b", "public.outbox_c"):
        place.execute("SELECT outbox_relay.create_outbox(%s)", table)
    tables = ("public.outbox_events", "public.outbox_b", "public.outbox_c")
    habits = Habits(savepoint=0.3, copy=0.3, two_phase=0.1, long=0.02, burst=0.02, no_sync=0.2, long_seconds=(0.01, 0.1), burst_events=(50, 100))
    workload = place.workload(writers=6, events=6000, tables=tables, rollback_share=0.1, unlocked_share=0.1, habits=habits, aggregate_count=20)
    workload.start().join(120)
    assert all(workload.counts.values()), workload.counts
    journal = dict(place.execute("SELECT event_id::text, outbox FROM workload.journal"))
    assert len(journal) == workload.committed == 6000
    stored = {}
    aggregates = collections.defaultdict(set)
    for table in tables:
        for event_id, aggregate in place.execute(f"SELECT id::text, aggregate_id::text FROM {table}"):
            stored[event_id] = table
            aggregates[aggregate].add(table)
    assert stored == journal
    assert all(len(where) == 1 for where in aggregates.values())
    # The order that is judged is the one that the relay can know: within an aggregate, n grows with seq.
    for table in tables:
        assert place.execute(f"SELECT count(*) FROM (SELECT j.n, lag(j.n) OVER (PARTITION BY j.aggregate ORDER BY o.seq) AS before "
            f"FROM {table} o JOIN workload.journal j ON j.event_id = o.id WHERE j.judged) x WHERE n <= before") == [(0,)]


def test_writers_are_held_and_go_on_without_making_up_for_it(place):
    workload = place.workload(writers=4, rate=500, aggregate_count=20)
    workload.start()
    wait_until(lambda: workload.committed > 100, "events are committed", 20)
    workload.hold()
    def rests():
        before = workload.committed
        threading.Event().wait(0.5)
        return workload.committed == before
    wait_until(rests, "no writer commits", 20)
    held, began = workload.committed, time.monotonic()
    workload.resume()
    wait_until(lambda: workload.committed > held + 200, "writers that were held write again", 20)
    assert workload.committed <= held + 600 * (time.monotonic() - began) + 100, "a burst"
    workload.stop()


class Pipeline:
    """As much of a bench as a wait for canaries needs: each look at it finds one event more inserted, `events` times."""
    workload = None
    _until_deadline = staticmethod(Bench._until_deadline)

    def __init__(self, events):
        self.events, self.inserted = events, 0

    def _waiting(self):
        return 0

    def _inserted(self):
        self.inserted = min(self.inserted + 1, self.events)
        return self.inserted


def test_a_canary_is_waited_for_as_long_as_anything_moves():
    slow = Pipeline(events=12)
    began = time.monotonic()
    Bench._outwait(slow, lambda: slow.inserted == 12, 0.4, "the canary")
    assert time.monotonic() - began > 0.4, "it took longer than the patience with a pipeline that rests"
    stuck = Pipeline(events=5)
    with pytest.raises(BenchError, match="the canary: not before the deadline"):
        Bench._outwait(stuck, lambda: stuck.inserted == 12, 0.4, "the canary")


class Falling(Servers):
    """Servers whose ClickHouse ends again while it starts, so many times."""

    def __init__(self, times):
        self.times, self.starts = times, 0

    def runs(self, service):
        return False

    def start(self, *services, **options):
        self.starts += 1
        if self.starts <= self.times:
            raise RuntimeError("it did not answer")


def test_a_clickhouse_that_ends_while_it_starts_is_started_again():
    falling = Falling(2)
    assert falling.revive() and falling.starts == 3


class Noted:
    """A replica that notes what is done to it."""

    def __init__(self, notes, runs=True):
        self.notes, self.runs = notes, runs

    def begin_stop(self):
        self.notes.append("told")
        return self.runs

    def end_stop(self):
        self.notes.append("waited for")


def test_no_standby_is_left_to_take_over_while_a_run_is_stopped(tmp_path):
    bench = Bench(folder=str(tmp_path))
    notes = []
    bench.replicas, bench.extra = [Noted(notes), Noted(notes, runs=False)], [Noted(notes)]
    bench.stop_replicas()
    assert notes == ["told"] * 3 + ["waited for"] * 2


ENDS_AT_ONE_SIGTERM = """#!/usr/bin/env python3
import signal, threading
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
print("listening", flush=True)
while not told.wait(0.01):
    pass
signal.signal(signal.SIGTERM, signal.SIG_DFL)
print("ending", flush=True)
threading.Event().wait(0.2)
"""


def test_a_process_that_was_told_to_end_is_not_told_again(tmp_path):
    binary = tmp_path / "relay"
    binary.write_text(ENDS_AT_ONE_SIGTERM)
    binary.chmod(0o755)
    relay = Relay(str(tmp_path), {}, binary=str(binary)).start(ready=False)
    for line in ("listening", "ending"):
        wait_until(lambda: line in relay.log(), line)
        relay.begin_stop()
    assert relay.stop(60) == 0


def test_prepared_transactions_left_by_a_crash_are_settled(place):
    place.workload()
    connection = place.connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; INSERT INTO workload.journal VALUES (gen_random_uuid(), 't', gen_random_uuid(), 1, true); "
                       "PREPARE TRANSACTION 'workload-test-1'")
    connection.close()
    assert settle_all_prepared(place.dsn) == 1
    assert settle_all_prepared(place.dsn) == 0


class Planted:
    """A place whose Kafka and ClickHouse hold what a faultless relay would have brought there, and then a mistake."""

    def __init__(self, place):
        self.place = place
        place.workload()
        # One that moves when a third partition is added.
        some = (str(uuid.uuid4()) for _ in itertools.count())
        self.aggregate = self.key = next(name for name in some if audit_module.partition_of(name.encode(), 2) != audit_module.partition_of(name.encode(), 3))
        self.events = [(str(uuid.uuid4()), n) for n in range(1, 11)]
        self.connect()
        self.positions, self.values = {}, {}
        for event_id, n in self.events:
            self.commit(event_id, n)

    def connect(self):
        self.producer = confluent_kafka.Producer({"bootstrap.servers": self.place.servers.bootstrap, "linger.ms": 1, "partitioner": "murmur2_random"})

    def commit(self, event_id, n, judged=True):
        self.place.execute("INSERT INTO workload.journal VALUES (%s, 'public.outbox_events', %s, %s, %s)", event_id, self.aggregate, n, judged)

    def publish(self, event_id, n, partition=-1, **body):
        def delivered(error, message):
            assert error is None
            self.positions[event_id] = (message.topic(), message.partition(), message.offset())
            self.values[self.positions[event_id]] = value
        value = json.dumps({"aggregate": self.aggregate, "n": n, **body})
        self.producer.produce(self.place.topics[0], value, self.key, partition, headers={"event_id": event_id}, on_delivery=delivered)
        assert self.producer.flush(60) == 0

    def insert(self, event_id, n, position=None, **body):
        topic, partition, offset = position or self.positions[event_id]
        payload = json.dumps({"aggregate": self.aggregate, "n": n, **body})
        self.place.clickhouse("INSERT INTO {db}.outbox_events (event_id, aggregate_id, payload, kafka_topic, kafka_partition, kafka_offset) "
            f"VALUES ('{event_id}', '{self.aggregate}', '{payload}', '{topic}', {partition}, {offset})")

    def set_aside(self, position, target="outbox_events", value=None):
        value = value or self.values[position]
        self.place.clickhouse("INSERT INTO {db}.outbox_relay_dead_letters (target, kafka_topic, kafka_partition, kafka_offset, key, value, text) "
            f"VALUES ('{target}', '{position[0]}', {position[1]}, {position[2]}, '{self.key}', '{value}', '{uuid.uuid4()}')")

    def relay(self, published=None, inserted=None):
        for event_id, n in self.events if published is None else published:
            self.publish(event_id, n)
        for event_id, n in self.events if inserted is None else inserted:
            self.insert(event_id, n)
        return self


@pytest.fixture
def planted(place):
    return Planted(place)


def counts(result):
    return ({kind: count for kind, count in result.kafka.items() if count},
            {kind: count for kind, count in result.clickhouse.items() if count})


def test_the_audit_passes_what_is_right(planted):
    planted.relay()
    result = planted.place.audit()
    assert (result.committed, result.published, result.inserted) == (10, 10, 10)
    assert counts(result) == ({}, {}) and result.ok(), result.text()


def test_the_audit_finds_what_is_lost_before_kafka(planted):
    planted.relay(published=planted.events[1:], inserted=planted.events[1:])
    result = planted.place.audit()
    assert counts(result) == ({"lost": 1}, {"lost": 1})
    assert not result.ok(doubles_allowed=True)
    assert planted.events[0][0] in result.text()


def test_the_audit_finds_what_is_lost_before_clickhouse(planted):
    planted.relay(inserted=planted.events[:-1])
    result = planted.place.audit()
    assert counts(result) == ({}, {"lost": 1})
    assert not result.ok() and planted.events[-1][0] in result.text()


def test_the_audit_finds_what_is_doubled_in_kafka_and_so_in_clickhouse(planted):
    planted.relay()
    planted.publish(*planted.events[4])
    planted.insert(*planted.events[4])
    result = planted.place.audit()
    assert counts(result) == ({"doubled": 1}, {"doubled": 1})
    assert not result.ok() and result.ok(doubles_allowed=True)


def test_the_audit_finds_one_offset_inserted_twice(planted):
    planted.relay()
    planted.insert(*planted.events[4])
    planted.place.clickhouse("INSERT INTO {db}.outbox_events SELECT * REPLACE (now64(3) + 1 AS inserted_at) FROM {db}.outbox_events "
                             f"WHERE event_id = '{planted.events[4][0]}' LIMIT 1")
    result = planted.place.audit()
    assert result.kafka["doubled"] == 0 and result.clickhouse["doubled"] >= 1
    assert not result.ok()


def test_the_audit_finds_what_a_view_lacks_and_what_it_has_twice(planted):
    view = View(planted.place)
    planted.relay(inserted=planted.events[:8])
    assert view.behind() == 0
    view.fail()
    for event in planted.events[8:]:
        with pytest.raises(RuntimeError, match="the view fails"):
            planted.insert(*event)
    view.repair()
    assert view.behind() == 2
    planted.place.clickhouse("INSERT INTO {db}.followed SELECT * REPLACE (9 AS part) FROM {db}.followed WHERE kafka_offset = 3")
    result = planted.place.audit()
    assert counts(result) == ({}, {"lost": 2, "doubled": 1}) and result.inserted == 10
    assert not result.ok() and "view followed 2" in result.text()
    planted.place.clickhouse("DELETE FROM {db}.outbox_events WHERE kafka_offset = 3")
    assert planted.place.audit().clickhouse["strangers"] == 1


def test_the_audit_finds_disorder_within_an_aggregate(planted):
    swapped = planted.events[:3] + [planted.events[4], planted.events[3]] + planted.events[5:]
    planted.relay(published=swapped)
    result = planted.place.audit()
    assert counts(result) == ({"disordered": 1}, {})
    assert not result.ok(doubles_allowed=True) and planted.events[3][0] in result.text()


def test_the_audit_does_not_judge_the_order_of_what_was_not_locked(planted):
    planted.relay()
    for n in (500, 400):
        event_id = str(uuid.uuid4())
        planted.commit(event_id, n, judged=False)
        planted.publish(event_id, n)
        planted.insert(event_id, n)
    assert planted.place.audit().ok()


def test_the_audit_finds_strangers(planted):
    planted.relay()
    stranger = str(uuid.uuid4())
    planted.publish(stranger, 11)
    planted.insert(stranger, 11)
    result = planted.place.audit()
    assert counts(result) == ({"strangers": 1}, {"strangers": 1})
    assert not result.ok() and stranger in result.text()


def test_the_audit_lets_pass_what_postgresql_itself_lost(planted):
    planted.relay()
    phantom = str(uuid.uuid4())
    planted.publish(phantom, 11, durable=False)
    planted.insert(phantom, 11, durable=False)
    result = planted.place.audit()
    assert result.phantoms == 1 and result.ok()


def test_the_audit_takes_them_for_strangers_where_postgresql_has_not_crashed(planted):
    planted.relay()
    planted.publish(str(uuid.uuid4()), 11, durable=False)
    result = planted.place.audit(may_lose=False)
    assert counts(result)[0] == {"strangers": 1} and result.phantoms == 0


def encoded(identity, generation, number, rows):
    value = receipts.HEAD.pack(b"OBRC", 1, 0, identity.bytes, generation, number, 7, 1, len(rows))
    before = 0
    for index, (seq, row_hash) in enumerate(rows):
        distance = seq << 1 if index == 0 else seq - before
        before = seq
        while distance >= 0x80:
            value += bytes([distance & 0x7f | 0x80])
            distance >>= 7
        value += bytes([distance]) + row_hash
    return value + bytes(8)


def test_receipts_are_judged_by_each_other_and_by_postgresql():
    outbox, other = uuid.UUID(int=1), uuid.UUID(int=2)
    rows = {number: [(1000 * number + row, bytes([number] * 8)) for row in range(0, 900, 300)] for number in range(1, 80)}
    good = [receipts.decode(encoded(outbox, 1, number, rows[number])) for number in range(1, 80)]
    assert good[4].rows == rows[5] and good[4].identity == str(outbox)
    numbers = {str(outbox): (1, 79), str(other): (1, 3)}
    assert receipts.judge(good, numbers) == []
    assert receipts.judge(good[15:], numbers) == [], "compaction keeps 64 of them"
    assert "no receipts of the batches [16]" in receipts.judge(good[16:], numbers)[0]
    assert "PostgreSQL ends at 79" in receipts.judge(good[:-1], numbers)[0]
    twice = receipts.decode(encoded(outbox, 1, 80, [(90000, bytes(8))] + [(90001, bytes(8))]))
    assert receipts.judge(good + [twice, twice._replace(rows=[(90002, bytes(8))])], {str(outbox): (1, 80)}) == [f"2 receipts of batch 80 of {outbox}"]
    again = receipts.decode(encoded(outbox, 1, 80, rows[3]))
    assert len(receipts.judge(good + [again], {str(outbox): (1, 80)})) == 3
    used_again = receipts.decode(encoded(outbox, 1, 80, [(seq, bytes(8)) for seq, _ in rows[3]]))
    assert receipts.judge(good + [used_again], {str(outbox): (1, 80)}) == [], "another event under a number that was used again"
    elsewhere = receipts.decode(encoded(other, 1, 3, rows[3]))
    assert receipts.judge(good + [elsewhere._replace(number=number, rows=elsewhere.rows[number - 1:number]) for number in (1, 2, 3)], numbers) == []


def test_the_audit_finds_altered_and_misplaced_events(planted):
    planted.relay(published=planted.events[1:], inserted=planted.events[2:])
    planted.publish(planted.events[0][0], 99)
    planted.insert(planted.events[0][0], 99)
    topic, partition, offset = planted.positions[planted.events[1][0]]
    planted.insert(*planted.events[1], position=(topic, partition, offset + 1000))
    result = planted.place.audit()
    assert result.kafka["altered"] == result.clickhouse["altered"] == result.clickhouse["misplaced"] == 1
    assert not result.ok()


def test_the_audit_finds_keys_that_are_not_the_aggregates(planted):
    planted.relay(published=planted.events[2:], inserted=[])
    for key, event in zip((None, planted.aggregate[:-1]), planted.events):
        planted.key = key
        planted.publish(*event)
    for event in planted.events:
        planted.insert(*event)
    result = planted.place.audit()
    assert result.kafka["altered"] == 2 and planted.aggregate[:-1] in result.text()
    assert not result.ok()


def test_the_audit_finds_an_aggregate_in_partitions_that_are_not_its_keys(planted):
    planted.relay(published=[], inserted=[])
    for number, event in enumerate(planted.events):
        planted.publish(*event, partition=number % 2)
        planted.insert(*event)
    assert counts(planted.place.audit()) == ({"misplaced": 5}, {})


def test_the_audit_follows_an_aggregate_that_moves_when_partitions_are_added(planted):
    planted.relay(published=planted.events[:5], inserted=planted.events[:5])
    topic = planted.place.topics[0]
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": planted.place.servers.bootstrap})
    admin.create_partitions([confluent_kafka.admin.NewPartitions(topic, 3)])[topic].result(30)
    wait_until(lambda: len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3, "there are three partitions")
    planted.connect()
    planted.relay(published=planted.events[5:], inserted=planted.events[5:])
    result = planted.place.audit()
    assert result.ok(), result.text()
    assert len({partition for _, partition, _ in planted.positions.values()}) == 2


def test_the_audit_knows_dead_letters_and_finds_them_doubled(planted):
    planted.relay(inserted=planted.events[1:])
    position = planted.positions[planted.events[0][0]]
    planted.set_aside(position)
    result = planted.place.audit()
    assert result.ok() and result.dead_lettered == result.set_aside == 1
    planted.set_aside(position)
    assert counts(planted.place.audit()) == ({}, {"doubled": 1})
    planted.insert(*planted.events[0])
    assert planted.place.audit().clickhouse["doubled"] == 2


def test_the_audit_finds_a_dead_letter_with_another_messages_bytes(planted):
    planted.relay(inserted=planted.events[1:])
    planted.set_aside(planted.positions[planted.events[0][0]], value=planted.values[planted.positions[planted.events[1][0]]])
    assert counts(planted.place.audit()) == ({}, {"altered": 1})


def test_the_audit_sees_only_what_a_read_committed_consumer_sees(planted):
    planted.relay()
    producer = confluent_kafka.Producer({"bootstrap.servers": planted.place.servers.bootstrap, "transactional.id": "audit-" + planted.aggregate})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(planted.place.topics[0], b"{}", headers={"event_id": planted.events[0][0]})
    producer.flush(60)
    producer.abort_transaction(60)
    assert planted.place.audit().ok()


def test_the_audit_reads_to_the_end_past_what_it_has_read(planted):
    """The reader itself: every record of every partition once, in the order of a partition."""
    for n in range(300):
        planted.publish(str(uuid.uuid4()), n, partition=n % 2)
    records = list(audit_module.read_topics(planted.place.servers.bootstrap, planted.place.prefix + "."))
    assert len(records) == 300
    offsets = collections.defaultdict(list)
    for _, _, partition, offset, _, _, _ in records:
        offsets[partition].append(offset)
    assert {p: sorted(seen) == seen and len(seen) for p, seen in offsets.items()} == {0: 150, 1: 150}
