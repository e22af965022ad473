# SPDX-License-Identifier: Apache-2.0
"""Safeguard mode: a build with test hooks runs without one of the relay's safeguards, under the fault that the safeguard
is for, and the audit has to find what it prevents. Under the same fault the relay with all of them has to be clean; otherwise
the finding would be the fault's, or the relay has a defect."""
import collections
import contextlib
import dataclasses
import os
import time

from .aimed_faults import view_wanted
from .bench import BenchError
from .schedule import RECOVERY_LIMIT, Schedule

VARIABLE = "OUTBOX_RELAY_DISABLE_SAFEGUARD"
# Without a safeguard some events never arrive; nothing is gained by waiting for them as long as in other runs.
PATIENCE = 10.0
STALL = 20.0


@dataclasses.dataclass(frozen=True)
class Safeguard:
    """`finding`: (side, kind of audit.KINDS) that a run without it must have. `behind`: another safeguard that would also
    prevent it, and so is removed in the run with this one, too."""
    name: str
    faults: tuple
    finding: tuple
    behind: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run. `finding`: what it must have; None: it must be clean."""
    name: str
    faults: tuple
    removed: tuple = ()
    finding: tuple = None


SAFEGUARDS = (
    Safeguard("receipts", ("lost-commit",), ("Kafka", "doubled")),
    # Recovery also waits for the frozen one's transaction to end, and finds its receipt: either of the two is enough.
    # Twice: on a machine that is slow enough Kafka may end that transaction by its timeout before the takeover is over.
    Safeguard("fencing", ("frozen-publisher",) * 2, ("Kafka", "doubled"), behind="receipts"),
    Safeguard("hole_sweep", ("late-commit",), ("Kafka", "lost")),
    Safeguard("lease", ("frozen-inserter",), ("ClickHouse", "doubled")),
    Safeguard("lease", ("late-insert",), ("ClickHouse", "doubled")),
    Safeguard("read_back", ("lost-offset-commit",), ("ClickHouse", "doubled")),
    Safeguard("monotonic_commit", ("kill-inserters",), ("ClickHouse", "lost")),
    Safeguard("view_notes", ("kill-behind-view",), ("ClickHouse", "lost")),
)


def cells(chosen):
    """With all safeguards on, the faults of all of them strike one after the other in one run, as far as they want the same
    place: a run that is clean under several of them is so under each."""
    found = []
    for view in (False, True):
        together = [each for each in chosen if view_wanted(each.faults) == view]
        if together:
            shared = {each.name for each in together}
            found.append(Cell(shared.pop() if len(shared) == 1 else "all of them", sum((each.faults for each in together), ())))
    for each in chosen:
        if each.behind:
            found.append(Cell(each.name, each.faults, (each.behind,)))
        found.append(Cell(each.name, each.faults, (each.name, each.behind) if each.behind else (each.name,), each.finding))
    return found


def run(bench, options, say):
    """The whole matrix, or the rows of `options.without`, on one set of servers. True: every removal was found and every run
    that has to be clean was."""
    chosen = [each for each in SAFEGUARDS if not options.without or each.name in options.without.split(",")]
    count = len({each.name for each in chosen})
    say(f"torture: {count} safeguards, {bench.replica_count} replicas, {bench.outboxes} outbox(es), {bench.kafka_nodes} Kafka node(s), "
        f"seed {options.seed}; logs in {bench.servers.folder}")
    bench.start_servers()
    runs = cells(chosen)
    wrong = [f"{cell.name} ({_words(cell)})" for cell in runs if not _run(bench, options, cell, say)]
    say(f"{count} safeguards, {len(runs)} runs, {len(wrong)} of them did not end as they have to" + (f": {', '.join(wrong)}" if wrong else ""))
    return not wrong


def names():
    return list(dict.fromkeys(each.name for each in SAFEGUARDS))


def _faults(cell):
    words = "+".join(name if times == 1 else f"{name} x{times}" for name, times in collections.Counter(cell.faults).items())
    return words if len(words) < 20 else f"{len(cell.faults)} faults"


def _words(cell):
    return "without " + ", ".join(cell.removed) if cell.removed else "all on"


def _run(bench, options, cell, say):
    """One run; says in a line how it ended, and more where that is not how it has to."""
    began = time.monotonic()
    try:
        with _removed(cell.removed):
            idle, missing, goes_on = _strike(bench, options, cell)
            result = bench.audit()
    finally:
        bench.end_place()
    bench.read_logs()
    if cell.finding:     # it must fail in the way that is the safeguard's to prevent
        side, kind = cell.finding
        well = result.kafka_or_clickhouse(side)[kind] > 0 and goes_on and not idle
    else:
        well = result.ok() and missing is None and not bench.complaints and not idle
    say(f"{cell.name:<17} {_faults(cell):<19} {_words(cell):<27} {result.committed:>6} events, "
        f"{_findings(result):<46} {'ok' if well else 'FAILED'} ({time.monotonic() - began:.1f} s)")
    if not well:
        for line in [f"hit nothing: {', '.join(idle)}"] * bool(idle) + [missing] * bool(missing) + bench.complaints + result.text(5).splitlines():
            say(f"    {line}")
        say(f"    again with: {command(options, cell)}")
    return well


def command(options, cell):
    """The run by itself."""
    return (f"scripts/torture --each --seed {options.seed} --outboxes {options.outboxes} --replicas {options.replicas} "
            f"--kafka-nodes {options.kafka_nodes} --faults {','.join(cell.faults)}"
            + (f" --without {','.join(cell.removed)}" if cell.removed else "") + (" --expect-failure" if cell.finding else ""))


def _findings(result):
    counts = [f"{side[kind]} {kind} in {name}" for name, side in (("Kafka", result.kafka), ("ClickHouse", result.clickhouse))
              for kind in side if side[kind]]
    return ", ".join(counts) or "nothing found"


@contextlib.contextmanager
def _removed(names):
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join(names)
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def _strike(bench, options, cell):
    """Returns the faults that hit nothing, in words what did not come to rest, and whether the pipeline goes on."""
    bench.complaints = []
    bench.prepare(f"{cell.name}{cell.faults[0]}{len(cell.removed)}", view=view_wanted(cell.faults)).start()
    bench.write()
    schedule = Schedule(bench, options.seed, cell.faults, lambda _: None, **({"patience": PATIENCE} if cell.finding else {}))
    try:
        for fault in schedule.faults:
            schedule.strike([fault])
    except BenchError as error:
        bench.complain(str(error))
    goes_on = cell.finding is None or cell.finding[1] != "lost" or _goes_on(bench)
    missing = bench.quiesce(**({"stall": STALL} if cell.finding else {}))
    return [name for name in dict.fromkeys(cell.faults) if schedule.tallies[name].hits == 0], missing, goes_on


def _goes_on(bench):
    """Whether an event still comes through: what a pipeline that stands still has not brought counts as lost, too. No writer
    is at work beside it, since without hole_sweep the event could be the one that commits late."""
    bench.workload.stop()
    try:
        bench.canary(RECOVERY_LIMIT)
    except BenchError as error:
        bench.complain(f"the pipeline stands still, so that nothing is shown to be lost: {error}")
        return False
    return True
