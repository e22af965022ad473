# SPDX-License-Identifier: Apache-2.0
"""The torture bench's proxy breaks what it says it breaks, and nothing else."""
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "lib"))

from relaytools import proxy as proxies  # noqa: E402
from relaytools.relay import wait_until  # noqa: E402
from servers.web import open_direct  # noqa: E402

# ---------------------------------------------------------------------------------------------- peers for the proxy


class Peer:
    """A TCP server that remembers what it read, in the order of arrival over all connections, and may echo."""

    def __init__(self, echo=True):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.echo, self.read, self.ends = echo, b"", []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        end = "eof"
        try:
            while data := connection.recv(65536):
                self.read += data
                if self.echo:
                    connection.sendall(data)
        except OSError:
            end = "reset"
        self.ends.append(end)
        connection.close()


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.socket.close()


@pytest.fixture
def proxy(peer):
    proxy = proxies.Proxy(("127.0.0.1", peer.port))
    yield proxy
    proxy.close()


def connect(proxy):
    connection = socket.create_connection(("127.0.0.1", proxy.port), 60)
    connection.settimeout(60)
    return connection


def exchange(connection, data):
    connection.sendall(data)
    read = b""
    while len(read) < len(data):
        piece = connection.recv(65536)
        if not piece:
            break
        read += piece
    return read


def silent(connection, seconds=0.3):
    """True when nothing comes for a while: the one thing that can only be seen by waiting."""
    connection.settimeout(seconds)
    try:
        connection.recv(1)
        return False
    except socket.timeout:
        return True
    finally:
        connection.settimeout(60)


def test_bytes_pass_unchanged_in_both_directions(proxy):
    data = os.urandom(300000)
    with connect(proxy) as connection:
        assert exchange(connection, data) == data
    assert proxy.moved == {proxies.TO_SERVER: len(data), proxies.TO_CLIENT: len(data)}


def test_a_half_closed_connection_stays_half_closed(proxy, peer):
    with connect(proxy) as connection:
        connection.sendall(b"last words")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b"last words"
        assert connection.recv(100) == b""
    wait_until(lambda: peer.ends == ["eof"], "the end at the server")


def test_cut_resets_the_client(proxy):
    with connect(proxy) as connection:
        assert exchange(connection, b"x") == b"x"
        assert proxy.cut(reset=True) == 1
        with pytest.raises(ConnectionResetError):
            while connection.recv(10):
                pass


def test_cut_by_fin_ends_politely(proxy):
    with connect(proxy) as connection:
        assert exchange(connection, b"x") == b"x"
        assert proxy.cut(reset=False) == 1
        assert connection.recv(10) == b""


def test_cut_after_delivers_the_bytes_before_it(proxy, peer):
    rule = proxy.add(proxies.Rule((proxies.TO_SERVER,), cut_after=5))
    with connect(proxy) as connection:
        connection.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            while connection.recv(10):
                pass
    wait_until(lambda: peer.ends, "the end at the server")
    assert peer.read in (b"01234", b"")  # A reset may overtake what it follows.
    assert rule.hits == 1


def test_refused_connections_are_refused_and_accepted_again(proxy):
    port = proxy.port
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 60)
    proxy.accept()
    assert proxy.port == port
    with connect(proxy) as connection:
        assert exchange(connection, b"x") == b"x"


def test_a_held_connection_is_silent_until_the_rule_is_lifted(proxy, peer):
    with connect(proxy) as connection:
        assert exchange(connection, b"before") == b"before"
        rule = proxy.add(proxies.Rule(hold=True))
        connection.sendall(b"during")
        assert silent(connection)
        assert peer.read == b"before"
        proxy.lift(rule)
        assert connection.recv(10) == b"during"
        assert rule.hits >= 1


def test_held_bytes_arrive_although_their_sender_is_gone(proxy, peer):
    rule = proxy.add(proxies.Rule((proxies.TO_SERVER,), hold=True))
    with connect(proxy) as connection:
        connection.sendall(b"late")
        wait_until(lambda: rule.hits, "the bytes held")
    assert peer.read == b""
    proxy.lift(rule)
    wait_until(lambda: peer.read == b"late", "the late bytes")


def test_delay_and_throttle_take_effect(proxy):
    for rule in (proxies.Rule(delay=30.0), proxies.Rule(throttle=1.0)):
        proxy.add(rule)
        with connect(proxy) as connection:
            connection.sendall(b"x" * 100)
            assert silent(connection)
            proxy.lift(rule)  # Ends the wait at once.
            assert connection.recv(100) == b"x" * 100


def kafka_frame(key, correlation=1, client=b"relay-1", body=b"body"):
    head = struct.pack(">hhih", key, 0, correlation, len(client)) + client
    return struct.pack(">i", len(head) + len(body)) + head + body


def test_a_kafka_request_is_held_on_one_connection_and_a_retry_passes(peer):
    proxy = proxies.Proxy(("127.0.0.1", peer.port), kind="kafka")
    rule = proxy.add(proxies.Rule((proxies.TO_SERVER,), hold_keys=(proxies.OFFSET_COMMIT,), limit=1))
    fetch, commit, retry = kafka_frame(1), kafka_frame(8, 2), kafka_frame(8, 3)
    first = connect(proxy)
    for byte in fetch:  # Frames are followed whatever the pieces are.
        first.sendall(bytes([byte]))
    wait_until(lambda: peer.read == fetch, "the fetch")
    first.sendall(commit)
    wait_until(lambda: rule.hits == 1, "the commit held")
    second = connect(proxy)
    second.sendall(retry)
    wait_until(lambda: peer.read == fetch + retry, "the retry")
    first.close()
    proxy.lift(rule)
    wait_until(lambda: peer.read == fetch + retry + commit, "the old commit, after its retry")
    second.close()
    proxy.close()


def test_a_kafka_rule_meets_only_its_client(peer):
    proxy = proxies.Proxy(("127.0.0.1", peer.port), kind="kafka")
    one, two = connect(proxy), connect(proxy)
    for connection, client in ((one, b"relay-1"), (two, b"relay-2")):
        frame = kafka_frame(18, client=client)
        assert exchange(connection, frame) == frame
    assert proxy.cut(client="relay-1") == 1
    with pytest.raises(ConnectionResetError):
        one.recv(1)
    assert exchange(two, kafka_frame(3, client=b"relay-2")) == kafka_frame(3, client=b"relay-2")
    proxy.close()


def test_a_connection_is_held_from_a_text_on_that_follows_others(proxy, peer):
    peer.echo = False
    rule = proxy.add(proxies.Rule((proxies.TO_SERVER,), hold_texts=(b"number", b"COMMIT")))
    passed = b""
    with connect(proxy) as connection:
        for text, passes in ((b"COMMIT;", True), (b"write_number;", True), (b"SELECT;", True), (b"COMMIT;", False), (b"BEGIN;", False)):
            connection.sendall(text)
            if passes:
                passed += text
                wait_until(lambda: peer.read == passed, f"{text} at the server")
        wait_until(lambda: rule.hits, "the COMMIT held")
        assert peer.read == passed
        assert proxy.cut() == 1     # What is held goes with its connection.
    proxy.lift(rule)
    wait_until(lambda: peer.ends, "the end at the server")
    assert peer.read == passed


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bodies = []

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(body)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def web():
    Handler.bodies = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy = proxies.Proxy(server.server_address, kind="http")
    yield proxy
    proxy.close()
    server.shutdown()
    server.server_close()


def post(proxy, body=b"rows", path="", **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.port}/{path}", data=body, headers=headers)
    with open_direct(request, 60) as answer:
        return answer.status, answer.read()


def test_http_passes_lengths_chunks_and_several_requests_of_a_connection(web):
    assert post(web, b"x" * 200000) == (200, b"ok\n")
    assert post(web, iter([b"one", b"two"]), **{"Transfer-Encoding": "chunked"}) == (200, b"ok\n")
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "-H", "Expect: 100-continue", "--data-binary", "a", f"http://127.0.0.1:{web.port}/",
                           "--next", "-sS", "--noproxy", "*", "--data-binary", "b", f"http://127.0.0.1:{web.port}/"],
                          capture_output=True, timeout=60, check=True)
    assert done.stdout == b"ok\nok\n"
    assert Handler.bodies == [b"x" * 200000, b"onetwo", b"a", b"b"]


def test_a_swallowed_request_is_answered_but_never_carried_out(web):
    rule = web.add(proxies.Rule(http="swallow"))
    status, text = post(web)
    assert status == 200 and text.startswith(b"Code: 241. DB::Exception")
    assert Handler.bodies == [] and rule.hits == 1


def test_a_falsified_answer_hides_that_the_request_was_carried_out(web):
    web.add(proxies.Rule(http="falsify", answer="gateway"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(web)
    assert refused.value.code == 502
    assert Handler.bodies == [b"rows"]


def test_a_cut_answer_leaves_the_request_carried_out(web):
    web.add(proxies.Rule(http="cut_answer"))
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        post(web)
    assert Handler.bodies == [b"rows"]


def test_a_cut_request_never_arrives_whole(web):
    web.add(proxies.Rule(http="cut_request"))
    with pytest.raises((ConnectionError, urllib.error.URLError)):
        post(web, b"x" * 100000)
    assert b"x" * 100000 not in Handler.bodies


def test_a_late_request_is_carried_out_when_the_rule_is_lifted_and_others_pass(web):
    rule = web.add(proxies.Rule(http="late", match=b"query=INSERT"))
    late = threading.Thread(target=post, args=(web, b"late"), kwargs={"path": "?query=INSERT"})
    late.start()
    wait_until(lambda: rule.hits == 1, "the request taken in")
    assert post(web, b"read", path="?query=SELECT") == (200, b"ok\n")
    assert post(web, b"again", path="?query=INSERT") == (200, b"ok\n")   # beyond its limit
    assert late.is_alive() and Handler.bodies == [b"read", b"again"]
    web.lift(rule)
    late.join(60)
    assert not late.is_alive() and Handler.bodies == [b"read", b"again", b"late"] and rule.late_answers == 1


def test_a_late_request_arrives_although_its_client_was_cut_off(web):
    rule = web.add(proxies.Rule(http="late", hang_up=True))
    with pytest.raises((ConnectionError, http.client.HTTPException, urllib.error.URLError)):
        post(web, b"x" * 100000)
    assert rule.hits == 1 and Handler.bodies == []
    web.lift(rule)
    wait_until(lambda: rule.late_answers == 1, "the server's answer")
    assert Handler.bodies == [b"x" * 100000]
