# SPDX-License-Identifier: Apache-2.0
"""tests/models/check over models of a few lines: it must not call a search good that is not."""
import os
import subprocess
import textwrap

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))

MODEL = """
    /* A counter.
     *
     *    run plain -DMOST=3
     *    without GUARD in plain finds doubled
     */
    byte n;
    active proctype P() {
        bool doubled;
        do
        :: n < MOST -> n++
    #ifdef WITHOUT_GUARD
        :: n < 5 -> n = n + 2
    #endif
        :: n >= 3 -> break
        od;
        doubled = n > 3;
        assert(!doubled)
    }
"""


TWO_RUNS = """
    /* A counter, and the same with a step that only the second run has.
     *
     *    run short -DMOST=3
     *    run long -DMOST=4 -DLONG
     */
    byte n;
    active proctype P() {
        byte over;
        do
        :: n < MOST -> n++
        :: n == 4 -> over = 1; n = 5
    #ifdef LONG
        :: n == 5 -> over = 2; n = 6
    #endif
        :: n == 3 && MOST == 3 -> break
        :: n == 6 -> break
        od
    }
"""


def check(folder, text, *options):
    path = folder / "model.pml"
    path.write_text(textwrap.dedent(text).lstrip())
    return subprocess.run([os.path.join(ROOT, "tests/models/check"), *options, str(path)], capture_output=True, text=True, timeout=300,
                          check=False)


def test_what_holds_and_what_is_found_as_said_passes(tmp_path):
    done = check(tmp_path, MODEL)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "2 passed, 0 failed"


@pytest.mark.parametrize("old, new, says", [
    ("finds doubled", "finds lost", "finds doubled, and not lost"),
    ("finds doubled", "finds nothing", "finds doubled, and not nothing"),
    ("finds doubled", "finds trouble", "no such run or kind"),
    ("-DMOST=3", "-DMOST=4", "plain: finds doubled, and not nothing"),
    ("without GUARD in plain finds doubled", "", "WITHOUT_GUARD is in no line of the table"),
    ("n >= 3 -> break", "n > 3 -> break", "plain: finds stuck"),
    ("n < MOST -> n++", "n < MOST -> n+++", "spin fails"),
    ("assert(!doubled)", "assert(n < 3)", "not a finding of a known kind"),
    ("n < MOST -> n++", "n < MOST -> n++\n    :: n > 200 -> n = 0", "no run reaches this statement"),
])
def test_a_wrong_model_or_table_fails(tmp_path, old, new, says):
    assert old in MODEL
    done = check(tmp_path, MODEL.replace(old, new))
    assert done.returncode == 1, done.stdout
    assert says in done.stdout


def test_a_statement_that_one_run_reaches_need_not_be_reached_by_the_others(tmp_path):
    done = check(tmp_path, TWO_RUNS)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "2 passed, 0 failed"


def test_a_statement_that_only_one_run_has_must_be_reached_by_it(tmp_path):
    done = check(tmp_path, TWO_RUNS.replace("#endif", "    :: n > 200 -> over = 3\n#endif"))
    assert done.returncode == 1, done.stdout
    assert "no run reaches this statement of proctype P: over = 3" in done.stdout


def test_a_search_that_is_cut_short_fails(tmp_path):
    deep = """
        /* A long one.
         *
         *    run deep
         */
        int n;
        active proctype P() { do :: n < 1100000 -> n++ :: else -> break od }
    """
    done = check(tmp_path, deep)
    assert done.returncode == 1, done.stdout
    assert "the search is not complete" in done.stdout


def test_a_search_that_takes_too_long_fails(tmp_path):
    wide = """
        /* One of many states.
         *
         *    run wide
         */
        byte a, b, c, d, e, f;
        active proctype P() { do :: a++ :: b++ :: c++ :: d++ :: e++ :: f++ :: a + b + c + d + e + f == 2000 -> break od }
    """
    done = check(tmp_path, wide, "--timeout", "3")
    assert done.returncode == 1, done.stdout
    assert "takes longer than 3 s" in done.stdout
