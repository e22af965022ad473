# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench runs once the machine is ready; see `scripts/bench --help`."""
import argparse
import dataclasses
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from benchmark import instructions, machine, peers, report, rows_insert, rows_latency, rows_publish, rows_writers, sweeps  # noqa: E402
from benchmark.lab import DEFAULT, FULL, QUICK, Lab  # noqa: E402
from relaytools.last_will import last_will  # noqa: E402
from relaytools.servers import ROOT, Servers  # noqa: E402

# Name: (sentence, function(lab) -> (results, raw figures), in the default set)
ROWS = {
    "drain": ("a backlog drained, against its two parts; CPU and memory of the relay meanwhile", rows_publish.drain, True),
    "trigger": ("writers' commit rate with the trigger: no relay, and one held still", rows_writers.trigger, True),
    "live": ("writers' commit rate while the relay drains them", rows_writers.live, True),
    "latency": ("commit to consumer at 500 events/s", rows_latency.latency, True),
    "wakeup": ("one event after a silence", rows_latency.wakeup, True),
    "insert": ("Kafka to ClickHouse, default and typed route, against its three parts; CPU and memory", rows_insert.insert, True),
    "idle": ("CPU of a relay that has nothing to do", rows_publish.idle, True),
    "start": ("from exec to the first event", rows_latency.start, True),
    "dead_rows": ("a drain behind dead rows held by an old snapshot", rows_publish.dead_rows, True),
    "backlog": ("whether the rate falls with the backlog's size (10 M rows with --full)", rows_publish.backlog, True),
    "two_outboxes": ("what a second outbox adds", rows_publish.two_outboxes, True),
    "peers": ("the relay beside Debezium, as it comes and tuned, and beside a plain polling relay", peers.peers, False),
    "sweeps": ("rates over the size of events, aggregates, topics, partitions, outboxes, routes: plots", sweeps.sweeps, False),
}


def say(text=""):
    print(text, flush=True)


class Interrupted(BaseException):
    pass


def interrupt(*_):
    raise Interrupted


def row_names(text):
    names = text.split(",")
    for name in names:
        if name not in ROWS:
            raise argparse.ArgumentTypeError(f"there is no row {name!r}; --list names them")
    return names


def parse():
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measures the relay against what its parts cost alone: each figure is "
        "a ratio of two things measured in the same run on the same machine, on real PostgreSQL, Kafka and ClickHouse.",
        epilog="exit: 0 measured; 1 a row could not be measured; 2 bad usage; with --strict 3 where a goal was missed. RELAY_BINARY names another build of the daemon.")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small sizes, some minutes: shows that everything works, figures are rough")
    size.add_argument("--full", action="store_true", help="default sizes, and a backlog of 10 M rows")
    parser.add_argument("--rounds", type=int, choices=range(1, 10), metavar="N", help="alternating rounds of each row, where a busy machine or little time asks for fewer")
    parser.add_argument("--only", type=row_names, metavar="ROW,...", help="some of the rows, by name")
    parser.add_argument("--peers", action="store_true", help="measure Debezium (fetched from Maven Central) and a plain relay as well")
    parser.add_argument("--sweeps", action="store_true", help="measure how rates change with sizes and numbers as well (half an hour)")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    parser.add_argument("--instructions", action="store_true", help="instead: count the instructions of both pipes for an event under callgrind and compare "
        "them with tests/bench/instructions.json (exit 1: more than 10 %% above)")
    parser.add_argument("--accept", action="store_true", help="with --instructions: take the counts as the new ones to compare with")
    parser.add_argument("--strict", action="store_true", help="exit 3 where a goal was missed")
    parser.add_argument("--docs", action="store_true", help="take the figures into docs/performance.md also with --quick or --only")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/performance.md alone (it is written after a run of default or full size)")
    parser.add_argument("--output", default=os.path.join(ROOT, "build/bench.json"), help="raw figures (default: %(default)s)")
    parser.add_argument("--folder", help="where servers, logs and data live (default: a fresh one, deleted afterwards)")
    parser.add_argument("--keep", action="store_true", help="keep the folder (the servers are stopped all the same)")
    return parser.parse_args()


def wanted(options):
    names = options.only or [name for name, (_, _, default) in ROWS.items() if default]
    extra = [name for name, asked in (("peers", options.peers), ("sweeps", options.sweeps)) if asked]
    return list(dict.fromkeys(names + extra))


def measure(lab, names):
    """{name: figures}, [names of rows that failed]; a row that fails does not end the others."""
    figures, failed = {}, []
    conditions = lab.conditions()
    for name in names:
        began = time.monotonic()
        say(f"{name}: {ROWS[name][0]}")
        try:
            results, raw = ROWS[name][1](lab)
        except Exception as error:  # whatever a server, a program or the relay does: the other rows are worth having
            failed.append(name)
            say(f"  FAILED: {error}")
            traceback.print_exc(limit=4)
            continue
        figures[name] = report.as_data(name, results, raw, conditions)
        for line in report.table(results):
            say("  " + line)
        say(f"  ({time.monotonic() - began:.0f} s)")
        say()
    return figures, failed


def finish(options, figures, failed):
    results = [one for data in figures.values() for one in report.results_of(data)]
    say()
    for line in report.table(results):
        say(line)
    report.save(options.output, figures)
    say(f"\nraw figures: {options.output}")
    if options.docs or not (options.quick or options.only or options.no_docs):
        report.write_document(figures, list(ROWS))
        say("docs/performance.md: written")
    missed = [one.what for one in results if one.holds() is False]
    judged = [one for one in results if one.goal is not None]
    say(f"{len(judged) - len(missed)} of {len(judged)} goals hold, {len(failed)} rows failed{': ' + ', '.join(failed) if failed else ''}")
    if failed:
        return 1
    return 3 if missed and options.strict else 0


def main():
    options = parse()
    if options.list:
        for name, (sentence, _, default) in ROWS.items():
            print(f"  {name:<13} {sentence}{'' if default else ' (only when named)'}")
        return 0
    if options.instructions:
        return instructions.check(os.environ.get("RELAY_BENCH_PROGRAMS") or os.path.join(ROOT, "build/tests/bench"), say, options.accept)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    if machine.load() > 0.5 * os.cpu_count():
        say(f"warning: the machine is busy (load {machine.load():.1f} on {os.cpu_count()} cores); figures will be worse than they are")
    folder = options.folder or tempfile.mkdtemp(prefix="outbox-relay-bench-")
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)  # PostgreSQL runs as another user when this runs as root
    with last_will(folder, "stop" if options.keep else "reset"):
        return run_in(folder, options)


def run_in(folder, options):
    """Returns the exit code. No server runs any longer then."""
    servers = Servers(folder)
    try:
        sizes = QUICK if options.quick else FULL if options.full else DEFAULT
        lab = Lab(servers, dataclasses.replace(sizes, rounds=options.rounds or sizes.rounds), say)
        lab.start()
        figures, failed = measure(lab, wanted(options))
        return finish(options, figures, failed)
    except Interrupted:
        say("interrupted")
        return 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        servers.command("stop" if options.keep else "reset")
        if not options.keep and not options.folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
