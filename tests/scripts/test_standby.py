# SPDX-License-Identifier: Apache-2.0
"""The standby of PostgreSQL that the tools make: it takes over with all that was committed, changes places with the one that was
the primary, and ends with its servers."""
import os

from psycopg2.extensions import make_dsn

from relaytools.servers import temporary_servers
from relaytools.sessions import execute_each
from relaytools.standby import Standby
from servers import process


def test_the_standby_takes_over_and_changes_places_as_often_as_is_asked():
    with temporary_servers("postgres") as servers:
        single = servers.admin_dsn
        standby = Standby(servers).start()
        standby.make_synchronous()
        execute_each(servers.admin_dsn, "CREATE TABLE t AS SELECT 1 AS n")
        ports = [standby.primary.port, standby.port]
        for number in (2, 3):
            standby.primary.pause()
            standby.promote()
            standby.primary.resume()
            standby.primary.kill()
            standby.change_places()
            standby.make_synchronous()
            assert [standby.port, standby.primary.port] == ports
            ports.reverse()
            execute_each(servers.admin_dsn, f"INSERT INTO t VALUES ({number})")
            standby.primary.kill()
            standby.primary.start()
            standby.wait_synchronous()
        assert execute_each(servers.admin_dsn, "SELECT array_agg(n ORDER BY n) FROM t") == [([1, 2, 3],)]
        standby.wait_caught_up()
        assert standby.execute("SELECT count(*), pg_is_in_recovery() FROM t") == [(3, True)]
        # To start another server, or the same again, does not make anybody forget the second one.
        both = servers.admin_dsn
        servers.start("postgres")
        assert servers.admin_dsn == both != make_dsn(single)


def test_a_standby_ends_with_the_servers_it_belongs_to():
    with temporary_servers("postgres") as servers:
        standby = Standby(servers).start()
        members = process.tree(standby.own.process.identity()[0])
        standby.own.pause()
        servers.command("stop")
        assert process.wait_gone(members, 0)
        servers.start("postgres")
        standby.run()
        members = process.tree(standby.own.process.identity()[0])
        servers.kill("postgres")
        servers.reset()
        assert process.wait_gone(members, 0) and not os.path.exists(servers.folder)
