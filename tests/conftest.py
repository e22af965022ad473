# SPDX-License-Identifier: Apache-2.0
"""No test may hold the others: one that hangs ends the run, which says where it hangs."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "scripts", "lib"))

from relaytools.servers import reset_temporary_servers  # noqa: E402
from relaytools.watchdog import Watchdog  # noqa: E402


class EndsWhatHangs:
    def __init__(self):
        # Standard error as it is now: what a test writes is captured, and would be lost.
        self._watchdog = Watchdog(reset_temporary_servers, descriptor=os.dup(2))

    def pytest_runtest_logstart(self):
        self._watchdog.heard()

    def pytest_runtest_logfinish(self):
        self._watchdog.rest()


def pytest_configure(config):
    config.pluginmanager.register(EndsWhatHangs())
