# SPDX-License-Identifier: Apache-2.0
"""The faults of the torture bench. Each is a generator: it breaks something, yields how many seconds it is to stay so,
and fixes it; what it returns is how often it really hit (0: nothing was there to be broken).

`touches` names what a fault takes hold of: two faults may overlap when they touch different things. A fault measures
nothing and judges nothing; the schedule does the first, the auditor the second."""
import dataclasses
import signal

import confluent_kafka.admin
import psycopg2

from . import kafka_ends, kafka_groups
from .bench import BEYOND_TIMEOUTS
from .proxy import BOTH, END_TXN, OFFSET_COMMIT, TO_CLIENT, TO_SERVER, Rule
from .sessions import autocommitting
from .workload import APPLICATION

FAULTS = {}
WIDE_WINDOW = 100000
MOST_PARTITIONS = 8


@dataclasses.dataclass
class Fault:
    name: str
    text: str
    weight: float
    touches: frozenset
    begin: object
    needs: str = ""         # in words, for --list-faults
    possible: object = None

    def is_possible(self, bench):
        return self.possible is None or self.possible(bench)


def fault(name, weight, touches, needs="", possible=None):
    def register(function):
        FAULTS[name] = Fault(name, " ".join(function.__doc__.split()), weight, frozenset(touches.split()), function, needs, possible)
        return function
    return register


# ------------------------------------------------------------------------------------------------------------ relays

@fault("kill-relay", 10, "relay")
def kill_relay(bench, rng):
    """SIGKILL to a replica; it starts again at once or a little later."""
    replica = rng.choice(bench.replicas)
    hits = replica.kill()
    yield rng.choice((0.0, 0.0, rng.uniform(0.1, 3.0)))
    replica.start()
    return int(hits)


@fault("kill-all-relays", 2, "relay")
def kill_all_relays(bench, rng):
    """SIGKILL to every replica at the same moment."""
    hits = sum(replica.kill() for replica in bench.replicas)
    yield rng.choice((0.0, rng.uniform(0.1, 3.0)))
    for replica in bench.replicas:
        replica.start()
    return hits


@fault("freeze-relay", 5, "relay")
def freeze_relay(bench, rng):
    """SIGSTOP to a replica for some seconds, often beyond every timeout, then SIGCONT: a zombie with work in hand."""
    replica = rng.choice(bench.replicas)
    hits = replica.signal(signal.SIGSTOP)
    yield rng.choice((rng.uniform(0.1, 4.0), rng.uniform(4.0, BEYOND_TIMEOUTS), BEYOND_TIMEOUTS))
    replica.signal(signal.SIGCONT)
    return int(hits)


@fault("stop-relay", 2, "relay")
def stop_relay(bench, rng):
    """A clean stop and start of a replica, as in a deployment."""
    replica = rng.choice(bench.replicas)
    hits = replica.stop()
    yield rng.uniform(0.0, 1.0)
    replica.start()
    return int(hits)


@fault("rebalance", 3, "relay")
def rebalance(bench, rng):
    """One more replica joins for some seconds and leaves, cleanly or by SIGKILL."""
    replica = bench.add_replica()
    yield rng.uniform(0.5, 6.0)
    if rng.random() < 0.5:
        replica.kill()
    bench.remove_replica(replica)
    return 1


@fault("clock-jump", 1, "relay", "libfaketime", lambda bench: bench.faketime)
def clock_jump(bench, rng):
    """The first replica's wall clock jumps by up to an hour, forth or back, and returns."""
    bench.set_clock(rng.randint(-3600, 3600))
    yield rng.uniform(2.0, 5.0)
    bench.set_clock(0)
    return int(bench.replicas[0].running())


# ----------------------------------------------------------------------------------------------------------- servers

def _kill_server(service, weight, text, possible=None, needs=""):
    def begin(bench, rng):
        bench.postgres_killed = bench.postgres_killed or service == "postgres"
        bench.act("kill", service)
        yield rng.choice((0.0, rng.uniform(0.2, 5.0)))
        bench.act("start", service)
        return 1
    begin.__doc__ = text
    fault(f"kill-{service}", weight, service, needs, possible)(begin)


def _restart_server(service, weight, possible=None, needs=""):
    def begin(bench, _):
        bench.act("restart", service)
        yield 0.0
        return 1
    begin.__doc__ = f"{service} is stopped politely and started again."
    fault(f"restart-{service}", weight, service, needs, possible)(begin)


def _pause_server(service, weight):
    def begin(bench, rng):
        bench.act("pause", service)
        try:
            yield rng.choice((rng.uniform(0.2, 5.0), BEYOND_TIMEOUTS))
        finally:
            bench.act("resume", service)
        return 1
    begin.__doc__ = f"SIGSTOP to {service}: connections stay open and nothing answers, for up to longer than every timeout."
    fault(f"pause-{service}", weight, service)(begin)


def one_node(bench):
    return bench.kafka_nodes == 1


_kill_server("postgres", 3, "SIGKILL to every PostgreSQL process; crash recovery at the start.")
_kill_server("clickhouse", 3, "SIGKILL to ClickHouse.")
_kill_server("kafka", 2, "SIGKILL to the only Kafka node.", one_node, "one Kafka node")
_restart_server("postgres", 1)
_restart_server("clickhouse", 1)
_restart_server("kafka", 1, one_node, "one Kafka node")
for _service in ("postgres", "kafka", "clickhouse"):
    _pause_server(_service, 1.5)


@fault("kafka-leader", 5, "kafka", "three Kafka nodes", lambda bench: bench.kafka_nodes >= 3)
def kafka_leader(bench, rng):
    """SIGKILL to one of several Kafka nodes: its partitions, coordinators and perhaps the controller move."""
    node = f"kafka-{rng.randint(1, bench.kafka_nodes)}"
    bench.servers.kill(node)
    yield rng.uniform(1.0, 6.0)
    bench.servers.start(node)
    return 1


@fault("pause-kafka-node", 3, "kafka", "three Kafka nodes", lambda bench: bench.kafka_nodes >= 3)
def pause_kafka_node(bench, rng):
    """SIGSTOP to one of several Kafka nodes, often for so long that its partitions move: it comes back as a leader that has yet to hear
    of its successors."""
    node = f"kafka-{rng.randint(1, bench.kafka_nodes)}"
    bench.servers.pause(node)
    try:
        yield rng.choice((rng.uniform(0.5, 5.0), BEYOND_TIMEOUTS))
    finally:
        bench.servers.resume(node)
    return 1


@fault("terminate-backends", 2, "postgres")
def terminate_backends(bench, rng):
    """pg_terminate_backend() on some of the relays' sessions, so that an owner loses one connection and not the other."""
    with autocommitting(bench.place.admin_dsn, connect_timeout=5) as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                       "AND application_name <> %s", (APPLICATION,))
        pids = [row[0] for row in cursor.fetchall()]
        chosen = rng.sample(pids, rng.randint(1, len(pids))) if pids else []
        for pid in chosen:
            cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))
    yield 0.0
    return len(chosen)


@fault("locked-row", 1, "postgres")
def locked_row(bench, rng):
    """An operator's transaction holds rows of an outbox locked while the relay wants them, and rolls back."""
    connection = psycopg2.connect(bench.place.admin_dsn, connect_timeout=5, application_name=APPLICATION, options="-c lock_timeout=2s")
    hits = 0
    try:
        with connection.cursor() as cursor:
            try:
                cursor.execute(f"UPDATE {rng.choice(bench.tables)} SET last_error = 'looked at' WHERE seq IN "
                               f"(SELECT seq FROM {rng.choice(bench.tables)} WHERE published_at IS NULL ORDER BY seq DESC LIMIT 20)")
                hits = cursor.rowcount
            except psycopg2.errors.LockNotAvailable:
                connection.rollback()
        yield rng.uniform(0.2, 4.0)
        connection.rollback()
    finally:
        connection.close()
    return hits


# ----------------------------------------------------------------------------------------------------------- network

def _network(bench, server, rng):
    """The proxies to a server, and Rule's `client`, for one replica or for all."""
    replicas = bench.replicas if rng.random() < 0.4 else [rng.choice(bench.replicas)]
    if server == "kafka":
        client = None if len(replicas) == len(bench.replicas) else replicas[0].name
        nodes = bench.kafka if rng.random() < 0.5 else [rng.choice(bench.kafka)]
        return nodes, client
    return [getattr(replica, server) for replica in replicas], None


def _apply_rules(bench, server, rng, seconds, **settings):
    chosen, client = _network(bench, server, rng)
    rules = [(proxy, proxy.add(Rule(client=client, **settings))) for proxy in chosen]
    yield seconds
    for proxy, rule in rules:
        proxy.lift(rule)
    return sum(rule.hits for _, rule in rules)


def _cut(server):
    def begin(bench, rng):
        chosen, client = _network(bench, server, rng)
        reset, share = rng.random() < 0.6, rng.choice((1.0, 1.0, 0.5))
        hits = 0
        for _ in range(rng.choice((1, 1, 3))):
            hits += sum(proxy.cut(reset, share, client, rng.random()) for proxy in chosen)
        # And one that is cut in the middle of a message.
        rules = [(proxy, proxy.add(Rule((rng.choice(BOTH),), cut_after=rng.randint(1, 2000), client=client))) for proxy in chosen]
        yield rng.uniform(0.0, 0.5)
        for proxy, rule in rules:
            proxy.lift(rule)
        return hits + sum(rule.hits for _, rule in rules)
    begin.__doc__ = f"Connections to {server} are cut, by RST or FIN, some in the middle of a message."
    return begin


def _half_open(server):
    def begin(bench, rng):
        seconds = rng.choice((rng.uniform(0.3, 5.0), BEYOND_TIMEOUTS))
        return (yield from _apply_rules(bench, server, rng, seconds, hold=True, directions=rng.choice((BOTH, (TO_SERVER,), (TO_CLIENT,)))))
    begin.__doc__ = f"Half-open connections to {server}: bytes of one or both directions are held, and arrive late, after their sender gave up."
    return begin


def _slow(server):
    def begin(bench, rng):
        settings = {"delay": rng.uniform(0.02, 0.5)} if rng.random() < 0.6 else {"throttle": rng.uniform(20e3, 500e3)}
        return (yield from _apply_rules(bench, server, rng, rng.uniform(1.0, 5.0), directions=rng.choice((BOTH, (TO_SERVER,), (TO_CLIENT,))), **settings))
    begin.__doc__ = f"Connections to {server} get slow: delayed or throttled."
    return begin


def _refuse(server):
    def begin(bench, rng):
        chosen, client = _network(bench, server, rng)
        for proxy in chosen:
            proxy.refuse()
        hits = sum(proxy.cut(client=client) for proxy in chosen)
        yield rng.uniform(0.3, 5.0)
        for proxy in chosen:
            proxy.accept()
        return max(hits, 1)
    begin.__doc__ = f"{server} cannot be reached: connections are cut and new ones refused."
    return begin


for _kind, _weight, _make in (("cut", 3, _cut), ("half-open", 3, _half_open), ("slow", 1, _slow), ("refuse", 1.5, _refuse)):
    for _server in ("postgres", "kafka", "clickhouse"):
        fault(f"{_kind}-{_server}", _weight, f"{_server}-net")(_make(_server))


def _hold_request(bench, rng, keys):
    rules = [(proxy, proxy.add(Rule((TO_SERVER,), hold_keys=keys))) for proxy in bench.kafka]
    yield rng.choice((rng.uniform(0.5, 3.0), rng.uniform(4.5, 9.0)))
    for proxy, rule in rules:
        proxy.lift(rule)
    return sum(rule.hits > 0 for _, rule in rules)


@fault("held-offset-commit", 3, "kafka-net")
def held_offset_commit(bench, rng):
    """An offset commit is held in the proxy until librdkafka has given it up and repeated it, and released then."""
    return (yield from _hold_request(bench, rng, (OFFSET_COMMIT,)))


@fault("held-end-transaction", 2, "kafka-net")
def held_end_transaction(bench, rng):
    """The same with the end of a transaction (EndTxn)."""
    return (yield from _hold_request(bench, rng, (END_TXN,)))


# -------------------------------------------------------------------------------------------------- Kafka, by its API

def group_of(bench):
    return f"relay-{bench.place.prefix}"


def partitions_of(bench):
    return kafka_ends.partitions(bench.servers.bootstrap, bench.place.topics)


def committed_of(bench, partitions):
    """What the relays' group has committed of these: (topic, partition) -> offset, of those that have one."""
    return kafka_groups.committed_offsets(bench.servers.bootstrap, group_of(bench), partitions)


def _lower_offsets(bench, rng):
    """Some of the group's committed offsets, each moved back by a little or to the beginning."""
    committed = committed_of(bench, partitions_of(bench))
    chosen = [each for each in committed if rng.random() < 0.7]
    return {each: rng.choice((0, max(0, committed[each] - rng.randint(1, 300)))) for each in chosen}


@fault("partitions-added", 0.7, "kafka")
def partitions_added(bench, rng):
    """A topic gets one partition more."""
    topic = rng.choice(bench.place.topics)
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": bench.servers.bootstrap})
    now = len(admin.list_topics(topic, timeout=20).topics[topic].partitions)
    if now < MOST_PARTITIONS:
        wanted = confluent_kafka.admin.NewPartitions(topic, now + 1)
        admin.create_partitions([wanted], operation_timeout=20)[topic].result(30)
    yield 0.0
    return int(now < MOST_PARTITIONS)


@fault("foreign-commit", 2, "kafka relay")
def foreign_commit(bench, rng):
    """A live member of the group commits lower offsets for partitions it does not own; then it leaves, and a replica may be killed."""
    stranger = kafka_groups.Stranger(bench.servers.bootstrap, group_of(bench), f"{bench.place.name}-foreign")
    try:
        offsets = _lower_offsets(bench, rng)
        hits = stranger.commit(offsets) if offsets else 0
        killed = rng.choice(bench.replicas) if rng.random() < 0.6 else None
        if killed:
            killed.kill()
        yield rng.uniform(0.0, 1.0)
    finally:
        stranger.leave()
    if killed:
        killed.start()
    return hits


def _without_relays(bench, rng, action):
    """Kafka changes the offsets only of a group without members."""
    for replica in bench.replicas:
        replica.stop()
    hits = action()
    yield rng.uniform(0.0, 1.0)
    for replica in bench.replicas:
        replica.start()
    return hits


@fault("offsets-reset", 1, "kafka relay")
def offsets_reset(bench, rng):
    """With the relays stopped, an operator sets committed offsets back, some to the beginning."""
    def reset():
        offsets = _lower_offsets(bench, rng)
        if offsets:
            kafka_groups.commit_from_outside(bench.servers.bootstrap, group_of(bench), offsets)
        return len(offsets)
    return (yield from _without_relays(bench, rng, reset))


@fault("offsets-deleted", 1, "kafka relay")
def offsets_deleted(bench, rng):
    """With the relays stopped, the consumer group is deleted, as Kafka does with one that was empty for long."""
    return (yield from _without_relays(bench, rng, lambda: int(kafka_groups.delete_group(bench.servers.bootstrap, group_of(bench)))))


# -------------------------------------------------------------------------------------------------------- ClickHouse

def _http(name, weight, text, seconds=(0.3, 3.0), **settings):
    def begin(bench, rng):
        rules = [(replica.clickhouse, replica.clickhouse.add(Rule(share=rng.choice((1.0, 0.5)), seed=rng.random(), **settings)))
                 for replica in bench.replicas]
        yield rng.uniform(*seconds)
        for proxy, rule in rules:
            proxy.lift(rule)
        return sum(rule.hits for _, rule in rules)
    begin.__doc__ = text
    fault(name, weight, "clickhouse-net")(begin)


_http("clickhouse-exception", 2, "ClickHouse answers 200 with an exception in the body; nothing was carried out.", http="swallow")
_http("clickhouse-late-exception", 2, "The same, although the request was carried out.", http="falsify")
_http("clickhouse-gateway", 2, "A gateway answers 502 although the request was carried out.", http="falsify", answer="gateway")
_http("clickhouse-busy", 1, "503 without a word from ClickHouse; nothing was carried out.", http="swallow", answer="busy")
_http("clickhouse-fixed-answer", 2, "200 without a word, as a balancer in maintenance answers; nothing was carried out.", http="swallow", answer="nothing")
_http("clickhouse-cut-answer", 3, "The connection is cut in the middle of the answer; the request was carried out.", http="cut_answer")
_http("clickhouse-cut-body", 2, "The connection is cut in the middle of the request's body.", http="cut_request")
_http("clickhouse-slow", 2, "Requests arrive at ClickHouse after the relay has given them up.", seconds=(2.0, 9.0), http="slow", delay=6.0)


@fault("failing-view", 2, "clickhouse")
def failing_view(bench, rng):
    """A materialized view that throws: ClickHouse refuses INSERTs whose rows it has already stored."""
    bench.place.clickhouse("CREATE TABLE IF NOT EXISTS {db}.view_target (n UInt64) ENGINE = MergeTree ORDER BY n "
                           "SETTINGS non_replicated_deduplication_window = 1000")
    bench.place.clickhouse("CREATE MATERIALIZED VIEW {db}.failing_view TO {db}.view_target AS "
                           "SELECT throwIf(kafka_offset >= 0, 'torture') AS n FROM {db}.outbox_events")
    try:
        yield rng.uniform(0.5, 5.0)
    finally:
        bench.place.clickhouse("DROP VIEW IF EXISTS {db}.failing_view SYNC")
    return 1


def _unknown_outcomes(bench, rng, seconds=1.0):
    """For a moment no answer of ClickHouse is readable: what the relay had under way has an unknown outcome."""
    rules = [(replica.clickhouse, replica.clickhouse.add(Rule(http=rng.choice(("cut_answer", "falsify")), answer="gateway"))) for replica in bench.replicas]
    yield seconds
    for proxy, rule in rules:
        proxy.lift(rule)
    return sum(rule.hits for _, rule in rules)


@fault("schema-change", 2, "clickhouse clickhouse-net")
def schema_change(bench, rng):
    """Between two attempts at one batch the table gets a column, or a constraint that refuses every row, and loses it again.
    Rows that are refused become dead letters, until there are so many that the table is paused."""
    added, dropped = rng.choice((("ADD COLUMN torture UInt8", "DROP COLUMN IF EXISTS torture"),
                                 ("ADD CONSTRAINT torture CHECK kafka_offset < 0", "DROP CONSTRAINT IF EXISTS torture")))
    hits = yield from _unknown_outcomes(bench, rng)
    bench.rows_refused = bench.rows_refused or "CONSTRAINT" in added
    bench.place.clickhouse(f"ALTER TABLE {{db}}.outbox_events {added}")
    try:
        yield rng.uniform(0.3, 4.0)
    finally:
        bench.place.clickhouse(f"ALTER TABLE {{db}}.outbox_events {dropped}")
    return hits


def _window(bench, entries):
    bench.place.clickhouse(f"ALTER TABLE {{db}}.outbox_events MODIFY SETTING non_replicated_deduplication_window = {entries}")


@fault("small-window", 2, "clickhouse clickhouse-net relay")
def small_window(bench, rng):
    """The deduplication window holds one to three inserts, and overflows; then unknown outcomes and a SIGKILL."""
    _window(bench, rng.randint(1, 3))
    try:
        yield rng.uniform(1.0, 3.0)
        hits = yield from _unknown_outcomes(bench, rng, rng.uniform(0.3, 1.0))
        replica = rng.choice(bench.replicas)
        replica.kill()
        yield rng.uniform(0.2, 1.0)
        replica.start()
    finally:
        _window(bench, WIDE_WINDOW)
    return hits


@fault("outage-beyond-window", 1, "clickhouse clickhouse-net relay")
def outage_beyond_window(bench, rng):
    """An unknown outcome, an outage of ClickHouse beyond every timeout, a new owner, and a window that has forgotten the insert."""
    _window(bench, 1)
    hits = yield from _unknown_outcomes(bench, rng, 0.5)
    bench.servers.kill("clickhouse")
    replica = rng.choice(bench.replicas)
    replica.kill()
    yield BEYOND_TIMEOUTS
    bench.servers.start("clickhouse")
    replica.start()
    _window(bench, WIDE_WINDOW)
    return hits
