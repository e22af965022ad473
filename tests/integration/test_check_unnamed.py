# SPDX-License-Identifier: Apache-2.0
"""check: outboxes of the database that the configuration does not name."""
import contextlib
import re

import pytest

from checking import findings, warns


@pytest.mark.postgres_versions
def test_outboxes_that_no_configuration_names(place):
    words = "outbox t42.outbox_events: "
    place.execute("CREATE SCHEMA t42")
    place.execute("SELECT outbox_relay.create_outbox('t42.outbox_events'), outbox_relay.create_outbox('public.gone')")
    place.execute("DROP TABLE public.gone")
    assert not any(words in text for text in findings(place, "warn")[1]), "an empty one"
    place.insert_event(table="t42.outbox_events")
    code = warns(place, words + "1 events wait there, this configuration does not name the table, and no relay owns it")
    assert code == 0
    tenant = {"outbox": {"table": "t42.outbox_events"}}
    assert not any("events wait there" in text for text in findings(place, "warn", **tenant)[1]), "it is named, and the other one is empty"
    place.insert_event()
    warns(place, "outbox public.outbox_events: 1 events wait there", **tenant)
    with contextlib.closing(place.connect()) as owner, owner.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock('t42.outbox_events'::regclass::oid::int, 1)")
        assert not any(words in text for text in findings(place, "warn")[1]), "another relay owns it"


@pytest.mark.postgres_versions
def test_what_is_registered_and_may_be_no_outbox(place):
    """A registration is no dependency: DROP leaves it, a dump has the number alone, and where it is restored that may be any table's."""
    def told():
        return [text for text in findings(place, "warn")[1] if "registered as an outbox" in text]
    place.execute("SELECT outbox_relay.create_outbox('public.gone'), outbox_relay.create_outbox('public.waiting')")
    place.insert_event(table="public.waiting")
    gone, = place.execute("SELECT 'public.gone'::regclass::oid::bigint")[0]
    place.execute("DROP TABLE public.gone")
    text, = told()
    assert text.startswith(f"outbox {gone}: registered as an outbox, and there is no such table"), text
    place.execute("CREATE TABLE public.users (id integer); UPDATE outbox_relay.outboxes SET outbox = 'public.users'::regclass WHERE outbox::oid = %s", gone)
    text, = told()
    assert text.startswith("outbox public.users: registered as an outbox, and it has no trigger that wakes the relay"), text
    assert "if it is an outbox: SELECT outbox_relay.create_wakeup_trigger('public.users'); else" in text, text
    warns(place, "outbox public.waiting: 1 events wait there")
    place.execute(re.search(r"SELECT outbox_relay\.detach_outbox\('[^']*'\)", text).group(0))
    assert not told()
