# SPDX-License-Identifier: Apache-2.0
"""The publish stage: draining a backlog, alone and under difficulties; CPU, memory."""
import concurrent.futures
import time

import psycopg2

from . import machine
from .lab import COLUMNS, median
from .results import Result, thousands

GUARANTEES = ("at_least_once", "exactly_once")
DRAIN_GOALS = {"at_least_once": 0.75, "exactly_once": 0.80}


def drain(lab):
    """Backlog drained, against its two parts alone: deleting and discarding, and producing from memory."""
    rows, rounds = lab.sizes.rows, []
    with lab.place("drain") as place:
        for number in range(lab.sizes.rounds):
            rounds.append(_drain_round(lab, place, rows, number))
    return _judge_drain(rows, rounds), {"rounds": rounds}


def _drain_round(lab, place, rows, number):
    """Each of the four once, every round beginning with another one."""
    def discard():
        lab.fill(place, rows)
        return lab.discard(place)

    def relay(guarantee):
        lab.fill(place, rows)
        return lab.drain(place, guarantee)
    jobs = {"discard": discard, "produce": lambda: lab.produce(place, rows),
            "at_least_once": lambda: relay("at_least_once"), "exactly_once": lambda: relay("exactly_once")}
    order = list(jobs)[number % 4:] + list(jobs)[:number % 4]
    taken = {name: jobs[name]() for name in order}
    parts = taken["discard"]["seconds"] + taken["produce"]["seconds"]
    lab.say(f"  round {number + 1}: discard {taken['discard']['seconds']:.2f} s, produce {taken['produce']['seconds']:.2f} s; " + ", ".join(
        f"{name} {taken[name]['seconds']:.2f} s ({taken[name]['seconds'] / parts:.2f})" for name in GUARANTEES))
    return taken


def _judge_drain(rows, rounds):
    results = []
    discard = median([r["discard"]["seconds"] for r in rounds])
    produce = median([r["produce"]["seconds"] for r in rounds])
    for guarantee in GUARANTEES:
        ratios = [r[guarantee]["seconds"] / (r["discard"]["seconds"] + r["produce"]["seconds"]) for r in rounds]
        seconds = median([r[guarantee]["seconds"] for r in rounds])
        results.append(Result(f"backlog of {thousands(rows)} rows, {guarantee}, elapsed", f"{seconds:.2f} s ({thousands(rows / seconds)} rows/s)",
                              f"discard {discard:.2f} s + produce {produce:.2f} s", median(ratios), DRAIN_GOALS[guarantee], spread=(min(ratios), max(ratios))))
    ratios = [r["exactly_once"]["seconds"] / r["at_least_once"]["seconds"] for r in rounds]
    seconds = {guarantee: median([r[guarantee]["seconds"] for r in rounds]) for guarantee in GUARANTEES}
    results.append(Result("what exactly_once costs that drain, elapsed", f"{seconds['exactly_once']:.2f} s", f"at_least_once {seconds['at_least_once']:.2f} s",
                          median(ratios), 1 / 0.9, spread=(min(ratios), max(ratios))))
    for guarantee in GUARANTEES:
        ratios = [r[guarantee]["cpu_us"] / (r["produce"]["cpu"] / rows * 1e6) for r in rounds]
        own = median([r[guarantee]["cpu_us"] for r in rounds])
        reference = median([r["produce"]["cpu"] / rows * 1e6 for r in rounds])
        results.append(Result(f"CPU of the relay for an event, {guarantee}", f"{own:.2f} us", f"librdkafka's produce loop {reference:.2f} us",
                              median(ratios), 2.0, spread=(min(ratios), max(ratios))))
    peak = max(r[guarantee]["peak_mib"] for r in rounds for guarantee in GUARANTEES)
    results.append(Result(f"peak memory, publishing {thousands(rows)} rows", f"{peak:.0f} MiB", "", peak / 64, 1.0, shown="<= 64 MiB"))
    return results


def dead_rows(lab):
    """The same drain while an old snapshot keeps as many dead rows in the table."""
    rows, pairs = lab.sizes.rows, []
    with lab.place("dead") as place:
        for number in range(max(2, lab.sizes.rounds - 2)):
            lab.fill(place, rows)
            clean = lab.drain(place)
            with_dead = _drain_behind_dead(lab, place, rows)
            pairs.append((clean, with_dead))
            lab.say(f"  round {number + 1}: {thousands(clean['rate'])} rows/s without, {thousands(with_dead['rate'])} rows/s with")
    ratios = [dead["rate"] / clean["rate"] for clean, dead in pairs]
    return [Result(f"drain behind {thousands(rows)} dead rows held by an old snapshot", f"{thousands(median([d['rate'] for _, d in pairs]))} rows/s",
                   f"without {thousands(median([c['rate'] for c, _ in pairs]))} rows/s", median(ratios), 0.90, at_least=True,
                   spread=(min(ratios), max(ratios)))], {"pairs": pairs}


def _drain_behind_dead(lab, place, rows):
    lab.fill(place, rows)
    holder = psycopg2.connect(place.dsn)
    try:
        with holder.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM outbox_relay.outboxes")
        lab.discard(place)
        # Not fill(): TRUNCATE would take the dead rows away.
        template = next(iter(place.templates))
        place.execute(f"INSERT INTO public.outbox_events ({COLUMNS}) SELECT {COLUMNS} FROM {template} LIMIT %s", rows)
        lab.settle(place, "public.outbox_events")
        return lab.drain(place)
    finally:
        holder.close()


def backlog(lab):
    """Whether the rate falls with the size of the backlog."""
    small, large, pairs = lab.sizes.backlog_rows // 100, lab.sizes.backlog_rows, []
    small = max(small, 100_000)
    with lab.place("backlog") as place:
        for number in range(2):
            # Small ones are short: their median is as steady as one large one.
            smalls = []
            for _ in range(3):
                lab.fill(place, small)
                smalls.append(lab.drain(place))
            lab.fill(place, large)
            pairs.append((median([one["rate"] for one in smalls]), lab.drain(place)))
            lab.say(f"  round {number + 1}: {thousands(pairs[-1][0])} rows/s, then {thousands(pairs[-1][1]['rate'])} rows/s")
    ratios = [many["rate"] / few for few, many in pairs]
    peak = max(many["peak_mib"] for _, many in pairs)
    return [Result(f"drain of {thousands(large)} rows of backlog", f"{thousands(median([m['rate'] for _, m in pairs]))} rows/s",
                   f"of {thousands(small)}: {thousands(median([f for f, _ in pairs]))} rows/s", median(ratios), 0.95, at_least=True,
                   spread=(min(ratios), max(ratios))),
            Result(f"peak memory, publishing {thousands(large)} rows", f"{peak:.0f} MiB", "", peak / 64, 1.0, shown="<= 64 MiB")], {"pairs": pairs}


def two_outboxes(lab):
    """What a second outbox adds, against what a second discarding connection on a second table adds."""
    rows, rounds = lab.sizes.rows // 2, []
    tables = ("public.outbox_events", "public.outbox_second")
    with lab.place("two") as place:
        place.execute("SELECT outbox_relay.create_outbox('public.outbox_second')")
        for number in range(max(2, lab.sizes.rounds - 2)):
            rounds.append(_two_round(lab, place, rows, tables))
            lab.say(f"  round {number + 1}: relay {rounds[-1]['gain']:.2f}, discarding {rounds[-1]['reference_gain']:.2f}")
    gain, reference = median([r["gain"] for r in rounds]), median([r["reference_gain"] for r in rounds])
    ratios = [r["gain"] / r["reference_gain"] for r in rounds]
    return [Result("two outboxes, rate against one", f"x {gain:.2f}", f"two discarding connections x {reference:.2f}", median(ratios), 0.9,
                   at_least=True, spread=(min(ratios), max(ratios)))], {"rounds": rounds}


def _two_round(lab, place, rows, tables):
    for table in tables:
        lab.fill(place, rows, table)
    together = _discards_at_once(lab, place, tables)
    lab.fill(place, rows)
    alone = lab.discard(place)["seconds"]
    lab.fill(place, rows)
    one = lab.drain(place)
    for table in tables:
        lab.fill(place, rows, table)
    both = lab.drain(place, tables=tables, outbox={"table": tables[0]}, outbox__second={"table": tables[1]})
    return {"one": one, "both": both, "gain": both["rate"] / one["rate"], "alone": alone, "together": together,
            "reference_gain": 2 * alone / together}


def _discards_at_once(lab, place, tables):
    """Seconds until all of the tables are discarded at the same time."""
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(len(tables)) as pool:
        list(pool.map(lambda table: lab.discard(place, table), tables))
    return time.monotonic() - began


def idle(lab):
    """CPU of a relay with both stages that has nothing to do."""
    with lab.place("idle") as place:
        relay = lab.relay(place, stages=("publish", "insert"))
        # Joining the group, the first health check and the first look at everything are over by then.
        time.sleep(3)
        use = machine.Use({"relay": (relay.process.pid, False)} | lab.pids())
        began = time.monotonic()
        time.sleep(lab.sizes.idle_seconds)
        elapsed = time.monotonic() - began
        used = use.seconds()
        peak = machine.memory_mib(relay.process.pid)
        relay.stop()
    share = used["relay"] / elapsed * 100
    return [Result(f"CPU while idle, {elapsed:.0f} s", f"{share:.2f} % of a core (PostgreSQL {used['postgres'] / elapsed * 100:.2f} %)", "", share / 0.3, 1.0,
                   shown="<= 0.3 %")], {"cpu": used, "seconds": elapsed, "peak_mib": peak}
