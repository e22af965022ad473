# SPDX-License-Identifier: Apache-2.0
"""check: what else PostgreSQL does, or refuses, when the relay deletes or marks a row."""
import contextlib
import os

import psycopg2
import pytest

from checking import findings
from relaytools.servers import ROOT
from relaytools.sessions import autocommitting


def test_triggers_whose_functions_find_no_table_in_the_relays_sessions(place):
    place.execute("CREATE FUNCTION public.note_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
    of_note, mark = "public.note_it(), which has no search_path of its own", {"disposition": "mark"}

    def named(**changes):
        code, texts = findings(place, "warn", **changes)
        assert code == 0, texts
        return [text for text in texts if of_note in text]

    def with_trigger(event):
        place.execute('DROP TRIGGER IF EXISTS "Note" ON outbox_events')
        place.execute(f'CREATE TRIGGER "Note" AFTER {event} ON outbox_events FOR EACH ROW EXECUTE FUNCTION public.note_it()')
    with_trigger("INSERT OR UPDATE")    # the relay inserts nothing, and updates no row that it deletes
    assert not named() and len(named(outbox=mark)) == 1
    with_trigger("UPDATE OF payload")
    assert not named(outbox=mark)
    with_trigger("UPDATE OF payload, published_at")
    assert named(outbox=mark)
    with_trigger("DELETE")
    text, = named()
    assert 'trigger "Note" calls' in text and "ALTER FUNCTION public.note_it() SET search_path" in text
    assert named(outbox=mark), "dead letters are deleted there as well"
    place.execute('ALTER TABLE outbox_events DISABLE TRIGGER "Note"')
    assert not named()
    place.execute('ALTER TABLE outbox_events ENABLE ALWAYS TRIGGER "Note"')
    assert named()
    place.execute("ALTER FUNCTION public.note_it() SET search_path = public, pg_temp")
    assert not named() and not named(outbox=mark)


@contextlib.contextmanager
def login_of_the_relay(place, cursor):
    """What changes the configuration to a login that has the rights of roles.sql and no more."""
    role = place.name + "_least"
    cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'hush'")
    try:
        with open(os.path.join(ROOT, "schemas/postgres/roles.sql"), encoding="utf-8") as file:
            cursor.execute(file.read())
        cursor.execute(f"GRANT outbox_relay TO {role}")
        yield {"postgres": {"dsn": psycopg2.extensions.make_dsn(place.dsn, user=role, password="hush")}}
    finally:
        cursor.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.postgres_versions
def test_triggers_whose_functions_have_only_the_rights_of_the_relays_login(place):
    place.execute("CREATE TABLE public.archive (id uuid); CREATE FUNCTION public.keep_it() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp "
                  "AS $$ BEGIN INSERT INTO archive VALUES (OLD.id); RETURN NULL; END $$; "
                  "CREATE TRIGGER keep AFTER DELETE ON outbox_events FOR EACH ROW EXECUTE FUNCTION public.keep_it()")
    place.insert_event()
    with autocommitting(place.admin_dsn) as cursor, login_of_the_relay(place, cursor) as least:
        def named(**changes):
            code, texts = findings(place, "warn", **changes)
            assert code == 0, texts
            return [text for text in texts if "public.keep_it()" in text]

        def delete():
            with autocommitting(least["postgres"]["dsn"]) as relay:
                relay.execute("DELETE FROM public.outbox_events")
        assert not named(), "the owner of the table has the rights that its writers had"
        text, = named(**least)
        assert "trigger keep calls" in text and "GRANT it" in text and "ALTER FUNCTION public.keep_it() SECURITY DEFINER" in text, text
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            delete()
        cursor.execute("ALTER FUNCTION public.keep_it() RESET search_path")
        assert len(named(**least)) == 2, "the tables that it does not find are told apart"
        cursor.execute("ALTER FUNCTION public.keep_it() SECURITY DEFINER SET search_path = public, pg_temp")
        assert not named(**least)
        delete()


@pytest.mark.postgres_versions
def test_foreign_keys_to_the_outbox_refuse_its_deletes_or_follow_them(place):
    def named(level, **changes):
        return [text for text in findings(place, level, **changes)[1] if "Attempt" in text]

    def with_key(action):
        place.execute('DROP TABLE IF EXISTS attempts; CREATE TABLE attempts (event uuid CONSTRAINT "Attempt of" REFERENCES outbox_events '
                      f"{action})")
    mark, stays = {"disposition": "mark"}, {"on_poison": "stop"}
    for action in ("", "ON DELETE RESTRICT", "DEFERRABLE INITIALLY DEFERRED"):
        with_key(action)
        text, = named("FAIL")
        assert 'foreign key "Attempt of" of public.attempts' in text and "disposition = mark" in text, text
        assert "ALTER TABLE public.attempts DROP CONSTRAINT" in text, text
        assert len(named("warn", outbox=mark)) == 1 and not named("FAIL", outbox=mark), "of dead letters only"
        assert not named(None, outbox=mark, publish=stays), "nothing is deleted"
    for action, effect in (("CASCADE", "deletes their rows in public.attempts"), ("SET NULL", "changes their rows in public.attempts"),
                           ("SET DEFAULT", "changes their rows in public.attempts")):
        with_key("ON DELETE " + action)
        text, = named("warn")
        assert effect in text and not named("FAIL"), text
        assert not named(None, outbox=mark, publish=stays)


@pytest.mark.postgres_versions
def test_foreign_keys_from_the_outbox_delete_waiting_events_or_refuse_the_writers_deletes(place):
    def named(**changes):
        return [text for text in findings(place, "warn", **changes)[1] if "Told of" in text]

    def with_key(action):
        place.execute('ALTER TABLE outbox_events DROP COLUMN IF EXISTS post; ALTER TABLE outbox_events ADD COLUMN post integer CONSTRAINT "Told of" '
                      f"REFERENCES posts {action}")

    def deletes_a_post_and_tells_of_it():
        place.execute("INSERT INTO posts VALUES (1)")
        place.execute("INSERT INTO outbox_events (aggregate_type, aggregate_id, event_type, payload, post) VALUES ('post', gen_random_uuid(), "
                      "'post.deleted', '{}', 1); DELETE FROM posts")
    place.execute("CREATE TABLE posts (id integer PRIMARY KEY)")
    for action in ("", "ON DELETE RESTRICT", "DEFERRABLE INITIALLY DEFERRED"):
        with_key(action)
        text, = named()
        assert 'foreign key "Told of" refers to public.posts: ' in text and "refuses to delete a row there while an event of it waits" in text, text
        assert 'ALTER TABLE public.outbox_events DROP CONSTRAINT "Told of"' in text, text
        text, = named(outbox={"disposition": "mark"})
        assert "for as long as an event of it is kept, published or not" in text, text
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):
        deletes_a_post_and_tells_of_it()
    place.execute("DELETE FROM posts")
    with_key("ON DELETE SET NULL")
    text, = named()
    assert "ON DELETE SET NULL: who deletes a row there also changes its events" in text, text
    with_key("ON DELETE CASCADE")
    text, = named()
    assert "ON DELETE CASCADE: who deletes a row there also deletes its events that are not published yet" in text, text
    deletes_a_post_and_tells_of_it()
    assert place.execute("SELECT count(*) FROM outbox_events") == [(0,)], "as told"
    place.execute('ALTER TABLE outbox_events DROP CONSTRAINT "Told of"')
    assert not named()


@pytest.mark.postgres_versions
def test_publications_for_which_postgresql_refuses_to_delete_rows_of_the_outbox(place):
    mark, stays = {"disposition": "mark"}, {"on_poison": "stop"}

    def told(level, **changes):
        return [text for text in findings(place, level, **changes)[1] if "replica identity" in text]

    def refuses(statement):
        with autocommitting(place.admin_dsn) as cursor, pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState):
            cursor.execute(statement)

    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute('CREATE PUBLICATION "Every thing" FOR ALL TABLES')
        assert not told(None), "the primary key is its identity"
        cursor.execute("ALTER TABLE outbox_events DROP CONSTRAINT outbox_events_pkey")
        text, = told("FAIL")
        assert 'publication "Every thing"' in text and "ADD PRIMARY KEY (id)" in text and "REPLICA IDENTITY FULL" in text, text
        refuses("DELETE FROM outbox_events")
        refuses("UPDATE outbox_events SET published_at = now()")
        assert len(told("FAIL", outbox=mark)) == 1
        cursor.execute("ALTER TABLE outbox_events REPLICA IDENTITY FULL")
        assert not told(None)
        cursor.execute("ALTER TABLE outbox_events REPLICA IDENTITY DEFAULT; ALTER PUBLICATION \"Every thing\" SET (publish = 'insert, delete')")
        assert told("FAIL", outbox=mark), "dead letters are deleted"
        assert told("warn", outbox=mark, publish=stays) and not told("FAIL", outbox=mark, publish=stays)
        cursor.execute("ALTER PUBLICATION \"Every thing\" SET (publish = 'insert, update')")
        assert told("warn") and not told("FAIL")
        assert told("FAIL", outbox=mark)
        cursor.execute("DROP PUBLICATION \"Every thing\"")
        text, = told("warn")
        assert "the next publication" in text and not told("FAIL"), text
        cursor.execute("ALTER TABLE outbox_events ADD PRIMARY KEY (id) DEFERRABLE; CREATE PUBLICATION every FOR TABLE outbox_events")
        assert told("FAIL"), "a primary key that can be deferred is none"
        refuses("DELETE FROM outbox_events")
        cursor.execute("ALTER TABLE outbox_events DROP CONSTRAINT outbox_events_pkey; ALTER TABLE outbox_events ADD PRIMARY KEY (id)")
        assert not told(None)
        cursor.execute("ALTER TABLE outbox_events REPLICA IDENTITY NOTHING")
        assert told("FAIL")
        refuses("DELETE FROM outbox_events")


@pytest.mark.postgres_versions("18")
def test_publications_whose_filter_or_columns_make_postgresql_refuse_deletes(place):
    def told(**changes):
        return [text for text in findings(place, "FAIL", **changes)[1] if "row filter or a column list" in text]

    with autocommitting(place.admin_dsn) as cursor:
        for selection in ("WHERE (event_type <> 'x')", "(event_type, payload)"):
            cursor.execute(f'CREATE PUBLICATION "A feed" FOR TABLE outbox_events {selection}')
            with pytest.raises(psycopg2.errors.InvalidColumnReference):
                cursor.execute("DELETE FROM outbox_events")
            text, = told()
            assert "ALTER PUBLICATION \"A feed\" SET (publish = 'insert')" in text and "cannot delete" in text, text
            assert len(told(outbox={"disposition": "mark"})) == 1
            cursor.execute("ALTER PUBLICATION \"A feed\" SET (publish = 'insert, delete')")
            assert told(outbox={"disposition": "mark"}), "dead letters are deleted"
            assert not told(outbox={"disposition": "mark"}, publish={"on_poison": "stop"})
            cursor.execute("ALTER PUBLICATION \"A feed\" SET (publish = 'insert')")
            assert not told()
            cursor.execute("DELETE FROM outbox_events")
            cursor.execute('DROP PUBLICATION "A feed"')
        cursor.execute("CREATE PUBLICATION feed FOR TABLE outbox_events WHERE (id IS NOT NULL)")
        assert not told()
        cursor.execute("DELETE FROM outbox_events")


@pytest.mark.postgres_versions
def test_partitions_need_a_replica_identity_each(place):
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute("CREATE TABLE public.parted (LIKE outbox_events INCLUDING DEFAULTS, UNIQUE (seq)) PARTITION BY RANGE (seq)")
        cursor.execute("ALTER TABLE public.parted ALTER seq ADD GENERATED ALWAYS AS IDENTITY; "
                       "CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM (0) TO (1000000)")
        cursor.execute("CREATE PUBLICATION every FOR TABLE public.parted")
        cursor.execute("SELECT outbox_relay.attach_outbox('public.parted')")
        text, = [text for text in findings(place, "FAIL", outbox={"table": "public.parted"})[1] if "replica identity" in text]
        assert "public.parted_1 " in text, text
        with pytest.raises(psycopg2.errors.ObjectNotInPrerequisiteState):
            cursor.execute("INSERT INTO public.parted (aggregate_type, aggregate_id, event_type, payload) VALUES ('a', gen_random_uuid(), "
                           "'a.b', '{}'); DELETE FROM public.parted")
        cursor.execute("ALTER PUBLICATION every SET (publish_via_partition_root = true)")
        assert any("replica identity" in text for text in findings(place, "FAIL", outbox={"table": "public.parted"})[1])
        cursor.execute("ALTER TABLE public.parted_1 REPLICA IDENTITY FULL")
        assert not any("replica identity" in text for text in findings(place, None, outbox={"table": "public.parted"})[1])
