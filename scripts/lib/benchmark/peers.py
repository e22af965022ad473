# SPDX-License-Identifier: Apache-2.0
"""The relay beside others on the same rows, the same broker, the same cores: Debezium as it comes and tuned, and the relay that
everybody writes first. Every row was its own transaction. A table without the wake-up trigger for the peers."""
import os
import subprocess
import time

from relaytools.relay import wait_until

from . import machine
from .debezium import AS_IT_COMES, TUNED, Debezium
from .lab import median
from .results import Result, thousands
from .rows_writers import NOTE, PLAIN, REAL, SCRIPT, make_plain, run_pgbench

LATENCY_RATE = 500
LATENCY_RUNS = 3     # one after the other; of each percentile the median
PLAIN_RATE = 100     # what the plain relay can follow


class PlainRelay:
    def __init__(self, lab, place, table):
        self.command = [os.path.join(lab.programs, "plain_relay"), "--config", place.config, "--prefix", place.prefix, "--table", table]
        self.process = None

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL)
        return self

    def wait_streaming(self):
        return self

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)

    close = stop


class Ours:
    """The relay with the same face as the peers."""

    def __init__(self, lab, place, guarantee):
        self.lab, self.place, self.guarantee, self.relay = lab, place, guarantee, None

    @property
    def pid(self):
        return self.relay.process.pid

    def start(self):
        self.relay = self.lab.relay(self.place, self.guarantee, ready=False)
        return self

    def wait_streaming(self):
        self.relay.wait(lambda: self.relay.get("/ready")[0] == 200, "the relay ready")
        return self

    def stop(self):
        if self.relay is not None:
            self.relay.stop()

    close = stop


def candidates(lab):
    """name: (class-like function(place), table, rows of the backlog, rate of the latency test)"""
    rows = min(lab.sizes.rows, 200_000)
    return {
        "exactly_once": (lambda place: Ours(lab, place, "exactly_once"), REAL, rows, LATENCY_RATE),
        "at_least_once": (lambda place: Ours(lab, place, "at_least_once"), REAL, rows, LATENCY_RATE),
        "Debezium": (lambda place: Debezium(lab, place, PLAIN, AS_IT_COMES), PLAIN, rows, LATENCY_RATE),
        "Debezium tuned": (lambda place: Debezium(lab, place, PLAIN, TUNED), PLAIN, rows, LATENCY_RATE),
        "plain relay": (lambda place: PlainRelay(lab, place, PLAIN), PLAIN, max(1000, rows // 100), PLAIN_RATE),
    }


def peers(lab):
    lab.use_logical_wal()
    taken = {}
    for number, (name, (make, table, rows, rate)) in enumerate(candidates(lab).items()):
        with lab.place(f"peer{number}") as place:
            make_plain(place)
            peer = make(place)
            try:
                taken[name] = _measure(lab, place, peer, name, table, rows, rate)
            finally:
                peer.close()
        one = taken[name]
        lab.say(f"  {name}: {thousands(one['rate'])} rows/s, {one['cpu_us']:.1f} us of CPU a row, {one['peak_mib']:.0f} MiB, p50/p99 "
                f"{one['latency']['p50']:.1f}/{one['latency']['p99']:.1f} ms at {rate}/s, writers {one['writers']:.2f} at {one['kept']:.0%}")
    return _judge(taken), taken


def _measure(lab, place, peer, name, table, rows, rate):
    script = _script(place, table)
    off = run_pgbench(lab, place, script, 8, lab.sizes.writer_seconds)["tps"]
    place.execute(f"TRUNCATE {table}")
    # A new connector begins at the present: its first run only notes where it is.
    peer.start().wait_streaming()
    _seen_through(lab, place, table, 50)
    peer.stop()
    found = _drain(lab, place, peer, script, table, rows)
    runs = [_latency(lab, place, name, table, rate) for _ in range(LATENCY_RUNS)]
    latency = {percentile: median([run["visible"][percentile] for run in runs]) for percentile in ("p50", "p99")}
    place.execute(f"TRUNCATE {table}")
    before = _count(place)
    use = machine.Use({"peer": (peer.pid, False)} | lab.pids())
    on = run_pgbench(lab, place, script, 8, lab.sizes.writer_seconds)
    moved, used = _count(place) - before, use.seconds()
    found["peak_mib"] = machine.memory_mib(peer.pid)
    peer.stop()
    off = (off + run_pgbench(lab, place, script, 8, lab.sizes.writer_seconds)["tps"]) / 2
    return found | {"name": name, "latency": latency, "latency_runs": runs, "writers": on["tps"] / off, "off": off, "on": on["tps"],
                    "kept": min(1.0, moved / on["rows"]), "writers_cpu": used}


def _latency(lab, place, name, table, rate):
    events = int(rate * (lab.sizes.latency_seconds + 3))
    latency = lab.latency(place, "outbox", rate, events, rate * 3, patience=20, table=table)
    if latency["missing"] > events // 100:
        raise RuntimeError(f"{latency['missing']} of {events} events never came through {name}")
    return latency


def _script(place, table):
    path = os.path.join(place.folder, "peer.sql")
    with open(path, "w", encoding="utf-8") as file:
        file.write(SCRIPT.format(table=table, note=NOTE))
    return path


def _count(place):
    """Records in the topic: for transactions about one more each."""
    return sum(one.offset for one in place.ends())


def _seen_through(lab, place, table, events):
    before = _count(place)
    lab.program("fill_outbox", place, "--table", table, "--rows", events, "--first", lab.next_number, *lab.shape(260))
    lab.next_number += events
    wait_until(lambda: _count(place) >= before + events, f"{events} events through the peer", 90, every=0.2)


def _drain(lab, place, peer, script, table, rows):
    """A backlog of rows that were each a transaction; from the broker's time of the first to that of the last."""
    lab.settle(place, table)
    run_pgbench_rows(lab, place, script, rows)
    lab.settle(place, table)
    offsets, before = place.ends(), _count(place)
    began = time.time()
    peer.start()
    use = machine.Use({"peer": (peer.pid, False)} | lab.pids())
    wait_until(lambda: _count(place) >= before + rows, f"{rows} rows through the peer", 900, every=0.1)
    used = use.seconds()
    first, last = place.append_span(offsets)
    return {"rows": rows, "seconds": last - first, "rate": rows / max(last - first, 0.001), "start": first - began,
            "cpu_us": used["peer"] / rows * 1e6, "cpu": used}


def run_pgbench_rows(lab, place, script, rows):
    run_pgbench(lab, place, script, 8, None, transactions=rows // 8)


def _judge(taken):
    results = []
    for peer, goal in (("Debezium", 4.0), ("Debezium tuned", 4.0), ("plain relay", 50.0)):
        theirs = taken[peer]
        for guarantee in ("exactly_once", "at_least_once"):
            ours = taken[guarantee]
            results.append(Result(f"drain rate, {guarantee}, against {peer}", f"{thousands(ours['rate'])} rows/s", f"{thousands(theirs['rate'])} rows/s",
                                  ours["rate"] / theirs["rate"], goal, at_least=True))
            for what, key, unit in (("CPU a row", "cpu_us", "us"), ("peak memory", "peak_mib", "MiB")):
                results.append(Result(f"{what}, {guarantee}, against {peer}", f"{ours[key]:.1f} {unit}", f"{theirs[key]:.1f} {unit}", ours[key] / theirs[key], 1.0))
            for percentile in ("p50", "p99"):
                mine, other = ours["latency"][percentile], theirs["latency"][percentile]
                results.append(Result(f"{percentile} of latency, {guarantee}, against {peer}", f"{mine:.1f} ms", f"{other:.1f} ms", mine / other, 1.0))
            results.append(Result(f"writers' commit rate meanwhile, {guarantee}, against {peer}", f"{ours['writers']:.2f} at {ours['kept']:.0%} kept up",
                                  f"{theirs['writers']:.2f} at {theirs['kept']:.0%}", ours["writers"] / theirs["writers"],
                                  1.0 if theirs["kept"] > 0.9 else None, at_least=True))
    return results
