# SPDX-License-Identifier: Apache-2.0
"""scripts/test over suites of a line each."""
import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts/lib"))

from relaytools.relay import wait_until  # noqa: E402


def heeding_signals():
    """A background job ignores the first, what nohup has started the last, and a script cannot undo that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


class Project:
    """As much of a project as scripts/test needs, in a folder with a blank in its name. Its ninja finds everything built."""

    def __init__(self, folder):
        self.folder, self.temporary = folder, folder / "temporary files"
        self.temporary.mkdir()
        for name in ("scripts/test", "scripts/pins", "scripts/lib/common.sh"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.join(ROOT, name), folder / name)
        for name in ("setup", "ninja"):
            self.script(name, "exit 0")

    def tests(self, suite, text):
        path = self.folder / "tests" / suite / "test_it.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)

    def built(self, *names):
        for name in names:
            (self.folder / name).mkdir()
            (self.folder / name / "build.ninja").touch()

    def script(self, name, *lines):
        path = self.folder / "scripts" / name
        path.write_text("\n".join(("#!/bin/bash", *lines, "")))
        path.chmod(0o755)

    @contextlib.contextmanager
    def start(self, *arguments):
        run = subprocess.Popen([self.folder / "scripts/test", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True, preexec_fn=heeding_signals,
                               env=dict(os.environ, TMPDIR=str(self.temporary), PATH=f"{self.folder / 'scripts'}:{os.environ['PATH']}"))
        with run:
            try:
                yield run
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGKILL)

    def run(self, *arguments):
        with self.start(*arguments) as run:
            said, _ = run.communicate(timeout=120)
        return run.returncode, said


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "a project"
    folder.mkdir()
    return Project(folder)


WAITING = """
import pathlib, time, pytest
@pytest.mark.tsan
def test_waiting():
    pathlib.Path("begun").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("number, code", ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)))
def test_a_signal_ends_the_run_and_not_the_suite_alone(project, number, code):
    project.tests("integration", WAITING)
    project.built("build-tsan")
    project.script("fuzz", "echo another one")
    with project.start("--only", "tsan,fuzz") as run:
        wait_until((project.folder / "begun").exists, "a test that runs", 120)
        os.killpg(run.pid, number)
        said, _ = run.communicate(timeout=120)
    assert (run.returncode, "another one" in said) == (code, False), said
    assert not list(project.temporary.glob("outbox-relay-test.*"))


SANITIZED = """
import os, subprocess, pytest
pytestmark = pytest.mark.tsan
def test_a_program():
    subprocess.run(["gcc", "-fsanitize=thread", "-xc", "-", "-o", "program"], input=b"int main(void) { return 0; }", check=True)
    subprocess.run(["./program"], check=True)
    assert os.path.isfile(os.environ["TSAN_OPTIONS"].split("'")[1])
def test_what_this_machine_has_not():
    pytest.skip("it is not there")
"""


@pytest.mark.parametrize("listed", (False, True), ids=("unknown", "known"))
def test_sanitizers_understand_their_options_and_what_is_skipped_has_failed_unless_it_is_listed(project, listed):
    project.tests("integration", SANITIZED)
    project.built("build-tsan")
    (project.folder / "tests/support").mkdir()
    shutil.copy(os.path.join(ROOT, "tests/support/tsan.supp"), project.folder / "tests/support")
    (project.folder / "tests/skips.txt").write_text("# why\ntest_what_this_machine_has_not  a reason\n" if listed else "# nothing\n")
    code, said = project.run("--only", "tsan")
    assert code == (0 if listed else 1) and said.endswith(f"\n1 passed, {0 if listed else 1} failed\n"), said
    told = "skipped" if listed else "skipped, and not in tests/skips.txt"
    assert f"{told}: tests.integration.test_it test_what_this_machine_has_not: it is not there\n1 skipped\n" in said


JUNIT = '<testsuites><testsuite><testcase classname="leak" name="leaks"/></testsuite></testsuites>'
LEAKING = """
#include <criterion/criterion.h>
#include <stdlib.h>
Test(leak, leaks) { char *volatile lost = malloc(10); lost = NULL; cr_assert_null(lost); }
"""


@pytest.mark.parametrize("source, failed", ((LEAKING, 1), (LEAKING.replace("malloc(10)", "NULL"), 0)), ids=("leaks", "leaks_nothing"))
def test_a_unit_test_that_leaks_and_passes_has_failed(project, source, failed):
    """Criterion has judged it before its process ends, and looks at no exit code after that."""
    (project.folder / "leak.c").write_text(source)
    project.built("build-sanitize")
    (project.folder / "build-sanitize/meson-logs").mkdir()
    project.script("meson", f"cd '{project.folder}' && gcc -fsanitize=address,undefined leak.c -lcriterion -o leak && ./leak || exit 1",
                   f"echo '{JUNIT}' >build-sanitize/meson-logs/testlog.junit.xml")
    code, said = project.run("--only", "sanitize")
    assert said.endswith(f"\n1 passed, {failed} failed\n") and code == failed, said
    assert ("10 byte(s) leaked" in said) == bool(failed), said


def test_a_second_run_in_the_same_folder_is_refused(project):
    project.script("lint", "read -r line <go", "echo '1 passed, 0 failed'")
    os.mkfifo(project.folder / "go")
    with project.start("--only", "lint") as first:
        with open(project.folder / "go", "w", encoding="ascii") as go:   # when somebody reads
            code, said = project.run("--only", "lint")
            assert (code, "another one runs in" in said) == (2, True), said
            go.write("go\n")
        said, _ = first.communicate(timeout=60)
    assert first.returncode == 0, said
    project.script("lint", "echo '1 passed, 0 failed'")
    assert project.run("--only", "lint")[0] == 0


def test_a_torture_run_that_ends_without_a_word_has_failed(project):
    project.built("build", "build-hooks")
    project.script("torture", '[ "$1" != --crash-points ] || kill -KILL $PPID')
    code, said = project.run("--only", "torture")
    runs = said.count("] scripts/torture ")
    assert code == 1 and runs > 1 and said.endswith(f"\n{runs - 1} passed, 1 failed\n"), said
    assert "1 of these runs ended without a word" in said


def test_what_the_compiler_says_is_shown(project):
    project.built("build", "build-hooks")
    project.script("ninja", "echo '[1/2] Compiling'", "echo 'FAILED: a.o'", "echo \"a.c:1: error: no such thing\"",
                   "echo 'ninja: build stopped: subcommand failed.'", "exit 1")
    for name, arguments in (("torture", ("--crash-points",)), ("torture", ()), ("demo", ()), ("bench", ())):
        shutil.copy(os.path.join(ROOT, "scripts", name), project.folder / "scripts")
        done = subprocess.run([project.folder / "scripts" / name, *arguments], capture_output=True, text=True, timeout=60, check=False,
                              env=dict(os.environ, PATH=f"{project.folder / 'scripts'}:{os.environ['PATH']}"))
        assert done.returncode == 1 and "a.c:1: error: no such thing" in done.stderr, done.stdout + done.stderr
