# SPDX-License-Identifier: Apache-2.0
"""Sleep of an outbox: the writers pay for a NOTIFY only while it is quiet."""
import contextlib
import threading

from publishing import publishing
from relaytools.relay import wait_until


def asleep(place):
    """Somebody holds the wake-up lock exclusively."""
    return place.execute("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 0 AND objsubid = 2 AND granted AND "
                         "mode = 'ExclusiveLock' AND classid = 'public.outbox_events'::regclass::oid)")[0][0]


@contextlib.contextmanager
def writing(place, writers):
    """Each writer commits a row every few milliseconds: hundreds a second together, and only some in a batch."""
    stop = threading.Event()

    def write():
        connection = place.connect()
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) VALUES "
                               "('post', gen_random_uuid(), 'post.created', '{}')")
                stop.wait(0.008)
        connection.close()
    threads = [threading.Thread(target=write, daemon=True) for _ in range(writers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def test_steady_writers_keep_it_awake_however_small_the_batches_are(place):
    relay = publishing(place, publish={"guarantee": "at_least_once"})
    wait_until(lambda: asleep(place), "asleep while it is quiet")
    with writing(place, 4):
        # Not only for a moment: asleep again between two rows would be a NOTIFY for each of them.
        wait_until(lambda: not any(asleep(place) for _ in range(20)), "awake under load")
    place.wait_published()
    wait_until(lambda: asleep(place), "asleep again")
    assert relay.stop() == 0
