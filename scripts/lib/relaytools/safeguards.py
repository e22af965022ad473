# SPDX-License-Identifier: Apache-2.0
"""Safeguard mode: a build with test hooks runs without one of the relay's safeguards, under the fault that the safeguard
is for, and the audit has to find what it prevents. The same run with the safeguard has to be clean; otherwise the finding
would be the fault's, or the relay has a defect."""
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

    def removals(self):
        """What is removed in each run of this safeguard; the last one has to be found."""
        return [(), (self.behind,), (self.name, self.behind)] if self.behind else [(), (self.name,)]


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


def run(bench, options, say):
    """The whole matrix, or the rows of `options.without`, on one set of servers. True: every removal was found and every run
    that has to be clean was."""
    chosen = [each for each in SAFEGUARDS if not options.without or each.name in options.without.split(",")]
    count = len({each.name for each in chosen})
    say(f"torture: {count} safeguards, {bench.replica_count} replicas, {bench.outboxes} outbox(es), {bench.kafka_nodes} Kafka node(s), "
        f"seed {options.seed}; logs in {bench.servers.folder}")
    bench.start_servers()
    wrong, runs = [], 0
    for safeguard in chosen:
        for removed in safeguard.removals():
            runs += 1
            if not _cell(bench, options, safeguard, removed, say):
                wrong.append(f"{safeguard.name} ({_words(removed)})")
    say(f"{count} safeguards, {runs} runs, {len(wrong)} of them did not end as they have to" + (f": {', '.join(wrong)}" if wrong else ""))
    return not wrong


def names():
    return list(dict.fromkeys(each.name for each in SAFEGUARDS))


def _faults(safeguard):
    return "+".join(name if times == 1 else f"{name} x{times}" for name, times in collections.Counter(safeguard.faults).items())


def _words(removed):
    return "all on" if not removed else "without " + ", ".join(removed)


def _cell(bench, options, safeguard, removed, say):
    """One run; says in a line how it ended, and more where that is not how it has to."""
    began = time.monotonic()
    must_fail = safeguard.name in removed
    try:
        with _removed(removed):
            hits, missing, goes_on = _strike(bench, options, safeguard, f"{safeguard.name}{safeguard.faults[0]}{len(removed)}", must_fail)
            result = bench.place.audit()
    finally:
        bench.end_place()
    bench.read_logs()
    side, kind = safeguard.finding
    found = result.kafka_or_clickhouse(side)[kind]
    # A run that is to fail must do so in the way that is the safeguard's to prevent.
    well = hits > 0 and ((found > 0 and goes_on) if must_fail else (result.ok() and missing is None and not bench.complaints))
    say(f"{safeguard.name:<17} {_faults(safeguard):<19} {_words(removed):<27} {result.committed:>6} events, "
        f"{_findings(result):<46} {'ok' if well else 'FAILED'} ({time.monotonic() - began:.1f} s)")
    if not well:
        for line in ["the fault hit nothing"] * (hits == 0) + [missing] * bool(missing) + bench.complaints + result.text(5).splitlines():
            say(f"    {line}")
        say(f"    again with: {command(options, safeguard, removed)}")
    return well


def command(options, safeguard, removed):
    """The run by itself."""
    return (f"scripts/torture --each --seed {options.seed} --outboxes {options.outboxes} --replicas {options.replicas} "
            f"--kafka-nodes {options.kafka_nodes} --faults {','.join(safeguard.faults)}"
            + (f" --without {','.join(removed)}" if removed else "") + (" --expect-failure" if safeguard.name in removed else ""))


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


def _strike(bench, options, safeguard, name, must_fail):
    """Returns the fewest hits of a fault, in words what did not come to rest, and whether the pipeline goes on."""
    bench.complaints = []
    bench.prepare(name, view=view_wanted(safeguard.faults)).start()
    bench.write()
    schedule = Schedule(bench, options.seed, safeguard.faults, lambda _: None, **({"patience": PATIENCE} if must_fail else {}))
    try:
        for fault in schedule.faults:
            schedule.strike([fault])
    except BenchError as error:
        bench.complain(str(error))
    goes_on = not must_fail or safeguard.finding[1] != "lost" or _goes_on(bench)
    missing = bench.quiesce(**({"stall": STALL} if must_fail else {}))
    return min((tally.hits for tally in schedule.tallies.values()), default=0), missing, goes_on


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
