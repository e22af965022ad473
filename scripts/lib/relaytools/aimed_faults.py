# SPDX-License-Identifier: Apache-2.0
"""Faults that wait for a step of a protocol and strike exactly there, each at what one safeguard of the relay is for
(safeguards.py). What they hold is held in the proxies until a condition is met, so that no time has to be guessed.
They also take their turn among all others."""
import signal
import time

import psycopg2

from . import kafka_ends
from .bench import BEYOND_TIMEOUTS
from .faults import committed_of, fault, partitions_of
from .proxy import END_TXN, OFFSET_COMMIT, TO_SERVER, Rule

PATIENCE = 15.0     # for the step to come
INSERT = b"query=INSERT"
# Longer than a consumer's session, a takeover and what is behind it.
TAKEOVER = BEYOND_TIMEOUTS + 12.0


def until(condition, seconds, every=0.05):
    """For `yield from`: until the condition holds or the time is over. Returns whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        yield every
    return True


def _first_hit(rules, seconds=PATIENCE):
    """Of [(what, proxy, rule)] the one that is hit first; the others are lifted at once. None: none was."""
    yield from until(lambda: any(rule.hits for _, _, rule in rules), seconds)
    first = next(((what, proxy, rule) for what, proxy, rule in rules if rule.hits), None)
    for what, proxy, rule in rules:
        if first is None or rule is not first[2]:
            proxy.lift(rule)
    return first


def _first_held(bench, key):
    """Holds requests of the kind on their way to Kafka. (proxy, rule) of the first that comes, None: none did."""
    rules = [(None, proxy, proxy.add(Rule((TO_SERVER,), hold_keys=(key,)))) for proxy in bench.kafka]
    first = yield from _first_hit(rules)
    return first and first[1:]


def several_replicas(bench):
    return bench.replica_count > 1


# ------------------------------------------------------------------------------------------------------------ publish

@fault("lost-commit", 2, "relay postgres-net")
def lost_commit(bench, rng):
    """A replica dies between Kafka's commit of a batch and PostgreSQL's: the COMMIT is held on its way and never arrives."""
    rules = [(replica, replica.postgres, replica.postgres.add(Rule((TO_SERVER,), hold_texts=(b"write_number", b"COMMIT"))))
             for replica in bench.replicas]
    first = yield from _first_hit(rules)
    if first is None:
        return 0
    replica, proxy, rule = first
    replica.kill()
    proxy.cut()
    proxy.lift(rule)
    yield rng.choice((0.0, rng.uniform(0.1, 3.0)))
    replica.start()
    return 1


def _batch_numbers(bench):
    """Empty while PostgreSQL is away."""
    try:
        return dict(bench.place.execute("SELECT o.identity::text, coalesce(max(b.number), 0) FROM outbox_relay.outboxes o "
                                        "LEFT JOIN outbox_relay.batch_numbers b USING (identity) GROUP BY 1"))
    except psycopg2.OperationalError:
        return {}


def _published_since(bench, before):
    """Whether every outbox has batches beyond these numbers."""
    now = _batch_numbers(bench)
    return bool(now) and all(number > before.get(identity, 0) for identity, number in now.items())


@fault("frozen-publisher", 2, "relay kafka-net", "several replicas", several_replicas)
def frozen_publisher(bench, _):
    """A replica freezes while its commit of a batch is on the way to Kafka (EndTxn, held), which arrives when another one
    has taken over and published."""
    held = yield from _first_held(bench, END_TXN)
    if held is None:
        return 0
    proxy, rule = held
    frozen = [replica for replica in bench.replicas if replica.name in rule.held]
    hits = sum(replica.signal(signal.SIGSTOP) for replica in frozen)
    before = _batch_numbers(bench)
    # Every outbox is written to all the time: those of the others go on at once, this one after the takeover.
    yield from until(lambda: _published_since(bench, before), TAKEOVER)
    proxy.lift(rule)
    yield 1.0
    for replica in frozen:
        replica.signal(signal.SIGCONT)
    return hits


@fault("late-commit", 2, "postgres")
def late_commit(bench, rng):
    """A transaction draws its numbers and commits seconds later, when higher ones have left each outbox."""
    with bench.canaries() as commit:
        yield rng.uniform(1.0, 3.0)
        above = bench.write_canaries()
        yield from until(lambda: bench.departed(above) == len(above), PATIENCE)
        hits = bench.departed(above)
        commit()
    return hits


# ------------------------------------------------------------------------------------------------------------- insert

def ends_of(bench):
    """The group's topics as they are now: (topic, partition) -> end of the log."""
    return kafka_ends.ends(bench.servers.bootstrap, partitions_of(bench))


def committed_up_to(bench, ends):
    """Whether the group has committed all that lies before these ends."""
    committed = committed_of(bench, [each for each, end in ends.items() if end > 0])
    return all(committed.get(each, -1) >= end for each, end in ends.items() if end > 0)


def _stored(bench):
    """(topic, partition) -> the last offset that ClickHouse has."""
    rows = bench.place.clickhouse("SELECT kafka_topic, kafka_partition, max(kafka_offset) FROM {db}.outbox_events GROUP BY 1, 2 FORMAT TSV")
    return {(topic, int(partition)): int(last) for topic, partition, last in (line.split("\t") for line in rows.splitlines())}


def _committed_by_no_one(bench):
    """For `yield from`: whether, within four seconds, a message lies in ClickHouse for a second with no offset committed behind it."""
    deadline = time.monotonic() + 4.0
    while time.monotonic() < deadline:
        stored = _stored(bench)
        yield 1.0
        committed = committed_of(bench, list(stored)) if stored else {}
        if any(committed.get(each, 0) <= last for each, last in stored.items()):
            return True
    return False


def _late_insert(bench, freeze):
    """Holds one INSERT until what lies in Kafka has been stored without it; then it reaches ClickHouse."""
    rules = [(replica, replica.clickhouse, replica.clickhouse.add(Rule(http="late", match=INSERT, hang_up=not freeze)))
             for replica in bench.replicas]
    first = yield from _first_hit(rules)
    if first is None:
        return 0
    replica, proxy, rule = first
    if freeze:
        replica.signal(signal.SIGSTOP)
    ends = ends_of(bench)
    yield from until(lambda: committed_up_to(bench, ends), TAKEOVER, every=0.3)
    proxy.lift(rule)
    yield from until(lambda: rule.late_answers, PATIENCE)
    if freeze:
        replica.signal(signal.SIGCONT)
    return 1


@fault("frozen-inserter", 2, "relay clickhouse-net", "several replicas", several_replicas)
def frozen_inserter(bench, _):
    """A replica freezes while an INSERT is on its way to ClickHouse, which arrives when another one has taken its partitions
    over, read back, and stored the same messages."""
    return (yield from _late_insert(bench, freeze=True))


@fault("late-insert", 2, "clickhouse-net")
def late_insert(bench, _):
    """An INSERT is held on its way to ClickHouse and its connection is cut; it arrives when its relay has read back and stored
    the same messages again."""
    return (yield from _late_insert(bench, freeze=False))


@fault("lost-offset-commit", 2, "relay kafka-net")
def lost_offset_commit(bench, rng):
    """A replica dies with messages stored in ClickHouse whose offset commit is held on its way to Kafka and never arrives."""
    yield from until(lambda: bench.place.clickhouse_rows() > 0, PATIENCE)
    for _ in range(4):
        held = yield from _first_held(bench, OFFSET_COMMIT)
        if held is None:
            return 0
        proxy, rule = held
        if (yield from _committed_by_no_one(bench)):
            break
        proxy.lift(rule)    # the one held says nothing new, as at the end of a rebalance, and its relay stores nothing meanwhile
    else:
        return 0
    struck = [replica for replica in bench.replicas if replica.name in rule.held]
    hits = sum(replica.kill() for replica in struck)
    for name in rule.held:
        proxy.cut(client=name)
    proxy.lift(rule)
    yield rng.choice((0.0, rng.uniform(0.1, 3.0)))
    for replica in struck:
        replica.start()
    return hits


@fault("kill-inserters", 2, "relay clickhouse-net")
def kill_inserters(bench, _):
    """Every replica is killed with messages that it has read and not stored: its INSERTs are held, for longer than an offset
    commit takes, and never arrive."""
    rules = [(replica.clickhouse, replica.clickhouse.add(Rule(http="late", match=INSERT, limit=1000))) for replica in bench.replicas]
    yield from until(lambda: any(rule.hits for _, rule in rules), PATIENCE)
    yield 1.5
    hits = sum(rule.hits for _, rule in rules)
    for replica in bench.replicas:
        replica.kill()
    for proxy, rule in rules:
        proxy.cut()
        proxy.lift(rule)
    for replica in bench.replicas:
        replica.start()
    return hits


@fault("kill-behind-view", 1, "relay clickhouse", "a view on the table", lambda bench: bench.view is not None)
def kill_behind_view(bench, _):
    """A materialized view fails, and every replica is killed when ClickHouse has refused INSERTs whose rows the table has and
    the view has not; then the view works again."""
    bench.view.fail()
    paused = yield from until(lambda: any(replica.relay.events("insert.table_paused") for replica in bench.replicas), PATIENCE)
    for replica in bench.replicas:
        replica.kill()
    behind = bench.view.behind()
    bench.view.repair()
    for replica in bench.replicas:
        replica.start()
    return behind if paused else 0


def view_wanted(names):
    """Whether the place of a run with these faults needs a view."""
    return "kill-behind-view" in (names or ())
