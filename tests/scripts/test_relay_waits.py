# SPDX-License-Identifier: Apache-2.0
"""Waits for what a relay answers go on while it does not answer, and tell at their deadline what they have met."""
import http.server
import json
import os
import sys
import threading

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts/lib"))

from relaytools.relay import NoAnswer, Relay, wait_until  # noqa: E402


class Running:
    """What a wait asks a process."""
    returncode = None

    def poll(self):
        return None


@pytest.fixture
def relay(tmp_path):
    """A relay whose HTTP server hangs up on the first request and answers the others; `asked` counts them."""
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            made.asked += 1
            if made.asked == 1:
                self.close_connection = True
                return
            body = json.dumps({"status": "ok", "checks": {} if made.asked == 2 else {"insert": {"status": "ok"}}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = Relay(str(tmp_path), {})
    made.process, made.asked, made._port = Running(), 0, f"127.0.0.1:{server.server_port}"
    with open(made.log_path, "w", encoding="utf-8") as file:
        file.write("its last line\n")
    yield made
    server.shutdown()
    server.server_close()


def test_a_wait_goes_on_past_a_request_without_answer_and_a_board_without_the_part(relay):
    relay.wait(lambda: relay.health()["checks"]["insert"]["status"] == "ok", "insert ok", 30)
    assert relay.asked == 3


def test_outside_of_a_wait_no_answer_is_an_error_that_says_of_what(relay):
    with pytest.raises(NoAnswer, match="relay: /health: "):
        relay.health()


def test_the_deadline_tells_what_the_condition_met_last_and_the_log(relay):
    relay.get("/health")
    with pytest.raises(TimeoutError, match=r"(?s)publish ok did not happen within 0 s; last: KeyError\('publish'\).*its last line"):
        relay.wait(lambda: relay.health()["checks"]["publish"]["status"] == "ok", "publish ok", 0)


def test_a_condition_that_held_nothing_up_at_last_tells_nothing():
    answers = iter([KeyError("early")] + [None] * 1000)

    def condition():
        answer = next(answers)
        if answer:
            raise answer
    with pytest.raises(TimeoutError) as told:
        wait_until(condition, "an answer", 0.01, every=0.02)
    assert str(told.value) == "an answer did not happen within 0.01 s"


def test_a_mistake_in_a_condition_that_no_time_mends_ends_the_wait_at_once():
    def condition():
        raise AssertionError("a finding")
    with pytest.raises(AssertionError, match="a finding"):
        wait_until(condition, "nothing", 60)


def test_a_log_line_that_is_being_written_is_no_event_yet(relay):
    with open(relay.log_path, "a", encoding="utf-8") as file:
        file.write('{"event":"told","number":1}\n{"event":"told","num')
    assert [event["number"] for event in relay.events("told")] == [1]
    assert relay.log_tail(1).endswith('"num'), "the end of a crash's words is shown"
