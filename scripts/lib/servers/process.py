# SPDX-License-Identifier: Apache-2.0
"""Server processes that outlive the command which started them, and are found again safely.

A process is recorded in RUN/NAME.json as pid, start time and boot id: only a live process whose start time
is still the same is ours, so a reused pid is never signalled. RUN/NAME.pid holds the bare pid for shells.
Nothing here waits without a deadline.
"""

import json
import os
import pwd
import select
import signal
import subprocess
import threading
import time


# Set when the command is interrupted, so that no thread goes on waiting.
cancelled = threading.Event()


class ServerError(Exception):
    """A sentence for the user: what went wrong with which server, and what to do."""


def boot_id():
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _stat(pid):
    """(state, parent pid, start time) of a process, or None when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1]), int(fields[19])


def is_same(pid, start_time):
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX" and stat[2] == start_time


def is_stopped(pid):
    stat = _stat(pid)
    return stat is not None and stat[0] in "Tt"


def tree(pid):
    """[(pid, start time)] of a process and all its descendants, parents first."""
    children, starts = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(int(entry))
            if stat and stat[0] not in "ZX":
                children.setdefault(stat[1], []).append(int(entry))
                starts[int(entry)] = stat[2]
    found, queue = [], [pid]
    while queue:
        current = queue.pop(0)
        if current in starts:
            found.append((current, starts[current]))
            queue.extend(children.get(current, []))
    return found


def send(members, number):
    for pid, start_time in members:
        if is_same(pid, start_time):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


def wait_gone(members, seconds):
    """True when all of members are gone before the deadline."""
    deadline = time.monotonic() + seconds
    for pid, start_time in members:
        if not is_same(pid, start_time):
            continue
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            if is_same(pid, start_time) and not poller.poll(max(0, deadline - time.monotonic()) * 1000):
                return False
        finally:
            os.close(handle)
    return True


def working_in(folder):
    """[(pid, start time)] of the processes whose working directory is `folder`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/cwd") == folder:
                    stat = _stat(int(entry))
                    if stat and stat[0] not in "ZX":
                        found.append((int(entry), stat[2]))
            except OSError:
                continue
    return found


def unprivileged():
    """The user for servers that refuse root: None when this is not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise ServerError("PostgreSQL refuses to run as root and there is neither a user postgres nor nobody; run as an ordinary user")


def as_user(user):
    """Popen arguments that drop to a user given by unprivileged()."""
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def give_to(user, *paths):
    for path in paths:
        if user is not None:
            os.chown(path, user.pw_uid, user.pw_gid)


def run(what, argv, log, seconds=60, user=None, env=None, cwd=None):
    """Run a helper command to its end with its output appended to `log`."""
    with open(log, "ab") as output:
        try:
            code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, timeout=seconds,
                                  env=env, cwd=cwd, check=False, **as_user(user)).returncode
        except subprocess.TimeoutExpired:
            raise ServerError(f"{what} did not end within {seconds} s; the end of {log}:\n{tail(log)}") from None
    if code != 0:
        raise ServerError(f"{what} failed (exit {code}); the end of {log}:\n{tail(log)}")


def tail(path, lines=15):
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 20000))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "    | (no log)"
    return "\n".join("    | " + line for line in text.splitlines()[-lines:]) or "    | (empty)"


class Process:
    """One recorded process of an instance."""

    def __init__(self, run_folder, log_folder, name):
        self.name = name
        self.record = os.path.join(run_folder, name + ".json")
        self.pid_file = os.path.join(run_folder, name + ".pid")
        self.log = os.path.join(log_folder, name + ".log")
        self._child = None

    def identity(self):
        """(pid, start time) of the live process, or None."""
        try:
            with open(self.record, encoding="utf-8") as file:
                record = json.load(file)
        except (FileNotFoundError, ValueError):
            return None
        if record["boot_id"] != boot_id() or not is_same(record["pid"], record["start_time"]):
            return None
        return record["pid"], record["start_time"]

    def state(self):
        identity = self.identity()
        if identity is None:
            return "dead" if os.path.exists(self.record) else "stopped"
        return "paused" if is_stopped(identity[0]) else "running"

    def launch(self, argv, user=None, env=None, cwd=None):
        """Start in a session of its own, output appended to the log, recorded before anybody waits for it."""
        with open(self.log, "ab") as output:
            self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                           start_new_session=True, env=env, cwd=cwd, **as_user(user))
        stat = _stat(self._child.pid)
        record = {"pid": self._child.pid, "start_time": stat[2] if stat else 0, "boot_id": boot_id(), "argv": argv[:3]}
        with open(self.record, "w", encoding="utf-8") as file:
            json.dump(record, file)
        with open(self.pid_file, "w", encoding="ascii") as file:
            file.write(f"{self._child.pid}\n")

    def wait_ready(self, probe, seconds, what):
        """Call probe() until it returns None; it returns what is still missing as text."""
        deadline = time.monotonic() + seconds
        missing = "nothing asked yet"
        while time.monotonic() < deadline:
            if cancelled.is_set():
                raise ServerError(f"interrupted while {what} was starting")
            if self._child is not None and self._child.poll() is not None:
                raise ServerError(f"{what} ended while starting (exit {self._child.returncode}); the end of {self.log}:\n{tail(self.log)}")
            missing = probe()
            if missing is None:
                return
            select.select([], [], [], 0.03)
        raise ServerError(f"{what} was not ready within {seconds} s ({missing}); the end of {self.log}:\n{tail(self.log)}")

    def forget(self):
        for path in (self.record, self.pid_file):
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass

    def begin_stop(self, polite):
        """Only send the signal, so that several processes can stop together; stop() waits."""
        identity = self.identity()
        if identity is not None:
            send(tree(identity[0]), signal.SIGCONT)
            send([identity], polite)

    def stop(self, polite, seconds):
        """`polite` signal, then SIGKILL for whatever of its tree is left. Returns how it ended."""
        identity = self.identity()
        if identity is None:
            self.forget()
            return "was not running"
        members = tree(identity[0])
        self.begin_stop(polite)
        how = "stopped"
        if not wait_gone(members, seconds):
            members = sorted(set(members) | set(tree(identity[0])))
            send(members, signal.SIGKILL)
            how = f"killed, as it had not stopped within {seconds} s"
            if not wait_gone(members, 10):
                raise ServerError(f"{self.name}: process {identity[0]} does not go away even by SIGKILL")
        self.forget()
        return how

    def kill(self):
        """SIGKILL the whole tree at once, as a crash would; the record stays, so that status says dead."""
        identity = self.identity()
        if identity is None:
            raise ServerError(f"{self.name} is not running, so it cannot be killed")
        members = self.freeze(identity)
        send(members, signal.SIGKILL)
        if not wait_gone(members, 10):
            raise ServerError(f"{self.name}: process {identity[0]} does not go away even by SIGKILL")

    def discard(self):
        """Ends it for good, whatever it is doing: nobody will read its data again. Returns how it ended."""
        if self.identity() is None:
            self.forget()
            return "was not running"
        self.kill()
        self.forget()
        return "ended"

    @staticmethod
    def freeze(identity):
        """SIGSTOP the tree; again until no new child appears. Returns its members."""
        members = []
        for _ in range(20):
            now = tree(identity[0])
            new = [member for member in now if member not in members]
            if not new:
                break
            send(new, signal.SIGSTOP)
            members += new
        return members

    def pause(self):
        identity = self.identity()
        if identity is None:
            raise ServerError(f"{self.name} is not running, so it cannot be paused")
        self.freeze(identity)

    def resume(self):
        identity = self.identity()
        if identity is None:
            raise ServerError(f"{self.name} is not running, so it cannot be resumed")
        # Children first: the parent must not see them as hung.
        send(list(reversed(tree(identity[0]))), signal.SIGCONT)
