# SPDX-License-Identifier: Apache-2.0
"""Alerts to a real Alertmanager and to web hooks that hang, fail and come back."""
import json
import re
import subprocess
import threading

import pytest
from relaytools.receiver import Receiver
from relaytools.relay import wait_until
from relaytools.watch_place import recent
from servers.web import open_direct


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def active(servers):
    """{severity: alert} of the active outbox_backlog alerts that the Alertmanager knows."""
    with open_direct(servers.env["ALERTMANAGER_URL"] + "/api/v2/alerts?active=true&filter=alertname%3Doutbox_backlog", 10) as answer:
        return {alert["labels"]["severity"]: alert for alert in json.load(answer)}


@pytest.mark.own_servers
def test_the_alertmanager_follows_every_change(watch_place, watch_servers):
    relay = watch_place.relay(alert={"alertmanager_url": watch_servers.env["ALERTMANAGER_URL"], "deployment": "shop"})
    watch_place.write_events(3)
    wait_until(lambda: list(active(watch_servers)) == ["warning"], "the warning at the Alertmanager")
    alert = active(watch_servers)["warning"]
    assert alert["labels"]["deployment"] == "shop"
    assert alert["labels"]["outbox"] == "default" and alert["labels"]["service"] == "outbox-relay"
    assert "3 unpublished" in alert["annotations"]["summary"]
    watch_place.write_events(4)
    wait_until(lambda: list(active(watch_servers)) == ["critical"], "critical instead of warning")
    shown = subprocess.run(["amtool", "--alertmanager.url", watch_servers.env["ALERTMANAGER_URL"], "alert", "query",
        "alertname=outbox_backlog"], capture_output=True, text=True, timeout=60)
    assert "outbox_backlog" in shown.stdout, shown
    watch_place.delete_events()
    wait_until(lambda: not active(watch_servers), "resolved at the Alertmanager")
    wait_until(lambda: relay.metric("alerts_sent_total", target="alertmanager", result="ok") >= 3, "its last answer is counted")


@pytest.mark.own_servers
def test_an_alertmanager_that_was_away_hears_what_is_still_true(watch_place, watch_servers):
    watch_servers.kill("alertmanager")
    try:
        relay = watch_place.relay(alert={"alertmanager_url": watch_servers.env["ALERTMANAGER_URL"]})
        watch_place.write_events(3)
        wait_until(lambda: relay.metric("alerts_sent_total", target="alertmanager", result="failed") > 0, "an attempt that failed")
        watch_place.write_events(4)
        wait_until(lambda: recent(relay, "outbox_backlog")[-1:] == [("default", "CRITICAL")], "critical in the log")
    finally:
        watch_servers.start("alertmanager")
    wait_until(lambda: list(active(watch_servers)) == ["critical"], "the latest state at the Alertmanager", seconds=120)
    watch_place.delete_events()
    wait_until(lambda: not active(watch_servers), "resolved at the Alertmanager", seconds=120)


@pytest.mark.tsan
def test_a_hook_that_hangs_delays_nobody(watch_place, receiver):
    receiver.hang = threading.Event()
    slack = Receiver()
    try:
        relay = watch_place.relay(alert={"webhook_url": receiver.url + "/hook/SECRET1", "slack_url": slack.url + "/SECRET2"})
        watch_place.write_events(3)
        wait_until(lambda: any("outbox_backlog" in post["text"] for post in slack.posts), "Slack hears")
        wait_until(lambda: receiver.posts, "the other one hangs")
        assert relay.get("/live")[0] == 200
        watch_place.delete_events()
        wait_until(lambda: any("RESOLVED" in post["text"] and "outbox_backlog" in post["text"] for post in slack.posts), "Slack hears the end")
        assert relay.stop() == 0
        everything = "\n".join(relay.log())
        assert "SECRET1" not in everything and "SECRET2" not in everything
    finally:
        slack.close()


def test_the_generic_form_is_as_documented(watch_place, receiver):
    watch_place.relay(alert={"webhook_url": receiver.url})
    watch_place.write_events(3)
    wait_until(lambda: receiver.alerts("outbox_backlog"), "an alert")
    post = next(post for post in receiver.posts if any(alert["name"] == "outbox_backlog" for alert in post["alerts"]))
    assert set(post) == {"version", "sender", "sent_at", "alerts"} and post["version"] == 1
    alert = receiver.alerts("outbox_backlog")[0]
    assert set(alert) == {"status", "level", "previous", "name", "instance", "summary", "value", "repeated", "started_at", "changed_at",
                          "fingerprint"}
    assert (alert["status"], alert["level"], alert["previous"], alert["instance"]) == ("firing", "WARNING", "OK", "default")
    assert alert["value"] == 3 and alert["repeated"] is False and re.fullmatch("[0-9a-f]{16}", alert["fingerprint"])


def test_a_hook_that_refuses_at_first_is_told_the_latest(watch_place, receiver):
    receiver.status = 503
    watch_place.relay(alert={"webhook_url": receiver.url})
    watch_place.write_events(3)
    wait_until(lambda: receiver.alerts("outbox_backlog"), "an attempt")
    watch_place.write_events(4)
    wait_until(lambda: receiver.alerts("outbox_backlog")[-1]["level"] == "CRITICAL", "an attempt with the latest state", seconds=90)
    receiver.status = 200
    seen = len(receiver.posts)
    wait_until(lambda: len(receiver.posts) > seen, "taken", seconds=120)
    assert receiver.alerts("outbox_backlog")[-1]["level"] == "CRITICAL"


def test_what_passes_within_the_hold_is_not_told(watch_place, receiver):
    relay = watch_place.relay(alert={"webhook_url": receiver.url, "hold": "5m"})
    watch_place.write_events(3)
    wait_until(lambda: relay.health()["checks"]["outbox"]["status"] == "degraded", "judged")
    watch_place.delete_events()
    wait_until(lambda: relay.health()["checks"]["outbox"]["status"] == "ok", "over")
    assert not receiver.alerts("outbox_backlog") and not recent(relay, "outbox_backlog")
