# SPDX-License-Identifier: Apache-2.0
"""check: outboxes of the database that the configuration does not name."""
import contextlib

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
