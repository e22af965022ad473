# SPDX-License-Identifier: Apache-2.0
"""The torture bench as a whole, with a relay whose faults are known (tests/support/naive_relay.py): it passes while
nothing goes wrong, and is found out by the faults it was not built for. And the bench leaves nothing behind."""
import collections
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts/lib"))

from relaytools import aimed_faults, crash_points, misfits, safeguards  # noqa: E402
from relaytools.audit import Audit  # noqa: E402
from relaytools.bench import BenchError, Replica  # noqa: E402
from relaytools.cluster_faults import FAULTS, published_from  # noqa: E402
from relaytools.relay import wait_until  # noqa: E402
from torture import command_line, parse  # noqa: E402

ENVIRONMENT = dict(os.environ, RELAY_BINARY=os.path.join(ROOT, "tests/support/naive_relay.py"),
                   RELAY_HOOKS_BINARY=os.path.join(ROOT, "tests/support/naive_relay.py"))


# Where a rebalance would double what was not meant to be: a busy machine's consumer stays a member.
PATIENT = {"NAIVE_SESSION_MS": "60000"}


@pytest.fixture
def scratch():
    """Not pytest's own: PostgreSQL's user must be able to pass through."""
    folder = Path(tempfile.mkdtemp(prefix="test-torture-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def torture(*arguments, seconds=240, **environment):
    return subprocess.run([os.path.join(ROOT, "scripts/torture"), *arguments], env=ENVIRONMENT | environment, capture_output=True, text=True,
                          timeout=seconds, check=False)


def figures(text, name):
    return {words: int(count) for count, words in re.findall(r"(\d+) ([a-z ]+?)(?:,|$)", re.search(rf"^{name}: (.*)$", text, re.M)[1])}


def test_a_naive_relay_passes_while_nothing_goes_wrong(scratch):
    # A late commit does it no harm, since it reads the table from its beginning each time. Anything that makes its consumer group rebalance may:
    # it commits nothing before it gives a partition back.
    done = torture("--each", "--faults", "late-commit", "--replicas", "1", "--rate", "300", "--seed", "1", "--folder", str(scratch / "run"),
                   **PATIENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no event was lost, doubled or out of order" in done.stdout
    assert figures(done.stdout, "ClickHouse")["doubled"] == 0
    assert int(re.search(r"^committed (\d+)", done.stdout, re.M)[1]) > 100
    assert not (scratch / "run").exists()


def test_a_naive_relay_is_found_out_by_answers_that_never_come(scratch):
    done = torture("--seconds", "6", "--faults", "clickhouse-cut-answer", "--rate", "300", "--seed", "1", "--folder", str(scratch / "run"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert figures(done.stdout, "ClickHouse")["doubled"] > 0
    assert "--seed 1" in done.stdout and "--faults clickhouse-cut-answer" in done.stdout
    findings = (scratch / "run" / "findings.txt").read_text().splitlines()
    assert len(findings) == figures(done.stdout, "ClickHouse")["doubled"] + figures(done.stdout, "Kafka")["doubled"]
    assert re.match(r"doubled in ClickHouse: [0-9a-f-]{36} from torture\.\w+\.events\[\d+\]@\d+", findings[0])
    expected = torture("--seconds", "6", "--faults", "clickhouse-cut-answer", "--rate", "300", "--seed", "1", "--expect-failure",
                       "--folder", str(scratch / "again"))
    assert expected.returncode == 0, expected.stdout + expected.stderr
    assert "a failure was expected, and was found" in expected.stdout
    subprocess.run([os.path.join(ROOT, "scripts/services"), "reset", "--dir", str(scratch / "run")], check=True, timeout=60)


def test_a_run_that_breaks_is_not_the_failure_that_was_expected(scratch):
    for arguments in ((), ("--expect-failure",)):
        done = torture("--each", "--without", "hole_sweep", "--seed", "5", "--folder", str(scratch / "run"), *arguments,
                       RELAY_HOOKS_BINARY=str(scratch / "none"))
        assert done.returncode == 1, done.stdout + done.stderr
        assert "FAILED: there is no " in done.stdout and "again with: scripts/torture " in done.stdout


@pytest.mark.parametrize("arguments", ("", "--crash-points --points publish.after_take,insert.never --rate 300 --writers 3", "--kills 4 --view --clock-jumps",
                                       "--each --faults late-commit,late-commit --without hole_sweep,lease --expect-failure",
                                       "--seconds 7.5 --guarantee at_least_once --kafka-nodes 3 --kafka-namespaces --own-disks --standby --outboxes 2 --replicas 1", "--safeguards"))
def test_the_command_that_is_told_is_the_same_run(arguments):
    options = parse([*arguments.split(), "--seed", "9"])
    assert command_line(options) != command_line(parse(["--seed", "9"])) or not arguments
    assert parse(command_line(options).split()[1:]) == options


def test_doubles_are_counted_and_allowed_at_least_once(scratch):
    done = torture("--kills", "4", "--rate", "300", "--seed", "2", "--guarantee", "at_least_once", "--folder", str(scratch / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^kill-relay +4 ", done.stdout, re.M)


def test_a_removed_safeguard_makes_the_bench_fail(scratch):
    # Not under a fault that ends a publisher's term: the next one begins at the first row.
    done = torture("--each", "--faults", "late-commit,late-commit", "--seed", "3", "--folder", str(scratch / "run"), "--without", "hole_sweep",
                   "--expect-failure", seconds=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert figures(done.stdout, "Kafka")["lost"] > 0 and figures(done.stdout, "ClickHouse")["lost"] > 0
    assert "did not come to rest" in done.stdout
    subprocess.run([os.path.join(ROOT, "scripts/services"), "reset", "--dir", str(scratch / "run")], check=True, timeout=60)


def test_crash_points_are_met_and_judged_one_by_one(scratch):
    done = torture("--crash-points", "--replicas", "1", "--seed", "1", "--folder", str(scratch / "run"),
                   "--points", "publish.owned_with_rows,publish.after_flush,insert.after_insert:3,insert.never", seconds=400)
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = dict(re.findall(r"^ +\d+/4 (\S+) .*?(NOT REACHED|ok|FAILED) ", done.stdout, re.M))
    assert verdicts["publish.after_flush"] == verdicts["insert.after_insert:3"] == "FAILED", done.stdout
    assert verdicts["insert.never"] == "NOT REACHED" and "publish.owned_with_rows" in verdicts, done.stdout
    subprocess.run([os.path.join(ROOT, "scripts/services"), "reset", "--dir", str(scratch / "run")], check=True, timeout=60)


@pytest.mark.parametrize("late,letters,told", (
    ((9, 9, 2), [("outbox_events", "too_long", 240)] * 2, ""),
    ((8, 8, 2), [("outbox_events", "too_long", 240)] * 2, "has 8 rows of 8 events"),
    ((10, 9, 2), [("outbox_events", "too_long", 240)] * 2, "has 10 rows of 9 events"),
    ((9, 9, 2), [("outbox_events", "too_long", 240)], "1 dead letters of 2"),
    ((9, 9, 2), [("outbox_events", "too_long", 240), ("outbox_events", "bad_json", 240)], "another reason"),
    ((9, 9, 2), [("outbox_events", "too_long", 240), ("late", "too_long", 240)], "another reason"),
    ((9, 9, 2), [("outbox_events", "too_long", 240), ("outbox_events", "too_long", 10)], "events that fit"),
    ((9, 9, 0), [], "each event has fitted")))
def test_dead_letters_other_than_those_that_were_planned_are_told(late, letters, told):
    def clickhouse(query):
        rows = letters if "dead_letters" in query else [late]
        return "".join("\t".join(map(str, row)) + "\n" for row in rows)
    place = SimpleNamespace(name="p", prefix="p", servers=SimpleNamespace(create_topics=lambda names, partitions: None),
                            clickhouse=lambda query: clickhouse(query) if query.startswith("SELECT") else "", execute=lambda query: [(9,)])
    complaints = misfits.Misfits(place).complaints(0.1)
    assert (told in complaints[0]) if told else (complaints == []), complaints


def test_a_crash_that_cannot_come_any_more_is_not_waited_for():
    looks = []
    def at_rest():
        looks.append(len(looks))
        return len(looks) == 3
    assert not crash_points._crashes(SimpleNamespace(running=lambda: True), 600, at_rest)
    assert len(looks) == 3


class Ended(Replica):
    """A replica whose process has ended with this code."""

    def __init__(self, code):
        self.name, self.wanted, self.lock, self.complaints, self.starts = "relay-1", True, threading.RLock(), [], 0
        self.bench = SimpleNamespace(complain=self.complaints.append, ended=collections.Counter())
        self.relay = SimpleNamespace(process=SimpleNamespace(poll=lambda: code, returncode=code), log=lambda: ["the last line"], start=self.started)

    def started(self, ready):
        assert not ready
        self.starts += 1


@pytest.mark.parametrize("code", (-signal.SIGKILL, -signal.SIGSEGV, 0, 1, 70))
def test_a_relay_that_ends_otherwise_has_not_reached_its_point(code):
    replica = Ended(code)
    assert crash_points._crashes(replica, 600) == (code == -signal.SIGKILL)
    assert replica.complaints == ([] if code == -signal.SIGKILL else [f"relay-1 ended with {code}, and not at its point: the last line"])


@pytest.mark.parametrize("code, fault", ((1, False), (75, False), (70, True), (78, True), (66, True), (-signal.SIGSEGV, True), (-signal.SIGKILL, True)))
def test_a_relay_that_crashed_or_hung_is_started_again_and_is_a_finding(code, fault):
    replica = Ended(code)
    replica.supervise(time.monotonic())
    assert replica.starts == 1 and replica.bench.ended == {code: 1}
    assert [re.sub(r"\d\.\d s", "N s", text) for text in replica.complaints] == [f"relay-1 ended with {code} after N s: the last line"] * fault


def test_a_safeguard_is_judged_by_the_run_without_it_and_by_the_run_with_it(scratch):
    """The naive relay keeps one of the seven promises, and so has one safeguard that can be removed. Alone: a second one that joins while the
    first has messages in hand gets them again."""
    done = torture("--safeguards", "--without", "hole_sweep", "--replicas", "1", "--rate", "300", "--seed", "1", "--folder", str(scratch / "run"),
                   **PATIENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^hole_sweep +late-commit +all on +\d+ events, nothing found +ok ", done.stdout, re.M), done.stdout
    assert re.search(r"^hole_sweep +late-commit +without hole_sweep +\d+ events, \d+ lost in Kafka, .* ok ", done.stdout, re.M), done.stdout
    assert not (scratch / "run").exists()


def test_a_failure_with_all_safeguards_on_is_told_with_its_command(scratch):
    done = torture("--safeguards", "--without", "read_back", "--rate", "300", "--seed", "1", "--folder", str(scratch / "run"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^read_back +lost-offset-commit +all on +\d+ events, \d+ doubled in .* FAILED ", done.stdout, re.M), done.stdout
    assert "again with: scripts/torture --each --seed 1 " in done.stdout and "--faults lost-offset-commit\n" in done.stdout, done.stdout
    assert (scratch / "run").exists()
    subprocess.run([os.path.join(ROOT, "scripts/services"), "reset", "--dir", str(scratch / "run")], check=True, timeout=60)


class Told:
    """A bench whose audit finds what it is told to, and whose canaries arrive or not."""

    def __init__(self, side, kind, moves):
        self.side, self.kind, self.moves, self.complaints = side, kind, moves, []
        self.outboxes = self.replica_count = self.kafka_nodes = 1
        self.place = self.workload = self

    def prepare(self, *_, **__):
        return self

    start = write = stop = end_place = read_logs = prepare

    def quiesce(self, **_):
        return "the pipeline did not come to rest"

    def canary(self, seconds):
        if not self.moves:
            raise BenchError(f"not within {seconds} s")

    def complain(self, text):
        self.complaints.append(text)

    def audit(self):
        result = Audit()
        result.note(self.side, self.kind, "an event")
        return result


class Struck:
    """A schedule whose faults hit, but for one."""
    missed = None

    def __init__(self, *_, **__):
        self.faults, self.tallies = ["a fault"], collections.defaultdict(lambda: SimpleNamespace(hits=1))
        self.tallies[self.missed] = SimpleNamespace(hits=0)

    def strike(self, faults):
        assert faults == self.faults


@pytest.mark.parametrize("name, moves, well", (("hole_sweep", True, True), ("hole_sweep", False, False), ("monotonic_commit", False, False),
                                               ("view_notes", False, False), ("receipts", False, True)))
def test_a_pipeline_that_stands_still_has_lost_nothing(monkeypatch, name, moves, well):
    monkeypatch.setattr(safeguards, "Schedule", Struck)
    said = []
    cell = next(each for each in safeguards.cells(safeguards.SAFEGUARDS) if each.name == name and each.finding)
    assert safeguards._run(Told(*cell.finding, moves), parse(["--seed", "1"]), cell, said.append) == well
    assert ("stands still" in "".join(said)) == (not well)


def test_with_all_safeguards_on_no_fault_is_left_out_and_none_may_miss(monkeypatch):
    clean = [each for each in safeguards.cells(safeguards.SAFEGUARDS) if not each.removed]
    assert sorted(sum((each.faults for each in clean), ())) == sorted(sum((each.faults for each in safeguards.SAFEGUARDS), ()))
    assert [each.faults for each in clean if "kill-behind-view" in each.faults] == [("kill-behind-view",)], "a view is in the way of other faults"
    monkeypatch.setattr(safeguards, "Schedule", Struck)
    told, said = Told("Kafka", "lost", True), []
    monkeypatch.setattr(told, "quiesce", lambda: None)
    monkeypatch.setattr(told, "audit", Audit)
    assert safeguards._run(told, parse(["--seed", "1"]), clean[0], said.append)
    monkeypatch.setattr(Struck, "missed", clean[0].faults[-1])
    assert not safeguards._run(told, parse(["--seed", "1"]), clean[0], said.append)
    assert f"hit nothing: {clean[0].faults[-1]}" in "".join(said)


class Outboxes:
    """As much of a bench as a late commit needs: two outboxes, and the events above that leave them, one with each look."""

    def __init__(self, leaving):
        self.leaving, self.looks, self.committed_after = leaving, 0, None

    @contextlib.contextmanager
    def canaries(self):
        yield self.commit

    def commit(self):
        self.committed_after = min(self.looks, self.leaving)

    @staticmethod
    def write_canaries():
        return ["above-1", "above-2"]

    def departed(self, _):
        self.looks += 1
        return min(self.looks, self.leaving)


@pytest.mark.parametrize("leaving", (0, 2))
def test_a_late_commit_comes_when_rows_above_it_have_left_every_outbox(monkeypatch, leaving):
    if leaving == 0:
        monkeypatch.setattr(aimed_faults, "PATIENCE", 0.0)
    outboxes = Outboxes(leaving)
    steps = FAULTS["late-commit"].begin(outboxes, random.Random(1))
    with pytest.raises(StopIteration) as ended:
        while True:
            next(steps)
    assert outboxes.committed_after == leaving, "it is committed all the same, and then hit nothing"
    assert ended.value.value == leaving


def ended(steps):
    """What the steps of a fault return."""
    with pytest.raises(StopIteration) as end:
        while True:
            next(steps)
    return end.value.value


def test_a_successor_that_answers_late_is_asked_again():
    answers = iter([psycopg2.OperationalError("timeout expired"), ["one", "two"], psycopg2.OperationalError("timeout expired"), 1, 2])

    def answer(*_):
        said = next(answers)
        if isinstance(said, Exception):
            raise said
        return said

    assert ended(published_from(SimpleNamespace(write_canaries=answer, departed=answer), "")) == 2
    assert not list(answers)


def test_every_safeguard_of_the_relay_has_its_row():
    with open(os.path.join(ROOT, "include/relay/base/test_points.h"), encoding="utf-8") as file:
        listed = file.read().split("#define RELAY_SAFEGUARDS(X)", 1)[1].split("\n\n", 1)[0]
    assert re.findall(r'X\(\w+, "(\w+)"\)', listed) == safeguards.names()
    assert all(set(each.faults) <= set(FAULTS) and each.behind in safeguards.names() + [""] for each in safeguards.SAFEGUARDS)


def test_every_fault_is_listed_with_what_it_does():
    done = torture("--list-faults")
    assert done.returncode == 0
    lines = [line.split(None, 1) for line in done.stdout.splitlines()]
    assert len(lines) > 40 and all(len(line) == 2 and line[1].rstrip(")").endswith(".") for line in lines), done.stdout
    assert {"lost-commit", "frozen-publisher", "frozen-inserter", "late-insert", "kill-relay", "kafka-leader", "held-offset-commit", "foreign-commit", "outage-beyond-window"} <= {line[0] for line in lines}


@pytest.mark.parametrize("arguments", [("--faults", "no-such-fault"), ("--seconds", "soon"), ("--replicas", "0"), ("--guarantee", "maybe"),
                                       ("--without", "seat-belt"), ("--seed=1", "--kafka-namespaces")])
def test_bad_usage_is_refused_before_anything_starts(arguments):
    done = torture(*arguments, seconds=30)
    assert done.returncode == 2
    assert arguments[1] in done.stderr or "at least 1" in done.stderr


# Killed while its servers start.
@pytest.mark.parametrize("number, line, code", ((signal.SIGINT, "recovered in", 130), (signal.SIGKILL, "logs in", -signal.SIGKILL)))
def test_a_run_that_is_ended_leaves_nothing_behind(scratch, number, line, code):
    folder = scratch / "run"
    bench = subprocess.Popen([os.path.join(ROOT, "scripts/torture"), "--faults", "slow-kafka", "--folder", str(folder)], env=ENVIRONMENT,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for said in bench.stdout:
            if line in said:
                break
        else:
            pytest.fail("the bench ended before its first fault")
        wait_until((folder / "env").exists if number == signal.SIGINT else (folder / "run/postgres.pid").exists, "servers", 120)
        bench.send_signal(number)
        rest, _ = bench.communicate(timeout=120)
    finally:
        bench.kill()
    assert bench.returncode == code, rest
    deadline = time.monotonic() + 120
    while (left := _working_in(str(folder))) or folder.exists():
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)


HANGING = """
import ctypes, subprocess, sys
sys.path.insert(0, sys.argv[1])
from relaytools.watchdog import Watchdog
watchdog = Watchdog(lambda: print("cleaned up", flush=True), 0.5)
print(subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL).pid, flush=True)
watchdog.heard()
watchdog.rest()
ctypes.CDLL(None).usleep(1500000)   # nothing has to be heard
print("rested", flush=True)
watchdog.heard()
ctypes.CDLL(None).pause()           # a library call that never returns
"""


def test_a_run_that_hangs_in_a_library_ends_and_says_where():
    done = subprocess.run([sys.executable, "-c", HANGING, os.path.join(ROOT, "scripts/lib")], capture_output=True, text=True, timeout=60, check=False)
    child, *words = done.stdout.split("\n")
    assert done.returncode == 1, done.stderr
    assert words == ["rested", "cleaned up", ""]
    assert "nothing was heard for 0.5 s" in done.stderr
    assert f'File "<string>", line {HANGING.count(chr(10))}' in done.stderr, done.stderr

    def ended():    # it was killed, and may still be on its way out
        try:
            return Path(f"/proc/{child}/stat").read_text().split()[2] in "ZX"
        except OSError:
            return True
    wait_until(ended, "the end of what the run had started")


def _working_in(folder):
    """Processes whose command line names the folder."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if entry.isdigit() and folder.encode() in file.read():
                    found.append(entry)
        except OSError:
            continue
    return found
