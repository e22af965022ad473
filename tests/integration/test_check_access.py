# SPDX-License-Identifier: Apache-2.0
"""check: what the relay's role may do in PostgreSQL, whether it sees every row, and who else sees the events that are set aside."""
import contextlib
import os
import re

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


def test_whoever_else_may_read_dead_letters(place, privileged):
    """Default privileges of schema public give them to a reporting login, though the schema of the outbox is closed to it."""
    dsn, role, cursor = privileged
    reader, table = place.name + "_reader", "public.outbox_dead_letters"
    cursor.execute("CREATE SCHEMA hr; SELECT outbox_relay.create_outbox('hr.outbox')")
    give_rights(cursor, role)
    closed = dict(dsn, outbox__hr={"table": "hr.outbox", "dead_letter_table": "hr.outbox_dead_letters"})

    def warned(**changes):
        return [text for text in findings(place, "warn", **changes)[1] if "may be read by" in text]
    assert not warned(**dsn)
    cursor.execute(f"CREATE ROLE {reader}")
    try:
        cursor.execute(f"GRANT SELECT ON {table} TO {reader}")
        text, = warned(**dsn, outbox__hr={"table": "hr.outbox"})
        assert text.startswith(f"dead letters postgres: {table} may be read by {reader}: "), text
        assert not warned(**dsn, publish={"on_poison": "stop"})
        cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER ROLE {role} BYPASSRLS")
        assert not warned(**dsn), "no policy lets it"
        cursor.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY; REVOKE SELECT ON {table} FROM {reader}; GRANT SELECT (event) ON {table} TO PUBLIC")
        text, = warned(**dsn)
        assert " may be read by PUBLIC: " in text, text
        cursor.execute(f"REVOKE SELECT (event) ON {table} FROM PUBLIC")

        with open(os.path.join(ROOT, "docs/schema.md"), encoding="utf-8") as file:
            statements, = re.findall(r"^```sql\n(CREATE TABLE hr\..*?)^```$", file.read(), re.M | re.S)
        cursor.execute(statements)
        code, texts = findings(place, "FAIL", **closed)
        assert code == 0 and not warned(**closed), texts
        cursor.execute(f"GRANT SELECT ON hr.outbox_dead_letters TO {reader}")
        assert not warned(**closed), "it may not enter the schema"
        cursor.execute(f"GRANT USAGE ON SCHEMA hr TO {reader}")
        text, = warned(**closed)
        assert f"hr.outbox_dead_letters may be read by {reader}: " in text, text
    finally:
        cursor.execute(f"DROP OWNED BY {reader}; DROP ROLE {reader}")
