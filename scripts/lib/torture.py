# SPDX-License-Identifier: Apache-2.0
"""What scripts/torture runs once the machine is ready; see `scripts/torture --help`."""
import argparse
import glob
import os
import random
import signal
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from relaytools import crash_points, safeguards  # noqa: E402
from relaytools.aimed_faults import view_wanted  # noqa: E402
from relaytools.bench import Bench, BenchError  # noqa: E402
from relaytools.cluster_faults import FAULTS  # noqa: E402
from relaytools.last_will import last_will  # noqa: E402
from relaytools.schedule import Schedule, kill_storm  # noqa: E402
from relaytools.servers import ROOT, Servers  # noqa: E402
from relaytools.watchdog import Watchdog  # noqa: E402


watchdog = None


def say(text=""):
    print(text, flush=True)
    if watchdog is not None:
        watchdog.heard()


class Interrupted(BaseException):
    pass


def interrupt(*_):
    raise Interrupted


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def fault_names(text):
    names = text.split(",")
    for name in names:
        if name not in FAULTS:
            raise argparse.ArgumentTypeError(f"there is no fault {name!r}; --list-faults names them")
    return names


def safeguard_names(text):
    for name in text.split(","):
        if name not in safeguards.names():
            raise argparse.ArgumentTypeError(f"there is no safeguard {name!r}; there are {', '.join(safeguards.names())}")
    return text


def parse(arguments=None):
    parser = argparse.ArgumentParser(prog="scripts/torture", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Writers, relays, real PostgreSQL, Kafka and ClickHouse, and a seeded sequence of faults between and in them. "
                    "Afterwards every committed event is looked for in Kafka and in ClickHouse.",
        epilog="exit: 0 nothing lost, doubled or out of order; 1 something was (or the run failed): the seed, the events and the "
               "folder of the logs are named; 2 bad usage. RELAY_BINARY names another build of the daemon.")
    parser.add_argument("--seconds", type=float, default=180, help="how long faults are applied")
    parser.add_argument("--seed", type=int, help="of the faults and the writers (default: a fresh one, printed)")
    parser.add_argument("--outboxes", type=positive, default=1, help="outbox tables")
    parser.add_argument("--replicas", type=positive, default=2, help="relay processes")
    parser.add_argument("--kafka-nodes", type=int, choices=(1, 3), default=1, help="nodes of the Kafka cluster")
    parser.add_argument("--standby", action="store_true", help="PostgreSQL has a synchronous standby, which the fault failover promotes")
    parser.add_argument("--kafka-namespaces", action="store_true",
        help="with --kafka-nodes 3: each node in a network namespace of its own, so that faults can cut it off from the others (needs root)")
    parser.add_argument("--own-disks", action="store_true", help="each server has a file system of its own, in memory, so that faults can fill it (needs root)")
    parser.add_argument("--guarantee", choices=("exactly_once", "at_least_once"), default="exactly_once",
        help="of both stages; under at_least_once doubles are counted and allowed")
    parser.add_argument("--faults", type=fault_names, metavar="LIST", help="only these, separated by commas")
    parser.add_argument("--each", action="store_true", help="every fault once, one after the other, instead of drawn ones for --seconds")
    parser.add_argument("--list-faults", action="store_true", help="name the faults and end")
    parser.add_argument("--kills", type=positive, metavar="N", help="instead of faults: SIGKILL to relays at random moments, N times")
    parser.add_argument("--crash-points", action="store_true", help="instead of faults: crash at each named step of both protocols in turn")
    parser.add_argument("--points", metavar="LIST", help="with --crash-points: only these, separated by commas")
    parser.add_argument("--safeguards", action="store_true",
        help="instead of faults: each safeguard of the relay in turn, under the fault that it is for; the run without it has to fail, the one "
             "with it must not (needs a build with test_hooks)")
    parser.add_argument("--without", type=safeguard_names, metavar="LIST",
        help="run with these safeguards of the relay removed (needs a build with test_hooks); with --safeguards: only these, of all")
    parser.add_argument("--expect-failure", action="store_true", help="exit 0 only if something was lost, doubled or out of order")
    parser.add_argument("--view", action="store_true", help="with --kills: a materialized view hangs on the table, and is audited with it")
    parser.add_argument("--rate", type=positive, default=1000, help="events a second that the writers aim at")
    parser.add_argument("--writers", type=positive, default=8, help="concurrent writers")
    parser.add_argument("--clock-jumps", action="store_true", help="also let one relay's wall clock jump (needs libfaketime)")
    parser.add_argument("--folder", help="where servers, logs and data live (default: a fresh one under /tmp)")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when all is well")
    options = parser.parse_args(arguments)
    if options.expect_failure and (options.crash_points or options.safeguards):
        parser.error("--expect-failure is for one run and its audit: not with --crash-points, nor with --safeguards, which has its own")
    if options.view and not options.kills:
        parser.error("--view needs --kills: other faults may cost a view rows, as docs/guarantees-insert.md says")
    if options.kafka_namespaces and options.kafka_nodes == 1:
        parser.error("--kafka-namespaces needs --kafka-nodes 3: one node has nobody to be cut off from")
    return options


def list_faults():
    for each in FAULTS.values():
        say(f"{each.name:<28} {each.text}" + (f" (Needs {each.needs}.)" if each.needs else ""))


def faketime():
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")
    if not found:
        raise BenchError("--clock-jumps needs libfaketime: apt-get install libfaketime")
    return found[0]


def binary(options):
    hooks = options.crash_points or options.safeguards or options.without
    path = os.environ.get("RELAY_HOOKS_BINARY" if hooks else "RELAY_BINARY") or os.path.join(ROOT, "build-hooks" if hooks else "build", "outbox-relay")
    if not os.access(path, os.X_OK):
        raise BenchError(f"there is no {path}; scripts/torture builds it" + (", with -Dtest_hooks=true" if hooks else ""))
    return path


def run(bench, options):
    """The whole of one run; returns the schedule and the audit."""
    say(f"torture: {options.replicas} replica(s), {options.outboxes} outbox(es), {options.kafka_nodes} Kafka node(s), "
        f"{'a standby of PostgreSQL, ' if options.standby else ''}{options.guarantee}, "
        f"seed {options.seed}; logs in {bench.servers.folder}")
    bench.start_servers().prepare(view=options.view or view_wanted(options.faults)).start()
    bench.write()
    schedule = Schedule(bench, options.seed, options.faults, say)
    began = time.monotonic()
    try:
        apply_faults(bench, options, schedule)
    except BenchError as error:
        # What went wrong is told; what has arrived all the same is still worth an audit.
        bench.complain(str(error))
        say(f"FAILED: {error}\n{bench.diagnosis()}")
    say(f"torture: {time.monotonic() - began:.0f} s of faults are over; waiting for the pipeline to come to rest")
    missing = bench.quiesce()
    if missing:
        say(f"FAILED: {missing}")
    say("torture: reading Kafka and ClickHouse back")
    return schedule, bench.audit(), missing


def apply_faults(bench, options, schedule):
    if options.kills:
        tally = schedule.tallies["kill-relay"]
        tally.recoveries = kill_storm(bench, options.seed, options.kills, say)
        tally.count = tally.hits = bench.kills
    elif options.each:
        for each in schedule.faults:
            schedule.strike([each])
    else:
        schedule.run(options.seconds)


def report(bench, options, schedule, result, missing):
    """Prints everything; returns whether all is well, and whether the audit found what must not be."""
    allowed = options.guarantee == "at_least_once"
    bench.read_logs()
    poison = result.dead_lettered - (result.set_aside if bench.rows_refused else 0)
    if poison:
        bench.complain(f"{poison} event(s) ended as dead letters, though none was poison")
    if result.committed == 0:
        bench.complain("nothing was committed, so nothing was shown")
    say()
    say(schedule.table())
    say()
    say("writers: " + ", ".join(f"{count} {what}" for what, count in bench.workload.counts.items()))
    if bench.aborts:
        say(f"ClickHouse ended by itself {bench.aborts} time(s) and was started again")
    if bench.ended:
        say("relays that ended by themselves and were started again: " + ", ".join(f"{count} with exit code {code}" for code, count in bench.ended.items()))
    say(result.text())
    found = not result.ok(doubles_allowed=allowed)
    for line in [missing] * bool(missing) + bench.complaints:
        say(f"FAILED: {line}")
    if found:
        path = os.path.join(bench.servers.folder, "findings.txt")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(result.findings) + "\n")
        say(f"FAILED: events were lost, doubled, altered or out of order; all of them are in {path}")
    return not found and not bench.complaints and missing is None, found


def command_line(options):
    """The same run again. Every option but those that say where it lives and what becomes of that."""
    words = ["scripts/torture"]
    for name, value in vars(options).items():
        if value in (None, False) or name in ("folder", "keep"):
            continue
        words.append("--" + name.replace("_", "-"))
        if value is not True:
            words.append(",".join(value) if isinstance(value, list) else str(value))
    return " ".join(words)


def torture(options, folder):
    """Returns whether all is well, and whether the audit found what must not be."""
    environment_before = dict(os.environ)
    bench = None
    try:
        if options.without and not options.safeguards:
            os.environ[safeguards.VARIABLE] = options.without
        bench = Bench(options.seed, options.outboxes, options.replicas, options.kafka_nodes, options.guarantee, options.rate, options.writers,
                      binary(options), folder, faketime() if options.clock_jumps else None, say, options.standby,
                      options.kafka_namespaces, options.own_disks)
        if options.crash_points:
            return crash_points.run(bench, options, say), False
        if options.safeguards:
            return safeguards.run(bench, options, say), False
        well, found = report(bench, options, *run(bench, options))
        ills = "lost, doubled or out of order" if options.guarantee == "exactly_once" else "lost or out of order"
        say("torture: " + (f"no event was {ills}" if well else f"FAILED; again with: {command_line(options)}"))
        return well, found
    finally:
        os.environ.clear()
        os.environ.update(environment_before)
        if bench is not None:
            bench.close()


def main():
    options = parse()
    if options.list_faults:
        list_faults()
        return 0
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1, 1 << 31)
    folder = options.folder or tempfile.mkdtemp(prefix="outbox-relay-torture-")
    with last_will(folder, "stop" if options.keep else "reset"):
        return run_in(folder, options)


def run_in(folder, options):
    """Returns the exit code. Nothing runs any longer then."""
    global watchdog
    watchdog = Watchdog(lambda: clean_up(folder, keep=True))
    watchdog.heard()
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    well = found = interrupted = False
    try:
        well, found = torture(options, folder)
    except Interrupted:
        interrupted = True
        say("torture: interrupted")
    except Exception as error:
        # A server that does not answer ends in an exception of its library's own, whose text alone says little.
        known = isinstance(error, (BenchError, RuntimeError, TimeoutError))
        say(f"FAILED: {error if known else traceback.format_exc()}\ntorture: the run itself failed; again with: {command_line(options)}")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        clean_up(folder, options.keep or not (well or interrupted))
    if interrupted:
        return 130
    if options.expect_failure:
        # Not by the run's own failure: it says nothing of the events.
        say("torture: a failure was expected, and " + ("was found" if found else "the audit found none"))
        return 0 if found else 1
    return 0 if well else 1


def clean_up(folder, keep):
    try:
        if keep:
            Servers(folder).command("stop")
            say(f"torture: logs and data are kept in {folder}")
        else:
            Servers(folder).remove()
    except RuntimeError as error:
        say(f"torture: cleaning up {folder}: {error}")


if __name__ == "__main__":
    sys.exit(main())
