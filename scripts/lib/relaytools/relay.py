# SPDX-License-Identifier: Apache-2.0
"""A relay process under test: its config file, its start, its signals, its log and its HTTP answers."""
import http.client
import json
import math
import os
import re
import signal
import subprocess
import time
import urllib.error

from servers.web import open_direct

from .servers import ROOT


class NoAnswer(Exception):
    """Nobody answered an HTTP request, or not in time; says to which, and why."""


# For an answer, which is what matters and not when it comes: a busy machine may take its time for the thread that gives it.
PATIENCE = 30

# What a condition raises while a relay does not answer (series() is None), or has no such part, alert or log line yet.
NOT_YET = (NoAnswer, LookupError, TypeError)


def wait_until(condition, what, seconds=60, every=0.05):
    """Waits for a condition, not for a time. Returns what the condition returned; raises with `what` at the deadline, and with what
    the condition raised the last time, if that may pass: a relay on a busy machine is late with an answer now and then."""
    deadline = time.monotonic() + seconds
    while True:
        met = None
        try:
            value = condition()
            if value:
                return value
        except NOT_YET as error:
            met = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds} s" + (f"; last: {met!r}" if met else "")) from met
        time.sleep(every)


def write_config(path, sections):
    """sections: {"section": {"key": value}}; None leaves a key out. The file is readable by its owner only."""
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        for key, value in keys.items():
            if value is not None:
                lines.append(f"{key} = {value}")
        lines.append("")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(lines))
    return path


def sections_for(servers, prefix):
    """A config for the local servers."""
    return {
        "postgres": {"dsn": servers.dsn},
        "outbox": {},
        "kafka": {"bootstrap.servers": servers.bootstrap},
        "publish": {"prefix": prefix},
        "insert": {"group_id": f"relay-{prefix}", "linger": "200ms"},
        "clickhouse": {"url": servers.clickhouse_url, "database": servers.clickhouse_database,
                       "user": servers.env["CLICKHOUSE_USER"], "password": servers.env["CLICKHOUSE_PASSWORD"]},
        "http": {"listen": "127.0.0.1:0"},
        "log": {"level": "info", "format": "json"},
    }


class Relay:
    """One `outbox-relay run`. The HTTP port is the one that the log names."""

    def __init__(self, folder, sections, name="relay", binary=None, environment=None):
        self.name = name
        self.binary = program(binary)
        self.config = write_config(os.path.join(folder, f"{name}.ini"), sections)
        self.log_path = os.path.join(folder, f"{name}.log")
        self.environment = dict(os.environ, **(environment or {}))
        self.process = None
        self._log_start = 0
        self._port = None
        self._told = False

    def start(self, ready=True, seconds=60):
        log = open(self.log_path, "ab")
        self._log_start, self._port, self._told = log.tell(), None, False
        self.process = subprocess.Popen([self.binary, "run", "--config", self.config], stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, env=self.environment)
        log.close()
        if ready:
            self.wait(lambda: self.get("/ready")[0] == 200, f"{self.name} ready", seconds)
        return self

    def wait(self, condition, what, seconds=60):
        """wait_until that ends early, with the end of the log, when the process is gone."""
        def check():
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode} before: {what}\n{self.log_tail()}")
            return condition()
        try:
            return wait_until(check, what, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log_tail()}") from error.__cause__

    def _log_text(self):
        with open(self.log_path, "rb") as file:
            file.seek(self._log_start)
            return file.read().decode("utf-8", "replace")

    def log(self):
        """The lines since the last start."""
        return self._log_text().splitlines()

    def log_tail(self, lines=25):
        return "\n".join(self.log()[-lines:])

    def events(self, name):
        """The log lines of one event, parsed. The last line may be in the middle of being written."""
        whole = self._log_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.split("\n") if line.startswith("{") and f'"event":"{name}"' in line]

    @property
    def url(self):
        if self._port is None:
            for line in self.log():
                match = re.search(r'"event":"http\.listening".*?"address":"([^"]+)"', line)
                if match:
                    self._port = match.group(1)
        return f"http://{self._port}" if self._port else None

    def get(self, path, timeout=PATIENCE):
        """(status, text); (0, reason) when nothing answers in time."""
        if self.url is None:
            return 0, "no HTTP address in the log yet"
        try:
            with open_direct(self.url + path, timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)

    def health(self):
        """The document of /health; NoAnswer when nothing answers, for which a wait goes on waiting."""
        status, text = self.get("/health")
        if status == 0:
            raise NoAnswer(f"{self.name}: /health: {text}")
        return json.loads(text)

    def series(self, name, **labels):
        """The values of a metric's series that carry these labels; None when nobody answers or there is no such metric."""
        status, text = self.get("/metrics")
        family = re.sub(r"_(?:count|sum|bucket)$", "", name)
        if status != 200 or f"\n# TYPE outbox_relay_{family} " not in text:
            return None
        found = []
        for line in text.splitlines():
            match = re.match(r"outbox_relay_" + re.escape(name) + r"(?:\{(.*)\})? (\S+)$", line)
            if match and all(f'{key}="{value}"' in (match.group(1) or "") for key, value in labels.items()):
                found.append(float(match.group(2)))
        return found

    def metric(self, name, **labels):
        """Their sum; 0.0 while the metric has no such series. nan, which equals and exceeds nothing, where series() is None:
        a name that is written wrong, or a relay that is gone, must not pass for 0."""
        found = self.series(name, **labels)
        return math.nan if found is None else sum(found, 0.0)

    def signal(self, number):
        self.process.send_signal(number)

    def begin_stop(self):
        """SIGTERM, unless it has had one: a process that is ending may have its handler no longer."""
        if not self._told and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self._told = True

    def stop(self, seconds=40):
        """SIGTERM; returns the exit code."""
        if self.process is None:
            return None
        self.begin_stop()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            self.kill()
            raise TimeoutError(f"{self.name} did not end within {seconds} s of SIGTERM\n{tail}") from None

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)


def program(binary=None):
    return binary or os.environ.get("RELAY_BINARY") or os.path.join(ROOT, "build/outbox-relay")


def command(*arguments, config=None, binary=None, environment=None, seconds=120, stdin=None):
    """Runs a command of the binary; returns the CompletedProcess with text output."""
    options = ["--config", config] if config else []
    return subprocess.run([program(binary), *arguments, *options], capture_output=True, text=True, timeout=seconds,
        input=stdin, env=dict(os.environ, **(environment or {})))
