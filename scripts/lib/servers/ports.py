# SPDX-License-Identifier: Apache-2.0
"""Ports of servers, each kept for one folder as long as that is there: what was to listen on a port may be down for a while
(killed by a test), and whoever found the port free then would answer in its place.

Who keeps which port is in one file for all folders of a user, changed under a lock. Ports of other users, and of servers
that are not ours, are only seen while somebody listens there."""

import fcntl
import json
import os
import random
import socket

from .process import ServerError

# Outside the range the kernel hands out to outgoing connections, so that a port is still free after a restart.
FIRST, LAST = 15000, 31999


def _registry():
    path = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"outbox-relay-ports-{os.geteuid()}")
    try:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "r+", encoding="utf-8")
    except OSError as problem:
        raise ServerError(f"{path}: {problem.strerror}; remove it, or set TMPDIR to a folder of yours") from None
    if os.fstat(file.fileno()).st_uid != os.geteuid():
        file.close()
        raise ServerError(f"{path} belongs to another user; set TMPDIR to a folder of yours")
    return file


def _kept(file):
    """{port: folder} of the folders that are still there."""
    try:
        kept = json.load(file)
        return {int(port): folder for port, folder in kept.items() if os.path.isdir(folder)}
    except (ValueError, AttributeError, TypeError):
        return {}   # new, or cut short by a full disk


def _listened_on(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def free_port(folder):
    """A port nobody listens on, and no other folder keeps; `folder` keeps it from now on."""
    with _registry() as file:
        fcntl.flock(file, fcntl.LOCK_EX)    # for milliseconds
        kept = _kept(file)
        for _ in range(1000):
            port = random.randint(FIRST, LAST)
            if port not in kept and not _listened_on(port):
                break
        else:
            raise ServerError(f"found no free port between {FIRST} and {LAST} in 1000 tries; end something that listens there")
        kept[port] = os.path.abspath(folder)
        file.seek(0)
        file.truncate()
        json.dump(kept, file)
    return port
