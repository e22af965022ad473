# SPDX-License-Identifier: Apache-2.0
"""A server's own disk: full, PostgreSQL takes no more rows; freed, it does again; and it goes with the servers."""
import os
import shutil
import tempfile

import psycopg2
import pytest

from relaytools.relay import wait_until
from relaytools.servers import temporary_servers
from relaytools.sessions import execute_each
from servers.disks import Disk
from servers.process import ServerError

ROWS = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)"


def possible():
    """Root in a container may not be allowed to."""
    folder = tempfile.mkdtemp(prefix="outbox-relay-disk-")
    disk = Disk(folder)
    try:
        disk.make()
        return True
    except (ServerError, OSError):
        return False
    finally:
        disk.remove()
        shutil.rmtree(folder)


def refused(servers):
    try:
        execute_each(servers.admin_dsn, ROWS)
        return False
    except psycopg2.Error as error:
        return "No space left" in str(error) or isinstance(error, psycopg2.OperationalError)


@pytest.mark.skipif(not possible(), reason="a disk of its own needs root and the right to mount")
def test_a_full_disk_refuses_rows_and_takes_them_when_it_is_freed():
    with temporary_servers("postgres", own_disks=True) as servers:
        folder = os.path.join(servers.folder, "postgres")
        assert os.path.ismount(folder)
        execute_each(servers.admin_dsn, "CREATE TABLE t (x text)")
        disk = Disk(folder)
        disk.fill()
        wait_until(lambda: refused(servers), "a row refused")
        disk.free()

        def taken():
            if not servers.runs("postgres"):
                servers.start("postgres")
            return not refused(servers)
        wait_until(taken, "a row taken")
    with open("/proc/mounts", encoding="utf-8") as file:
        assert folder not in file.read()
