# SPDX-License-Identifier: Apache-2.0
"""Ends a run that has fallen silent. A call into a library that never returns cannot be interrupted from Python, and
would otherwise hold the run until somebody looks."""
import faulthandler
import os
import signal
import threading
import time

from servers import process

SILENCE = 900.0     # seconds; far beyond every wait that has a deadline of its own


class Watchdog:
    """When `seconds` have passed since heard(): says where every thread stands, kills the processes that this one has
    started, lets `clean_up` stop the servers, and ends the process with 1. rest() is for as long as nothing has to be heard."""

    def __init__(self, clean_up, seconds=SILENCE, descriptor=2):
        self._clean_up, self._seconds, self._descriptor = clean_up, seconds, descriptor
        self._deadline = None
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    def heard(self):
        self._deadline = time.monotonic() + self._seconds

    def rest(self):
        self._deadline = None

    def _watch(self):
        while True:
            time.sleep(min(5.0, self._seconds / 4))
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._end()

    def _end(self):
        os.write(self._descriptor, f"FAILED: nothing was heard for {self._seconds:g} s; this is where each thread stands:\n".encode())
        faulthandler.dump_traceback(self._descriptor)
        try:
            process.send(process.tree(os.getpid())[1:], signal.SIGKILL)
            self._clean_up()
        finally:
            os._exit(1)
