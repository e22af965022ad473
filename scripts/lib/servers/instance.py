# SPDX-License-Identifier: Apache-2.0
"""The folder of one set of servers: state.json (ports, passwords, versions), env (for shells), run/ (pids),
log/, and a folder of data per server. Several instances live side by side; a lock lets one command at a time
change an instance."""

import fcntl
import json
import os
import select
import shlex
import shutil
import subprocess
import time

from . import process
from .disks import Disk

MARKER = ".outbox-relay-services"


class Instance:
    def __init__(self, folder, scripts, classes):
        self.folder = os.path.abspath(folder)
        self.scripts = scripts
        self._state_file = os.path.join(self.folder, "state.json")
        self.env_file = os.path.join(self.folder, "env")
        self._lock = None
        self._state = {}
        try:
            with open(self._state_file, encoding="utf-8") as file:
                self._state = json.load(file)
        except FileNotFoundError:
            pass
        except ValueError:
            raise process.ServerError(f"{self._state_file} is damaged; `scripts/services reset` makes a new one") from None
        self.servers = {cls.name: cls(self) for cls in classes}

    def exists(self):
        return os.path.exists(os.path.join(self.folder, MARKER))

    def create(self):
        """Make the folder ours. A folder with other people's files is refused, as reset would delete them."""
        os.makedirs(self.folder, exist_ok=True)
        if os.stat(self.folder).st_uid != os.geteuid():
            raise process.ServerError(f"{self.folder} belongs to another user; give another --dir")
        if not self.exists() and os.listdir(self.folder):
            raise process.ServerError(f"{self.folder} is not empty and was not made by scripts/services; give an empty or new --dir")
        for name in ("run", "log"):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        if os.geteuid() == 0:
            # PostgreSQL's unprivileged user must be able to pass through; secrets are in files of mode 600.
            os.chmod(self.folder, 0o755)
        with open(os.path.join(self.folder, MARKER), "w", encoding="ascii"):
            pass

    def lock(self, seconds=300):
        """Held until this command ends; the servers do not inherit it."""
        marker = os.path.join(self.folder, MARKER)
        deadline = time.monotonic() + seconds
        self._lock = open(marker, "a", encoding="ascii")
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A reset may have deleted the folder while we waited: what we locked must still be the file there.
                if os.path.exists(marker) and os.path.samestat(os.stat(marker), os.fstat(self._lock.fileno())):
                    return
                self._lock.close()
                self.create()
                self._lock = open(marker, "a", encoding="ascii")
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise process.ServerError(f"another scripts/services has been busy with {self.folder} for {seconds} s; wait for it or end it") from None
                select.select([], [], [], 0.05)

    def process(self, name):
        return process.Process(os.path.join(self.folder, "run"), os.path.join(self.folder, "log"), name)

    def settings(self, name):
        return self._state.setdefault(name, {})

    def known(self):
        """Names of the servers that were ever started here, in the order of starting."""
        return [name for name in self.servers if self._state.get(name)]

    def guests(self):
        """Processes recorded in this folder that are none of these servers'."""
        own = {process.name for name in self.known() for process in self.servers[name].processes}
        recorded = sorted(name[:-len(".json")] for name in os.listdir(os.path.join(self.folder, "run")) if name.endswith(".json"))
        return [self.process(name) for name in recorded if name not in own]

    def save(self):
        """state.json and env, each replaced whole."""
        lines = ["# Written by scripts/services; `. " + self.env_file + "` in a shell.", f"export SERVICES_DIR={shlex.quote(self.folder)}"]
        for name in self.known():
            if self.settings(name).get("ready"):
                lines += [f"export {key}={shlex.quote(str(value))}" for key, value in self.servers[name].env().items()]
        for path, text in ((self._state_file, json.dumps(self._state, indent=2) + "\n"), (self.env_file, "\n".join(lines) + "\n")):
            with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            os.rename(path + ".new", path)

    def forget(self, name):
        """Drop a server's settings and data (it must not run)."""
        self._release(name)
        self._state.pop(name, None)
        shutil.rmtree(self.servers[name].folder, ignore_errors=True)

    def _release(self, name):
        if hasattr(self.servers[name], "release"):
            self.servers[name].release()
        self.disk(name).remove()

    def disk(self, name):
        return Disk(os.path.join(self.folder, name))

    def delete(self):
        for name in self.known():
            self._release(name)
        shutil.rmtree(self.folder)

    def fetch(self, thing):
        """The folder of a pinned thing in the cache; scripts/fetch shows its own progress."""
        done = subprocess.run([os.path.join(self.scripts, "fetch"), thing], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise process.ServerError(f"scripts/fetch {thing} did not work; what it said stands above")
        return done.stdout.strip()
