# SPDX-License-Identifier: Apache-2.0
"""scripts/test over suites of a line each."""
import os
import shutil
import signal
import subprocess
import sys

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts/lib"))

from relaytools.relay import wait_until  # noqa: E402


def heeding_interrupts():
    """Of a background job the shell has them ignored, and a script cannot undo that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Project:
    """As much of a project as scripts/test needs."""

    def __init__(self, folder):
        self.folder, self.temporary = folder, folder / "temporary"
        (folder / "scripts").mkdir()
        self.temporary.mkdir()
        shutil.copy(os.path.join(ROOT, "scripts/test"), folder / "scripts")
        self.script("setup", "exit 0")

    def script(self, name, *lines):
        path = self.folder / "scripts" / name
        path.write_text("\n".join(("#!/bin/bash", *lines, "")))
        path.chmod(0o755)

    def start(self, *arguments):
        return subprocess.Popen([self.folder / "scripts/test", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                start_new_session=True, preexec_fn=heeding_interrupts, env=dict(os.environ, TMPDIR=str(self.temporary)))


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


WAITING = """
import pathlib, time
def test_waiting():
    pathlib.Path("begun").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("number, code", ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)))
def test_a_signal_ends_the_run_and_not_the_suite_alone(project, number, code):
    (project.folder / "tests/scripts").mkdir(parents=True)
    (project.folder / "tests/scripts/test_waiting.py").write_text(WAITING)
    project.script("fuzz", "echo another one")
    with project.start("--only", "tools,fuzz") as run:
        wait_until((project.folder / "begun").exists, "a test that runs", 60)
        os.killpg(run.pid, number)
        said, _ = run.communicate(timeout=60)
    assert (run.returncode, "another one" in said) == (code, False), said
    assert not list(project.temporary.glob("outbox-relay-test.*"))
