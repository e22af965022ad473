# SPDX-License-Identifier: Apache-2.0
"""Whoever starts servers may die without a word: nothing of what it started goes on."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
LIB = os.path.join(ROOT, "scripts/lib")
sys.path.insert(0, LIB)

from relaytools.relay import wait_until  # noqa: E402
from servers import process  # noqa: E402

STARTER = """
import subprocess, sys, time
sys.path.insert(0, sys.argv[1])
from relaytools.servers import temporary_servers
with temporary_servers("postgres") as servers:
    relay = subprocess.Popen(["/bin/sh", "-c", "while :; do sleep 1; done", "run", "--config", servers.folder + "/place/relay.ini"])
    print(relay.pid, servers.env["POSTGRES_PID_FILE"], servers.folder, flush=True)
    sys.stdin.read()
    relay.kill()
"""


def start(**environment):
    return subprocess.Popen([sys.executable, "-B", "-c", STARTER, LIB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env=dict(os.environ, **environment))


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGKILL))
def test_servers_and_relays_end_with_who_started_them(number):
    with start() as starter:
        relay, pid_file, folder = starter.stdout.readline().split()
        running = process.tree(int(Path(pid_file).read_text())) + process.tree(int(relay))
        starter.send_signal(number)
        assert starter.wait(60) == -number
        wait_until(lambda: not Path(folder).exists(), "the folder removed", 120)
        assert process.wait_gone(running, 60)


def test_a_folder_to_look_at_is_left_and_nothing_runs_in_it():
    with start(RELAY_TEST_KEEP="yes") as starter:
        _, pid_file, folder = starter.stdout.readline().split()
        running = process.tree(int(Path(pid_file).read_text()))
        starter.stdin.close()
        assert starter.wait(120) == 0
    assert process.wait_gone(running, 60)
    assert Path(folder, "log").is_dir()
    subprocess.run([os.path.join(ROOT, "scripts/services"), "reset", "--dir", folder], check=True, timeout=60, capture_output=True)
