# SPDX-License-Identifier: Apache-2.0
"""What strangers can do to the HTTP server: nothing that keeps a probe from its answer."""
import json
import math
import os
import re
import resource
import socket
import subprocess
import time

import pytest
from relaytools.relay import wait_until

MANY = 10_000
SLOW = 60
# Less than a statement of PostgreSQL may take: an answer that waits for one never comes in time, a busy machine's does when asked again.
ONE_ANSWER = 5


@pytest.fixture
def relay(watch_place):
    return watch_place.relay()


def dial(relay, timeout=60):
    host, port = re.fullmatch(r"http://(.*):(\d+)", relay.url).groups()
    return socket.create_connection((host, int(port)), timeout)


def ask(relay, raw):
    """Sends bytes, reads to the end; (status or 0, everything)."""
    with dial(relay) as client:
        try:
            client.sendall(raw)
        except OSError:
            pass
        received = b""
        try:
            while chunk := client.recv(65536):
                received += chunk
        except ConnectionError:
            pass
    match = re.match(rb"HTTP/1\.[01] (\d+)", received)
    return int(match.group(1)) if match else 0, received


def descriptors(relay):
    return len(os.listdir(f"/proc/{relay.process.pid}/fd"))


def refused(status):
    """Closed without a word, or told that it is the client's mistake."""
    return status == 0 or 400 <= status < 500 or status == 505


GARBAGE = (
    b"\x00" * 100, b"\xff\xfe\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)), b"GET\r\n\r\n",
    b"GET /live\r\n\r\n", b"GET /live HTTP/9.9\r\nHost: x\r\n\r\n", b"\r\n" * 5000, b"GET /%00%ff%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /live HTTP/1.1\r\n\r\n", b"GET /live HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /live HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(5000)) + b"\r\n",
)


def test_garbage_is_refused_and_forgotten(relay):
    for raw in GARBAGE:
        status, _ = ask(relay, raw)
        assert refused(status), (status, raw[:100])
        assert relay.get("/live")[0] == 200, raw[:100]


@pytest.mark.tsan
def test_methods_and_paths(relay):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"):
        status, answer = ask(relay, f"{method} /health HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi".encode())
        assert status == 405 and b"\r\nAllow: GET, HEAD\r\n" in answer, (method, answer)
    for path in ("/admin", "/health/", "//health", "/../etc/passwd", "/metrics%00", "/LIVE"):
        status, answer = ask(relay, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert status == 404 and json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"], (path, answer)
    for path in ("/", "/health", "/live", "/ready", "/metrics"):
        whole, head = (ask(relay, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) for method in ("GET", "HEAD"))
        assert whole[0] == head[0] and head[1].endswith(b"\r\n\r\n") and len(head[1]) < len(whole[1])
        for header in (b"X-Content-Type-Options: nosniff", b"Cache-Control: no-store", b"Content-Security-Policy: default-src 'none'"):
            assert header in whole[1]


def test_no_page_holds_a_secret(relay, watch_place):
    password = re.search(r"password=(\S+)", watch_place.dsn).group(1)
    for path in ("/", "/health", "/live", "/ready", "/metrics", "/nothing"):
        assert password not in relay.get(path)[1]


def test_metrics_are_as_prometheus_wants_them(relay, watch_place):
    watch_place.write_events(3)
    wait_until(lambda: relay.metric("outbox_unpublished_rows", outbox="default") == 3, "the watch has counted")
    status, text = relay.get("/metrics")
    assert status == 200
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    # promtool wants build_info-like gauges without _info rules; what it finds is printed either way.
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_metric_that_nobody_gives_is_no_zero(relay):
    """Tests ask whether a metric is 0: that must not hold for one that is not there."""
    assert relay.metric("events_published_total") == 0 and relay.metric("publish_batch_seconds_count") == 0
    assert relay.series("events_published_total", topic="none") == []
    wait_until(lambda: relay.series("outbox_owned", outbox="default"), "a series")
    assert math.isnan(relay.metric("events_published")) and math.isnan(relay.metric("no_such_count"))
    relay.stop()
    assert math.isnan(relay.metric("events_published_total"))


def test_dead_letters_are_counted_from_zero(watch_place):
    """Prometheus sees no increase in a series that begins with its first dead letters."""
    relay = watch_place.relay(insert={"enabled": "true"}, clickhouse={"url": "http://127.0.0.1:1"})
    for stage, reason in (("publish", "null_type"), ("publish", "refused"), ("insert", "missing_header"), ("insert", "rejected")):
        line = f'outbox_relay_dead_letters_total{{stage="{stage}",reason="{reason}"}} 0'
        wait_until(lambda line=line: line in relay.get("/metrics")[1].splitlines(), line)
    assert 'reason="none"' not in relay.get("/metrics")[1]
    assert json.loads(relay.get("/health")[1])["dead_letters"] == []


def test_slow_clients_are_cut(relay):
    clients = [dial(relay, 60) for _ in range(SLOW)]
    for client in clients:
        client.sendall(b"GET /live HT")
    deadline = time.monotonic() + 60
    open_ones = list(clients)
    while open_ones and time.monotonic() < deadline:
        assert relay.get("/live")[0] == 200
        for client in list(open_ones):
            try:
                client.sendall(b"T")  # one byte now and then: never idle, never done
                client.settimeout(0.001)
                if client.recv(4096) == b"":
                    open_ones.remove(client)
            except TimeoutError:
                pass
            except OSError:
                open_ones.remove(client)
        time.sleep(0.2)
    for client in clients:
        client.close()
    assert not open_ones, f"{len(open_ones)} slow clients were served for a minute"


def test_thousands_of_connections_keep_no_probe_out(relay):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MANY + 500), hard))
    clients = []
    try:
        for number in range(MANY):
            clients.append(dial(relay))
            if number % 200 == 0:
                assert relay.get("/live")[0] == 200
        for path in ("/live", "/health", "/metrics"):
            assert relay.get(path)[0] in (200, 503)
        assert descriptors(relay) < 400
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: descriptors(relay) < 100, "the connections are gone")
    assert relay.get("/live")[0] == 200


@pytest.mark.own_servers
def test_answers_while_postgresql_hangs(relay, watch_servers):
    watch_servers.pause("postgres")
    try:
        for _ in range(40):
            wait_until(lambda: relay.get("/health", ONE_ANSWER)[0] in (200, 503), "/health answers")
            wait_until(lambda: relay.get("/live", ONE_ANSWER)[0] == 200, "/live answers")
            time.sleep(0.05)
    finally:
        watch_servers.resume("postgres")
