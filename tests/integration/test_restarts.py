# SPDX-License-Identifier: Apache-2.0
"""A day of operations in a minute: many rows from many writers while the daemon is stopped and started again and again and
each server is restarted."""
import pytest

from relaytools.relay import wait_until

ROWS = 80_000


@pytest.mark.own_servers
def test_eighty_thousand_rows_over_five_stops_and_a_restart_of_each_server(fragile_place, fragile_servers):
    place = fragile_place
    relays = [place.relay(name, breaker={"open": "2s"}) for name in ("first", "second")]
    workload = place.workload(writers=8, events=ROWS).start()

    def progress(share):
        wait_until(lambda: workload.committed >= share * ROWS or not workload.running(), f"{share:.0%} of the rows written", 300)

    servers = ["postgres", "kafka", "clickhouse"]
    for number in range(5):
        progress((number + 1) / 8)
        relay = relays[number % 2]
        assert relay.stop() == 0
        relay.start(ready=False)
        if servers:
            fragile_servers.restart(servers.pop(0))
    workload.join(600)
    place.wait_published(240)
    place.wait_inserted(ROWS, 240)
    result = place.audit()
    print(result.text())
    assert result.committed >= ROWS
    assert result.ok(), result.text()
    assert [relay.stop() for relay in relays] == [0, 0]
