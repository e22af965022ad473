# SPDX-License-Identifier: Apache-2.0
"""How docs/schema.md lets a writer that reaches PostgreSQL through pgbouncer in transaction mode switch NOTIFY off, and what it warns of."""
import contextlib

import psycopg2
import pytest

from pooling import needs_pgbouncer, pooler
from relaytools.sessions import execute_each

INSERT = "INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES ('post', gen_random_uuid(), 'post.created', '{}')"
OFF = "SET LOCAL outbox_relay.notify = 'off'"
ONE_SESSION = {"default_pool_size": 1}


@contextlib.contextmanager
def asleep(place):
    """As the relay holds its lock while it is asleep."""
    with contextlib.closing(place.connect()) as session:
        session.cursor().execute("SELECT pg_advisory_lock('public.outbox_events'::regclass::oid::integer, 0)")
        yield


def prepare(dsn, name, *before, **parameters):
    """Prepares an event's transaction, and takes it back through the pool."""
    with contextlib.closing(psycopg2.connect(dsn, **parameters)) as writer:
        for statement in (*before, INSERT, f"PREPARE TRANSACTION '{name}'"):
            writer.cursor().execute(statement)
    execute_each(dsn, f"ROLLBACK PREPARED '{name}'")


def refused(dsn, name, **parameters):
    with pytest.raises(psycopg2.errors.FeatureNotSupported, match="NOTIFY"):
        prepare(dsn, name, **parameters)


@needs_pgbouncer
def test_set_local_switches_notify_off_for_one_transaction_of_a_pool(place):
    with asleep(place), pooler(place, "transaction", **ONE_SESSION) as dsn:
        refused(dsn, place.name)
        prepare(dsn, place.name, OFF)
        prepare(dsn, place.name, "SELECT set_config('outbox_relay.notify', 'off', true)")
        refused(dsn, place.name)


@needs_pgbouncer
def test_a_plain_set_stays_in_the_pool_for_other_clients(place):
    with asleep(place), pooler(place, "transaction", **ONE_SESSION) as dsn:
        execute_each(dsn, "SET outbox_relay.notify = 'off'")
        prepare(dsn, place.name)


@needs_pgbouncer
def test_a_pool_drops_the_option_or_refuses_the_connection(place):
    option = {"options": "-c outbox_relay.notify=off"}
    with asleep(place):
        with pooler(place, "transaction") as dsn:   # ignores options
            refused(dsn, place.name, **option)
        with pooler(place, "transaction", ignore_startup_parameters="extra_float_digits") as dsn:
            with pytest.raises(psycopg2.OperationalError, match="unsupported startup parameter"):
                prepare(dsn, place.name, **option)


@needs_pgbouncer
def test_the_setting_of_the_login_holds_in_each_session_of_its_pool(place):
    with asleep(place), pooler(place, "transaction", **ONE_SESSION) as dsn:
        refused(dsn, place.name)
    user = place.servers.env["POSTGRES_USER"]
    execute_each(place.admin_dsn, f"ALTER ROLE {user} IN DATABASE {place.name} SET outbox_relay.notify = 'off'")
    with asleep(place), pooler(place, "transaction", **ONE_SESSION) as dsn:
        prepare(dsn, place.name)
