# SPDX-License-Identifier: Apache-2.0
"""Sessions of PostgreSQL outside of transactions: ALTER SYSTEM, CREATE DATABASE and VACUUM have no place in one."""
import contextlib

import psycopg2
from psycopg2.extensions import make_dsn


@contextlib.contextmanager
def autocommitting(dsn, **options):
    """A cursor each of whose statements is a transaction of its own."""
    connection = psycopg2.connect(dsn, **options)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def execute_each(dsn, *statements):
    """One after another in one session; the rows of the last one, if it has any."""
    with autocommitting(dsn) as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def stranger(admin_dsn, dsn, name, **options):
    """A cursor of a login without any grant in the database of dsn."""
    execute_each(admin_dsn, f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name} LOGIN PASSWORD 'stranger'")
    try:
        with autocommitting(make_dsn(dsn, user=name, password="stranger"), **options) as cursor:
            yield cursor
    finally:
        execute_each(admin_dsn, f"DROP ROLE {name}")


@contextlib.contextmanager
def another_owner(admin_dsn, login, name, table="public.outbox_events"):
    """The table and its sequence are another role's, and the functions' owner has the table alone granted. The GRANT that lacks."""
    execute_each(admin_dsn, f"CREATE ROLE {name}", f"ALTER TABLE {table} OWNER TO {name}", f"GRANT SELECT, INSERT, DELETE ON {table} TO {login}")
    try:
        yield f"GRANT SELECT ON SEQUENCE {table}_seq_seq TO {login}"
    finally:
        execute_each(admin_dsn, f"ALTER TABLE {table} OWNER TO {login}", f"DROP ROLE {name}")


def take_outbox_locks(cursor, *locks, table="public.outbox_events"):
    """Advisory locks of an outbox, for the session; returns the session's pid."""
    for lock in locks:
        cursor.execute("SELECT pg_advisory_lock(%s::regclass::oid::int, %s)", (table, lock))
    cursor.execute("SELECT pg_backend_pid()")
    return cursor.fetchone()[0]
