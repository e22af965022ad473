# SPDX-License-Identifier: Apache-2.0
"""ClickHouse and receivers of alerts whose certificates are of a private authority: believed where ca_file names it, else not."""
import os
import signal
import urllib.parse

import pytest
from relaytools.authority import Authority, TlsFront
from relaytools.receiver import Receiver
from relaytools.relay import command, wait_until, write_config


@pytest.fixture
def authority(tmp_path):
    return Authority(str(tmp_path))


@pytest.fixture
def clickhouse_front(authority, servers):
    front = TlsFront(authority.server_context(), urllib.parse.urlsplit(servers.clickhouse_url).port)
    yield front
    front.close()


def checked(place, **clickhouse):
    config = write_config(os.path.join(place.folder, "check.ini"), place.sections(clickhouse=clickhouse))
    return command("check", config=config, binary=place.binary)


def test_clickhouse_is_believed_by_the_authority_that_the_configuration_names(place, authority, clickhouse_front):
    url = f"https://127.0.0.1:{clickhouse_front.port}"
    strange = checked(place, url=url)
    assert strange.returncode == 1 and "ca_file" in strange.stdout, strange.stdout + strange.stderr
    wrong_name = checked(place, url=url.replace("127.0.0.1", "localhost"), ca_file=authority.ca_file)
    assert wrong_name.returncode == 1 and "certificate" in wrong_name.stdout, wrong_name.stdout
    place.relay(clickhouse={"url": url, "ca_file": authority.ca_file})
    place.insert_event()
    place.wait_inserted(1)


def test_receivers_are_believed_by_the_authority_that_a_reload_brings(watch_place, authority):
    receiver = Receiver(tls=authority.server_context())
    try:
        relay = watch_place.relay(alert={"webhook_url": receiver.url})
        watch_place.write_events(3)
        wait_until(lambda: any("ca_file" in event.get("error", "") for event in relay.events("alerts.not_sent")), "what is missing is said")
        assert not receiver.posts
        write_config(relay.config, watch_place.sections(alert={"webhook_url": receiver.url, "ca_file": authority.ca_file}))
        relay.signal(signal.SIGHUP)
        wait_until(lambda: receiver.alerts("outbox_backlog"), "the alert arrives", seconds=90)
    finally:
        receiver.close()


def test_check_asks_receivers_by_the_same_authority(watch_place, authority):
    receiver = Receiver(tls=authority.server_context())
    config = os.path.join(watch_place.folder, "check.ini")
    try:
        write_config(config, watch_place.sections(alert={"webhook_url": receiver.url}))
        strange = next(line for line in command("check", config=config).stdout.splitlines() if "alert webhook" in line)
        write_config(config, watch_place.sections(alert={"webhook_url": receiver.url, "ca_file": authority.ca_file}))
        believed = next(line for line in command("check", config=config).stdout.splitlines() if "alert webhook" in line)
    finally:
        receiver.close()
    assert "FAIL" in strange and "FAIL" not in believed, (strange, believed)
