# SPDX-License-Identifier: Apache-2.0
"""Sessions of PostgreSQL outside of transactions: ALTER SYSTEM, CREATE DATABASE and VACUUM have no place in one."""
import contextlib

import psycopg2


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
