# SPDX-License-Identifier: Apache-2.0
"""What the relay costs the application that writes the outbox: pgbench's commit rate with and without it."""
import os
import re
import signal
import subprocess
import time

from psycopg2.extensions import parse_dsn

from . import machine
from .lab import median
from .results import Result, thousands

SCRIPT = """\\set n random(1, 100000)
INSERT INTO {table} (aggregate_type, aggregate_id, event_type, payload, metadata) VALUES ('order',
 ('00000000-0000-4000-8000-' || lpad((:n % 10000)::text, 12, '0'))::uuid, 'order.created', ('{{"n": ' || :n || ', "note": "{note}"}}')::jsonb,
 '{{"correlation_id": "4d1f7a52-8f0e-4f1e-9d1f-2a8f3b6c7d10"}}');
"""
NOTE = "the order was changed by a customer after delivery to another address and paid with a voucher which had been sent last week because of " \
       "the weather in northern mountains where nobody expected the snow that fell on all of the roads"
SLICES = 3   # of a round: the disk and the host drift by more than a trigger costs, within less than a round
PLAIN = "public.outbox_plain"
REAL = "public.outbox_events"


def pgbench(lab, place, table, clients, seconds):
    """Commits a second, each of one row; the table was emptied before."""
    place.execute(f"TRUNCATE {table}")
    lab.settle(place, table)
    script = os.path.join(place.folder, f"write-{table}.sql")
    with open(script, "w", encoding="utf-8") as file:
        file.write(SCRIPT.format(table=table, note=NOTE))
    return run_pgbench(lab, place, script, clients, seconds)


def run_pgbench(lab, place, script, clients, seconds, transactions=None):
    """For so many seconds, or so many transactions of each client."""
    words = parse_dsn(place.dsn)
    length = ["-t", str(transactions)] if transactions else ["-T", str(int(seconds))]
    done = subprocess.run([os.path.join(lab.servers.env["POSTGRES_BIN"], "pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "2",
                           *length, "-f", script, "-h", words["host"], "-p", words["port"], "-U", words["user"], words["dbname"]],
                          env=dict(os.environ, PGPASSWORD=words["password"]), capture_output=True, text=True, timeout=(seconds or 600) + 120, check=False)
    match = re.search(r"tps = ([\d.]+)", done.stdout)
    if done.returncode != 0 or not match:
        raise RuntimeError(f"pgbench failed: {done.stderr.strip()[-500:]}")
    count = re.search(r"actually processed: (\d+)", done.stdout)
    return {"tps": float(match.group(1)), "rows": int(count.group(1))}


def make_plain(place):
    """The same table, with the same indexes, that no trigger knows."""
    place.execute(f"SELECT outbox_relay.create_outbox('{PLAIN}')")
    place.execute(f"DROP TRIGGER outbox_relay_wakeup ON {PLAIN}")


def trigger(lab):
    """Commit rate with the trigger: no relay, and a relay that is awake but held still, against a table without it."""
    taken = {(kind, clients): [] for kind in ("plain", "none", "held") for clients in (8, 32)}
    seconds = lab.sizes.writer_seconds // SLICES
    with lab.place("writers") as place:
        make_plain(place)
        for number in range(SLICES * lab.sizes.rounds):
            for clients in (8, 32):
                kinds = ["plain", "none", "held"]
                for kind in kinds[number % 3:] + kinds[:number % 3]:
                    taken[kind, clients].append(_one(lab, place, kind, clients, seconds)["tps"])
                lab.say(f"  round {number + 1}, {clients} clients: " + ", ".join(f"{kind} {taken[kind, clients][-1]:.0f}" for kind in kinds) + " commits/s")
    results = []
    words = {"none": "trigger, no relay", "held": "trigger, relay awake but held still"}
    for kind, text in words.items():
        for clients in (8, 32):
            ratios = [own / plain for own, plain in zip(taken[kind, clients], taken["plain", clients])]
            results.append(Result(f"writers' commit rate, {clients} clients: {text}", f"{thousands(median(taken[kind, clients]))}/s",
                                  f"without trigger {thousands(median(taken['plain', clients]))}/s", median(ratios), 0.97, at_least=True,
                                  spread=(min(ratios), max(ratios))))
    return results, {f"{kind} {clients}": values for (kind, clients), values in taken.items()}


def _one(lab, place, kind, clients, seconds):
    if kind == "plain":
        return pgbench(lab, place, PLAIN, clients, seconds)
    if kind == "none":
        return pgbench(lab, place, REAL, clients, seconds)
    relay = lab.relay(place, run={"lease": "5m"})
    try:
        hold_awake(lab, place, relay)
        return run_pgbench(lab, place, _script(place), clients, seconds)
    finally:
        relay.kill()
        _end_sessions(place)


def _script(place):
    path = os.path.join(place.folder, "write-held.sql")
    with open(path, "w", encoding="utf-8") as file:
        file.write(SCRIPT.format(table=REAL, note=NOTE))
    return path


def hold_awake(lab, place, relay):
    """Stops the process (SIGSTOP) at a moment at which it does not sleep: nobody holds the wake-up lock exclusively."""
    for _ in range(20):
        lab.fill(place, 20_000, settle=False)  # few: what is written back of them would be taken from the writers
        relay.wait(lambda: not sleeps(place) or place.outbox_rows() == 0, "the relay awake")
        relay.signal(signal.SIGSTOP)
        if not sleeps(place):
            return
        relay.signal(signal.SIGCONT)
        relay.wait(lambda: place.outbox_rows() == 0, "the outbox empty")
    raise RuntimeError("the relay could not be caught awake")


def sleeps(place):
    return place.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = %s::regclass::oid AND objid = 0 "
                         "AND objsubid = 2 AND mode = 'ExclusiveLock' AND granted)", REAL)[0][0]


def _end_sessions(place):
    """What a killed relay leaves behind in PostgreSQL would hold the table until its lease ends."""
    place.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                  "AND usename = current_user")
    deadline = time.monotonic() + 20
    while place.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                        "AND usename = current_user")[0][0]:
        if time.monotonic() > deadline:
            raise RuntimeError("the killed relay's sessions do not end")
        time.sleep(0.05)


def live(lab):
    """Commit rate while the relay publishes what they write, all on the same cores, against neither relay nor trigger."""
    clients, seconds = 8, lab.sizes.writer_seconds
    taken = {"plain": [], "at_least_once": [], "exactly_once": []}
    with lab.place("live") as place:
        make_plain(place)
        for number in range(lab.sizes.rounds):
            kinds = list(taken)
            for kind in kinds[number % 3:] + kinds[:number % 3]:
                taken[kind].append(pgbench(lab, place, PLAIN, clients, seconds) if kind == "plain" else _live_once(lab, place, kind, clients, seconds))
            lab.say(f"  round {number + 1}: plain {taken['plain'][-1]['tps']:.0f}/s, " + ", ".join(
                f"{kind} {taken[kind][-1]['tps']:.0f}/s, kept up {taken[kind][-1]['kept']:.1%}" for kind in kinds[1:]))
    results = []
    for kind in ("at_least_once", "exactly_once"):
        ratios = [own["tps"] / plain["tps"] for own, plain in zip(taken[kind], taken["plain"])]
        kept = median([own["kept"] for own in taken[kind]])
        results.append(Result(f"writers' commit rate while drained live, {clients} clients, {kind}", f"{thousands(median([o['tps'] for o in taken[kind]]))}/s",
                              f"without relay and trigger {thousands(median([p['tps'] for p in taken['plain']]))}/s", median(ratios), 0.65, at_least=True,
                              spread=(min(ratios), max(ratios))))
        results.append(Result(f"of these published meanwhile, {kind}", f"{kept:.1%}", "", kept, 0.95, at_least=True, shown=">= 95 %"))
    return results, taken


def _live_once(lab, place, guarantee, clients, seconds):
    place.execute(f"TRUNCATE {REAL}")
    lab.settle(place, REAL)
    relay = lab.relay(place, guarantee)
    try:
        # Awake and warm: the first batches build plans and connections.
        lab.fill(place, 5000, settle=False)
        relay.wait(lambda: place.outbox_rows() == 0, "the outbox empty")
        use = machine.Use({"relay": (relay.process.pid, False)} | lab.pids())
        written = run_pgbench(lab, place, _script(place), clients, seconds)
        left = place.outbox_rows()
        used = use.seconds()
        relay.wait(lambda: place.outbox_rows() == 0, "the outbox empty", 120)
    finally:
        relay.stop()
    return written | {"left": left, "kept": 1 - left / written["rows"], "cpu": used}
