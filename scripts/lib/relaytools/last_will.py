# SPDX-License-Identifier: Apache-2.0
"""Ends what a process has started when it dies without doing so itself: of SIGKILL, of a closed terminal, of a cancelled job. Servers
have sessions of their own, so nobody else would. Run as a program, this is the helper that waits for that death."""
import contextlib
import os
import signal
import subprocess
import sys
import time

SERVICES = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "services")
START_SECONDS = 300     # in which a scripts/services that somebody else has started comes to its end


@contextlib.contextmanager
def last_will(folder, command="reset"):
    """For as long as the block runs: should this process die in it, the relays of the folder are killed, and scripts/services resets,
    or stops, the servers in it. The same after an exception, where there is something left."""
    # Nothing else holds the other end of its input, so that it ends with this process.
    with subprocess.Popen([sys.executable, "-BIS", os.path.realpath(__file__), command, folder], stdin=subprocess.PIPE,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as helper:
        yield
        helper.communicate(b"nobody has died")


def processes_of(option, value):
    """Those with this option on their command line, whose value begins so."""
    mark = b"\0%s\0%s" % (os.fsencode(option), os.fsencode(value))
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/cmdline", "rb") as file:
            if mark in file.read():
                found.append(int(entry))
    return found


def main():
    command, folder = sys.argv[1:]
    if sys.stdin.buffer.read():
        return
    # It may be about to start servers, and has not made the folder its own yet.
    deadline = time.monotonic() + START_SECONDS
    while processes_of("--dir", folder + "\0") and time.monotonic() < deadline:
        time.sleep(0.1)
    for relay in processes_of("--config", os.path.join(folder, "")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(relay, signal.SIGKILL)
    subprocess.run([sys.executable, SERVICES, command, "--dir", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
