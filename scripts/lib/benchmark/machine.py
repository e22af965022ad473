# SPDX-License-Identifier: Apache-2.0
"""What the figures depend on, and what /proc knows of processes: CPU time, memory."""
import glob
import os
import platform
import re
import subprocess

TICK = os.sysconf("SC_CLK_TCK")


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def cpu_model():
    match = re.search(r"model name\s*:\s*(.+)", read("/proc/cpuinfo"))
    return match.group(1).strip() if match else platform.machine()


def memory_gib():
    match = re.search(r"MemTotal:\s*(\d+) kB", read("/proc/meminfo"))
    return int(match.group(1)) / (1 << 20) if match else 0.0


def load():
    """What else the machine did in the last minute: figures taken beside a load of one core per core are worth little."""
    return os.getloadavg()[0]


def java_version():
    done = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    match = re.search(r'version "([^"]+)"', done.stderr + done.stdout)
    return match.group(1) if match else "?"


def _fields(pid):
    """utime, stime, cutime, cstime in seconds; None when the process is gone."""
    text = read(f"/proc/{pid}/stat")
    if not text:
        return None
    return [int(word) / TICK for word in text.rsplit(")", 1)[1].split()[11:15]]


def cpu(pid):
    """Seconds of CPU the process has used, its own threads only; None when it is gone."""
    fields = _fields(pid)
    return fields[0] + fields[1] if fields else None


def tree_cpu(pid):
    """The process with its children, those that have ended included (PostgreSQL with its backends)."""
    fields = _fields(pid)
    if fields is None:
        return None
    total = sum(fields)
    for path in glob.glob("/proc/[0-9]*/stat"):
        text = read(path)
        if text and text.rsplit(")", 1)[1].split()[1] == str(pid):
            total += sum(int(word) / TICK for word in text.rsplit(")", 1)[1].split()[11:15])
    return total


def machine_cpu():
    """Busy seconds of all cores since boot, kernel and interrupts included."""
    words = [int(word) / TICK for word in read("/proc/stat").splitlines()[0].split()[1:9]]
    return sum(words) - words[3] - words[4]


def memory_mib(pid, what="VmHWM"):
    """VmHWM: the peak of resident memory so far; VmRSS: now."""
    match = re.search(rf"{what}:\s*(\d+) kB", read(f"/proc/{pid}/status"))
    return int(match.group(1)) / 1024 if match else None


class Use:
    """CPU seconds of several processes between two moments: {name: (pid, whole tree)}."""

    def __init__(self, processes):
        self.processes = processes
        self.before = self._now()

    def _now(self):
        return {name: (tree_cpu if tree else cpu)(pid) for name, (pid, tree) in self.processes.items()} | {"machine": machine_cpu()}

    def seconds(self):
        now = self._now()
        return {name: (now[name] or 0.0) - (self.before[name] or 0.0) for name in now}
