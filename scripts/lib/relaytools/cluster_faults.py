# SPDX-License-Identifier: Apache-2.0
"""Faults of what stands behind the servers: a standby that takes over, nodes that do not reach each other, a disk that is full. Each
needs an option of scripts/torture that makes it."""
import contextlib
import os

import psycopg2
from psycopg2.extensions import make_dsn

from servers.disks import Disk

from .aimed_faults import PATIENCE, TAKEOVER, until
from .bench import BEYOND_TIMEOUTS
from .faults import FAULTS, fault
from .sessions import execute_each

RECOVERY = 60.0     # of a PostgreSQL that a full disk has ended

# -------------------------------------------------------------------------------------------------------- PostgreSQL


def _primary_dies(bench, rng):
    bench.standby.primary.kill()
    yield rng.choice((0.0, rng.uniform(0.2, 4.0)))
    bench.standby.promote()
    _aim(bench.replicas + bench.extra, bench.standby.port)
    return 1


def _aim(replicas, port):
    for replica in replicas:
        replica.postgres.target = ("127.0.0.1", port)


def _in_time(ask, *arguments):
    """What it returns. None: PostgreSQL has not answered in time, as happens under load."""
    try:
        return ask(*arguments)
    except psycopg2.OperationalError:
        return None


def published_from(bench, dsn):
    """For `yield from`: writes an event into each outbox of this server. Returns how many have left in a takeover's time."""
    ids, hits = None, 0

    def all_have_left():
        nonlocal ids, hits
        ids = ids or _in_time(bench.write_canaries, dsn)
        hits = (ids and _in_time(bench.departed, ids, dsn)) or hits
        return ids and hits == len(ids)

    yield from until(all_have_left, TAKEOVER, every=0.3)
    return hits


def _primary_wakes(bench, rng):
    """Frozen while the standby is promoted, it goes on when rows have left the new primary's outboxes: with the sessions that it had, for
    clients that look for a primary where it is, and for replicas that have not heard of its successor."""
    standby = bench.standby
    standby.primary.pause()
    try:
        yield rng.uniform(0.0, 3.0)
        standby.promote()
        _aim(rng.sample(bench.replicas, rng.randint(1, len(bench.replicas))), standby.port)
        hits = yield from published_from(bench, make_dsn(bench.place.dsn, host="127.0.0.1", port=standby.port))
    finally:
        standby.primary.resume()
    yield rng.uniform(0.5, PATIENCE / 3)
    standby.primary.kill()
    _aim(bench.replicas + bench.extra, standby.port)
    return hits


@fault("failover", 3, "postgres", "a synchronous standby of PostgreSQL, --standby", lambda bench: bench.standby is not None)
def failover(bench, rng):
    """PostgreSQL's primary is killed and its synchronous standby is promoted; or it is frozen, and wakes for some seconds when the new one
    has been published from. Then a new standby is made where it was."""
    bench.postgres_killed = True
    # A crash before may have shown readers what the standby has not yet.
    bench.standby.wait_synchronous()
    bench.standby.wait_caught_up()
    hits = yield from rng.choice((_primary_dies, _primary_wakes))(bench, rng)
    bench.standby.change_places()
    bench.aim_at_primary()      # also those of a replica that has come meanwhile
    bench.standby.make_synchronous()
    return hits


# ------------------------------------------------------------------------------------------------------------- Kafka

@fault("kafka-partition", 3, "kafka", "network namespaces, --kafka-namespaces", lambda bench: bench.kafka_network is not None)
def kafka_partition(bench, rng):
    """One of several Kafka nodes is cut off from the others, or from one of them, often for longer than every timeout; the relays reach all
    of them all the time."""
    node, *others = rng.sample(bench.kafka_network.nodes, len(bench.kafka_network.nodes))
    cut_off = rng.choice((others, others, others[:1]))
    try:
        for other in cut_off:
            bench.kafka_network.cut(node, other)
        yield rng.choice((rng.uniform(1.0, 6.0), BEYOND_TIMEOUTS, 2 * BEYOND_TIMEOUTS))
    finally:
        bench.kafka_network.mend()
    return len(cut_off)


# ------------------------------------------------------------------------------------------------------------- disks

def _answers(bench):
    """Whether PostgreSQL does; it is started where it has ended."""
    try:
        execute_each(make_dsn(bench.place.admin_dsn, connect_timeout=2), "SELECT 1")
        return True
    except psycopg2.OperationalError:
        with contextlib.suppress(RuntimeError):     # it may be about to end
            bench.act("start", "postgres")
        return False


def _full_disk(service, afterwards, text, possible):
    def begin(bench, rng):
        bench.postgres_killed = bench.postgres_killed or service == "postgres"
        disk = Disk(os.path.join(bench.servers.folder, service))
        disk.fill()
        try:
            yield rng.choice((rng.uniform(0.5, 5.0), BEYOND_TIMEOUTS))
        finally:
            disk.free()
        yield from afterwards(bench)
        return 1
    begin.__doc__ = text
    fault(f"full-disk-{service}", 2, service, "disks of their own, --own-disks", possible)(begin)


def _wait_for_postgres(bench):
    yield from until(lambda: _answers(bench), RECOVERY, every=0.3)


def _restart_kafka(bench):
    """It ends by itself, but not at once."""
    bench.act("restart", "kafka")
    yield 0.0


def _revive_clickhouse(bench):
    bench.revive()
    yield 0.0


_full_disk("postgres", _wait_for_postgres, "PostgreSQL's disk is full for a while: writes fail, and where it is the write-ahead log that does not fit it ends.",
           lambda bench: bench.own_disks and bench.standby is None)
_full_disk("kafka", _restart_kafka, "Kafka's disk is full: nodes whose only disk fails end. It is freed, and they are started again.",
           lambda bench: bench.own_disks)
_full_disk("clickhouse", _revive_clickhouse, "ClickHouse's disk is full for a while: it refuses INSERTs.", lambda bench: bench.own_disks)


__all__ = ["FAULTS"]
