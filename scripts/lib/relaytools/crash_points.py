# SPDX-License-Identifier: Apache-2.0
"""Crash-point mode: a build with test hooks ends itself at a named step of the protocols. For each name: writers, a
relay that crashes there, a restart without the hook, and an audit. A step that is only reached in recovery is met by
killing the relay at random moments until it is."""
import random
import signal
import subprocess
import time

from .aimed_faults import committed_up_to, ends_of
from .bench import BenchError

EVENTS = 3000
REACH_SECONDS = 30.0
LOOK_SECONDS = 0.5
KILLS_TO_REACH = 12
# Steps of a recovery that has something to finish: a first crash, there, makes work for it.
FIRST_CRASH = {"publish.after_recovery_delete": "publish.after_kafka_commit",
               "publish.after_recovery_commit": "publish.after_kafka_commit"}
# Steps of one that finds an INSERT which stored its rows and reached no view: a view that fails, and a kill, make one.
BEHIND_A_VIEW = {"insert.before_view_repeat", "insert.after_view_repeat"}
# Steps between the rows of a batch and its dead letters. Of a partition's first one: later ones begin at a committed offset anyway.
BEFORE_DEAD_LETTERS = {"insert.after_rows", "insert.after_copies"}
# Steps that a process in peace passes once in its life.
ONCE = {"publish.after_locks", "publish.after_init", "publish.after_recovery_read", "insert.after_assign"}


def named(binary):
    """The names that the build knows, in the order of the protocols."""
    done = subprocess.run([binary, "test-points"], capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0 or not done.stdout.strip():
        raise BenchError(f"{binary} names no test points (exit {done.returncode}): it was built without -Dtest_hooks=true\n{done.stderr.strip()}")
    return done.stdout.split()


def run(bench, options, say):
    """Every point in turn on one set of servers; True when all held."""
    points = options.points.split(",") if options.points else named(bench.binary)
    say(f"torture: {len(points)} crash points, seed {options.seed}; logs in {bench.servers.folder}")
    bench.start_servers()
    failed, unreached = [], []
    for number, point in enumerate(points, 1):
        began = time.monotonic()
        try:
            how, result, complaints = one(bench, options, point, number)
        finally:
            bench.end_place()
        well = result.ok(doubles_allowed=options.guarantee == "at_least_once") and not complaints
        if how is None:
            unreached.append(point)
        if not well:
            failed.append(point)
        say(f"{number:4}/{len(points)} {point:<44} {how or 'NOT REACHED':<28} {result.inserted} events, "
            f"{'ok' if well else 'FAILED'} ({time.monotonic() - began:.1f} s)")
        for line in [] if well else complaints + result.text(5).splitlines():
            say(f"         {line}")
    say(f"{len(points) - len(set(failed) | set(unreached))} points held, {len(failed)} failed, {len(unreached)} not reached"
        + (f": {', '.join(failed + unreached)}" if failed or unreached else ""))
    return not failed and not unreached


def one(bench, options, point, number):
    """Returns how the point was reached (None: it was not), the audit, and what else was wrong."""
    rng = random.Random(f"{options.seed}/{point}")
    bench.complaints = []
    name, _, nth = point.partition(":")
    misfits = name in BEFORE_DEAD_LETTERS
    bench.prepare(f"crash{number}", view=not misfits, misfits=misfits)
    prepared = name in FIRST_CRASH or name in BEHIND_A_VIEW
    hooked = {"OUTBOX_RELAY_CRASH_AT": f"{name}:{nth or (1 if prepared or misfits or name in ONCE else rng.choice((1, 2, 5)))}"}
    first = bench.replicas[0]
    if name in BEHIND_A_VIEW:
        bench.view.fail()
    first.start(environment=_work_for_recovery(name, rng) if prepared else hooked)
    bench.write(events=EVENTS, rate=1000, seed=options.seed + number)
    if name in BEHIND_A_VIEW:
        bench.view.wait_behind()
        first.kill()
        bench.view.repair()
        first.start(environment=hooked)
    elif prepared:
        _crashes(first, REACH_SECONDS)
        first.kill()
        first.start(environment=hooked)
    how = _reach(bench, first, {"OUTBOX_RELAY_CRASH_AT": f"{name}:{nth or 1}"}, rng)
    first.kill()
    if misfits:
        bench.misfits.open()
    first.start(environment={})
    bench.start()
    bench.workload.join(60)
    bench.complaints += bench.misfits.complaints() if misfits else []
    missing = bench.quiesce(90)
    bench.read_logs()
    return how, bench.audit(), bench.complaints + [missing] * bool(missing)


def _work_for_recovery(name, rng):
    """The first life of a relay whose second one is to have something to make good."""
    return {"OUTBOX_RELAY_CRASH_AT": f"{FIRST_CRASH[name]}:{rng.choice((1, 2, 5))}"} if name in FIRST_CRASH else {}


def _reach(bench, replica, hooked, rng):
    if _crashes(replica, REACH_SECONDS, lambda: _at_rest(bench)):
        return "reached at once"
    bench.workload.stop()
    bench.write(rate=500, seed=rng.getrandbits(30))
    for kill in range(1, KILLS_TO_REACH + 1):
        replica.kill()
        replica.start(environment=hooked)
        if _crashes(replica, rng.uniform(0.5, 3.0)):
            bench.workload.stop()
            return f"reached after {kill} kill(s)"
    bench.workload.stop()
    return None


def _at_rest(bench):
    """Whether the writers have ended, and all that they committed has arrived and is committed in Kafka."""
    try:
        return not bench.workload.running() and not any(bench.left()) and committed_up_to(bench, ends_of(bench))
    except (RuntimeError, OSError):     # ClickHouse may have ended by itself, as Servers.revive() says
        return False


def _crashes(replica, seconds, idle=lambda: False):
    """Whether it ends itself at its point within so many seconds: any other end is a finding. It is not waited for any longer once
    `idle` says that it has nothing left to do."""
    now = time.monotonic()
    deadline, look = now + seconds, now
    while now < deadline and replica.running():
        if now >= look:
            if idle():
                break
            look = time.monotonic() + LOOK_SECONDS
        time.sleep(0.02)
        now = time.monotonic()
    if replica.running():
        return False
    code = replica.relay.process.returncode
    if code != -signal.SIGKILL:
        replica.bench.complain(f"{replica.name} ended with {code}, and not at its point: {replica.last_line()}")
    return code == -signal.SIGKILL
