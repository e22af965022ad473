# SPDX-License-Identifier: Apache-2.0
"""A disk of its own for one server: a file system in memory under its folder, which can be full from one moment to the next, and be
freed again. What is in it lasts until it is removed, or until a reboot. Needs root."""
import os
import subprocess

from .process import ServerError

ROOM = 8 << 30      # bytes; what is not used takes no memory
TRIES = 100         # the server goes on to write while it is filled


class Disk:
    def __init__(self, folder):
        self.folder = folder

    def make(self):
        os.makedirs(self.folder, exist_ok=True)
        if not os.path.ismount(self.folder):
            done = self._mount("-t", "tmpfs", "-o", f"size={ROOM},mode=755", "outbox-relay", self.folder)
            if done.returncode != 0:
                raise ServerError(f"a disk of its own for {self.folder} needs root, and the right to mount: {done.stderr.strip()}")

    @staticmethod
    def _mount(*words):
        return subprocess.run(["mount", *words], capture_output=True, text=True, timeout=30, check=False)

    def fill(self):
        """From now on it has no room for anything."""
        for _ in range(TRIES):
            state = os.statvfs(self.folder)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            if self._mount("-o", f"remount,size={used}", self.folder).returncode == 0:
                return
        raise ServerError(f"{self.folder} could not be made full: its server writes too fast")

    def free(self):
        done = self._mount("-o", f"remount,size={ROOM}", self.folder)
        if done.returncode != 0:
            raise ServerError(f"{self.folder} could not be freed: {done.stderr.strip()}")

    def remove(self):
        if os.path.ismount(self.folder):
            subprocess.run(["umount", "--lazy", self.folder], capture_output=True, timeout=30, check=False)
