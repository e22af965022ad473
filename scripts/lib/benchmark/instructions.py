# SPDX-License-Identifier: Apache-2.0
"""Instructions that both pipes spend on an event, counted by callgrind: the one figure of this bench that does not depend on what
else the machine does, hence a check that can fail. tests/bench/instructions.json holds the figures that were accepted; one that is
more than 10 % above fails, one that is more than 10 % below asks to be accepted."""
import json
import os
import re
import shutil
import subprocess
import tempfile

from relaytools.servers import ROOT

ACCEPTED = os.path.join(ROOT, "tests/bench/instructions.json")
PIPES = ("publish", "insert-default", "insert-typed")
TOLERANCE = 0.10
BATCHES = (1, 6)
BATCH_ROWS = 2000


def count(program, pipe, batches):
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind")
        # One implementation of simdjson on every machine, else the count would depend on the processor.
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", program, "--pipe", pipe, "--batches", str(batches)],
                              capture_output=True, text=True, timeout=300, check=False, env=dict(os.environ, SIMDJSON_FORCE_IMPLEMENTATION="westmere"))
        if done.returncode != 0:
            raise RuntimeError(f"valgrind failed: {done.stderr.strip()[-600:]}")
        with open(out, encoding="ascii") as file:
            return int(re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M).group(1))


def per_event(program, pipe):
    """Start and end of the program fall out of the difference."""
    few, many = (count(program, pipe, batches) for batches in BATCHES)
    return (many - few) / ((BATCHES[1] - BATCHES[0]) * BATCH_ROWS)


def check(programs, say, accept=False):
    """Returns the exit code; prints a line for each pipe and "N passed, N failed"."""
    if shutil.which("valgrind") is None:
        say("valgrind is not installed: run scripts/setup")
        return 1
    program = os.path.join(programs, "count_instructions")
    accepted, found, failed = {}, {}, 0
    if os.path.exists(ACCEPTED):
        with open(ACCEPTED, encoding="utf-8") as file:
            accepted = json.load(file)
    for pipe in PIPES:
        found[pipe] = round(per_event(program, pipe))
        known = accepted.get(pipe)
        change = found[pipe] / known - 1 if known else 0.0
        bad = not accept and (known is None or change > TOLERANCE)
        failed += bad
        hint = " (accept it: scripts/bench --instructions --accept)" if known is None or change < -TOLERANCE else ""
        say(f"  {'FAILED' if bad else 'ok':<7} {pipe:<15} {found[pipe]} instructions an event; accepted {known or 'none'}, {change:+.1%}{hint}")
    if accept:
        with open(ACCEPTED, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
            file.write("\n")
        say(f"accepted: {os.path.relpath(ACCEPTED, ROOT)}")
    say(f"instructions: {len(PIPES) - failed} passed, {failed} failed")
    return 1 if failed else 0
