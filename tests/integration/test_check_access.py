# SPDX-License-Identifier: Apache-2.0
"""check: what the relay's role may do in PostgreSQL, and whether it sees every row."""
import contextlib
import os

import psycopg2
import pytest

from checking import fails, findings
from relaytools.servers import ROOT
from relaytools.sessions import autocommitting


@contextlib.contextmanager
def login_without_rights(place):
    """(its configuration, its name, a cursor of an administrator)"""
    role = place.name + "_login"
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hush'")
        try:
            yield {"postgres": {"dsn": psycopg2.extensions.make_dsn(place.dsn, user=role, password="hush")}}, role, cursor
        finally:
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


@pytest.fixture
def privileged(place):
    """The same, with what roles.sql gives to outbox_relay."""
    with login_without_rights(place) as (dsn, role, cursor):
        give_rights(cursor, role)
        yield dsn, role, cursor


def give_rights(cursor, role):
    with open(os.path.join(ROOT, "schemas/postgres/roles.sql"), encoding="utf-8") as file:
        cursor.execute(file.read())
    cursor.execute(f"GRANT outbox_relay TO {role}")


def test_rights_of_the_relays_role(place):
    with login_without_rights(place) as (dsn, role, cursor):
        code, texts = findings(place, "FAIL", **dsn)
        assert code == 1 and any("permission denied" in text or "lacks" in text for text in texts), texts
        give_rights(cursor, role)
        code, texts = findings(place, "FAIL", **dsn)
        assert code == 0, texts
        cursor.execute("REVOKE DELETE ON outbox_events FROM outbox_relay")
        fails(place, "lacks DELETE ON", **dsn)
        fails(place, "lacks DELETE ON", outbox={"disposition": "mark"}, **dsn)
        code, texts = findings(place, "FAIL", outbox={"disposition": "mark"}, publish={"on_poison": "stop"}, **dsn)
        assert code == 0, texts


@pytest.mark.parametrize("table", ["public.outbox_events", "public.outbox_dead_letters", "outbox_relay.progress"])
def test_row_security_that_applies_to_the_relays_role(place, privileged, table):
    """An event trigger of a managed service may enable it on each new table. On the dead letters it stops the outbox at its first poison row."""
    dsn, role, cursor = privileged
    cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    text, = [text for text in fails(place, "row security", **dsn) if "row security" in text]
    assert f"row security of {table} applies to role {role}" in text and f"ALTER ROLE {role} BYPASSRLS" in text, text
    code, texts = findings(place, "FAIL", publish={"on_poison": "stop"}, **dsn)
    assert code == (0 if "dead" in table else 1), texts
    cursor.execute(f"ALTER ROLE {role} BYPASSRLS")
    code, texts = findings(place, "FAIL", **dsn)
    assert code == 0, texts
